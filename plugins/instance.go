package plugins

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"rivulet/plugins/meter"
)

// errStopped unwinds a parked guest.
var errStopped = errors.New("instance was stopped")

// instance is one running guest. It is used by one goroutine at a time, its lane's mutex sees to that. It is also the
// context of all calls into the guest: host functions get it back by a type assertion.
type instance struct {
	context.Context
	a    *Attachment
	run  *run
	mod  api.Module
	mem  api.Memory
	lin  memory
	next func() (struct{}, bool)
	stop func()

	yield func(struct{}) bool
	err   error // why _start ended
	used  bool  // it has been given a batch

	// Fuel. granted is what the guest's counter was last set to, left what the host may still grant.
	fuel, stack   api.MutableGlobal
	granted, left int64
	spent         uint64
	deadline      time.Time // of the record, far behind what fuel allows

	call    context.Context // of the Process that runs
	millis  int64           // the guest's clock: the current record's timestamp
	nanos   int64           // its monotonic clock
	scratch []byte          // of jsonGet
	out     lineWriter
	errs    lineWriter
}

type instanceKey struct{}

// Value finds the instance through contexts that wrap it, as at instantiation.
func (in *instance) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return in
	}
	return nil
}

func instanceOf(ctx context.Context) *instance {
	if in, ok := ctx.(*instance); ok {
		return in
	}
	return ctx.Value(instanceKey{}).(*instance)
}

// start makes an instance and runs it until it parks in read_batch_header.
func (a *Attachment) start(ctx context.Context, r *run) (*instance, error) {
	in := &instance{Context: context.Background(), a: a, run: r, call: ctx}
	in.lin.limit = uint64(a.host.o.MemoryLimit)
	in.left = a.host.startFuel
	in.deadline = a.host.o.Now().Add(wallFactor * a.host.o.StartTime)
	in.out = lineWriter{in: in, log: &a.log}
	in.errs = lineWriter{in: in, log: &a.log, stderr: true}
	var seed [32]byte // the same for all: guests are deterministic
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithArgs(a.o.Name).
		WithStdout(&in.out).WithStderr(&in.errs).
		WithRandSource(&random{in: in, source: rand.NewChaCha8(seed)}).
		WithWalltime(in.walltime, sys.ClockResolution(time.Millisecond)).
		WithNanotime(in.nanotime, sys.ClockResolution(time.Millisecond)).
		WithNanosleep(in.nanosleep)
	for _, e := range a.env {
		config = config.WithEnv(e[0], e[1])
	}
	mod, err := a.host.runtime.InstantiateModule(experimental.WithMemoryAllocator(in, &in.lin), a.module.compiled, config)
	if err != nil {
		in.lin.Free()
		return nil, in.failure(err)
	}
	in.bind(mod)
	in.next, in.stop = iter.Pull(func(yield func(struct{}) bool) {
		in.yield = yield
		_, in.err = mod.ExportedFunction("_start").Call(in)
		in.yield = nil
	})
	if _, parked := in.next(); !parked {
		err := in.failure(in.err)
		in.close()
		return nil, fmt.Errorf("before its first batch: %w", err)
	}
	return in, nil
}

func (in *instance) bind(mod api.Module) {
	in.mod, in.mem = mod, mod.Memory()
	in.fuel = mod.ExportedGlobal(meter.FuelName).(api.MutableGlobal)
	in.stack = mod.ExportedGlobal(meter.StackName).(api.MutableGlobal)
}

// close ends the guest where it is parked.
func (in *instance) close() {
	if in.stop != nil {
		in.stop()
	}
	in.out.flush()
	in.errs.flush()
	if in.mod != nil {
		_ = in.mod.Close(context.Background()) // it fails only on what a guest could have opened, and it has no files
	}
}

// process lets the guest work on the run's batch until it parks again.
func (in *instance) process(ctx context.Context) error {
	in.call, in.used = ctx, true
	in.settle()
	in.refuel()
	_, parked := in.next()
	in.settle()
	in.call = nil
	if parked {
		return nil
	}
	return in.failure(in.err)
}

// wallFactor is how much longer than its CPU time a record may take by the clock. Fuel is the limit; this one is for
// what fuel does not see, should there be anything.
const wallFactor = 20

// settle takes what the guest has used off the budget.
func (in *instance) settle() {
	rest := int64(in.fuel.Get())
	in.spent += uint64(in.granted - rest)
	in.left -= in.granted - rest
	in.granted = rest
}

// refuel gives the guest the budget of a record.
func (in *instance) refuel() {
	in.left = in.a.host.recordFuel
	in.deadline = time.Time{}
	in.grant()
}

func (in *instance) grant() {
	in.granted = min(in.left, in.a.host.sliceFuel)
	in.fuel.Set(uint64(in.granted))
}

// charge takes units off the guest's fuel, for work that the host does for it.
func (in *instance) charge(units int) {
	if in.fuel != nil {
		in.fuel.Set(in.fuel.Get() - uint64(units))
	}
}

// refill is called by the guest's own code when a counter fell below zero: by fuel at the end of each slice.
func refill(ctx context.Context, mod api.Module, _ []uint64) {
	in := instanceOf(ctx)
	if in.fuel == nil { // the module's start function runs
		in.bind(mod)
	}
	if int64(in.stack.Get()) < 0 {
		panic(ErrStack)
	}
	in.settle()
	if in.left <= 0 {
		panic(ErrFuel)
	}
	if in.a.abort.Load() {
		panic(ErrClosed)
	}
	if in.call != nil {
		if err := in.call.Err(); err != nil {
			panic(err)
		}
	}
	// The clock is looked at once a slice, so a record has its first slice for nothing.
	now := in.a.host.o.Now()
	if in.deadline.IsZero() {
		in.deadline = now.Add(wallFactor * in.a.host.o.RecordTime)
	} else if now.After(in.deadline) {
		panic(ErrFuel)
	}
	runtime.Gosched()
	in.grant()
}

func (in *instance) walltime() (sec int64, nsec int32) {
	ms := in.millis
	sec = ms / 1000
	if ms %= 1000; ms < 0 {
		sec--
		ms += 1000
	}
	return sec, int32(ms) * 1e6
}

// nanotime advances by itself, since guests wait for it to.
func (in *instance) nanotime() int64 {
	in.nanos += int64(time.Millisecond)
	return in.nanos
}

// nanosleep returns at once; the guest finds that the time has passed.
func (in *instance) nanosleep(ns int64) {
	if ns > 0 && in.nanos < math.MaxInt64-ns {
		in.nanos += ns
	}
}

// failure says in one line why the guest ended.
func (in *instance) failure(err error) error {
	said := in.errs.first()
	what := ""
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case err == nil:
		what = "_start returned"
	case exited:
		what = fmt.Sprintf("exit with status %d", exit.ExitCode())
	default:
		what, _, _ = strings.Cut(err.Error(), "\n")
		what = strings.TrimSuffix(what, " (recovered by wazero)")
	}
	switch {
	case errors.Is(err, ErrFuel):
		budget := in.a.host.o.RecordTime
		if !in.used {
			budget = in.a.host.o.StartTime
		}
		return fmt.Errorf("%w (%v)", ErrFuel, budget)
	case errors.Is(err, ErrOutput):
		return fmt.Errorf("%w%s", ErrOutput, strings.TrimPrefix(what, ErrOutput.Error()))
	case errors.Is(err, ErrStack), what == "wasm error: stack overflow": // the interpreter has its own limit
		return ErrStack
	case errors.Is(err, ErrClosed):
		return ErrClosed
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	if said != "" {
		what += ": " + said
	}
	if in.lin.refused {
		return fmt.Errorf("%w (%d bytes): %s", ErrMemory, in.lin.limit, what)
	}
	return fmt.Errorf("%w: %s", ErrTrap, what)
}

// random is the guest's source of random bytes, charged by length.
type random struct {
	in     *instance
	source *rand.ChaCha8
}

func (r *random) Read(p []byte) (int, error) {
	r.in.charge(len(p))
	return r.source.Read(p)
}
