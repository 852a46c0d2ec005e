package plugins

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"rivulet/storage/batch"
)

// Limits of attachments: Redpanda's.
const (
	maxOutputs  = 8
	maxEnv      = 128
	maxEnvKey   = 128
	maxEnvValue = 2 << 10
)

// Attachment is a module bound to a topic, with one instance per lane. Process may be called for different lanes at once;
// calls for one lane wait for each other.
type Attachment struct {
	host    *Host
	module  *Module
	o       AttachOptions
	outputs []string    // names, of the same index as topics
	topics  []string    // as they stand in results
	env     [][2]string // sorted
	lanes   []lane
	breaker breaker
	log     lineLog
	metrics metrics
	state   atomic.Int32
	abort   atomic.Bool // running guests are to end at their next slice

	in, out, dropped, errors, restarts atomic.Uint64
	dead, rejected, fuel, nanos        atomic.Uint64
	lastError                          atomic.Pointer[string]
}

// Attach instantiates the module once, to see that it starts. Errors wrap ErrModule.
func (h *Host) Attach(ctx context.Context, m *Module, o AttachOptions) (*Attachment, error) {
	a := &Attachment{host: h, module: m, o: o}
	if err := a.configure(); err != nil {
		return nil, fmt.Errorf("attach plugin %s: %w", o.Name, err)
	}
	if err := h.add(a); err != nil {
		return nil, fmt.Errorf("attach plugin %s: %w", o.Name, err)
	}
	l := &a.lanes[0]
	l.mu.Lock()
	_, _, err := l.ready(ctx)
	l.mu.Unlock()
	if err != nil {
		_ = a.Close(ctx) // nothing runs
		if !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrModule, err)
		}
		return nil, fmt.Errorf("attach plugin %s: %w", o.Name, err)
	}
	return a, nil
}

func (a *Attachment) configure() error {
	o := &a.o
	if o.OnError == "" {
		o.OnError = DeadLetter
	}
	switch o.OnError {
	case DeadLetter, Drop, Pass, Reject, Halt:
	default:
		return fmt.Errorf("on_error %q is none of dlq, drop, pass, reject, halt", o.OnError)
	}
	if o.Lanes <= 0 {
		o.Lanes = runtime.GOMAXPROCS(0)
	}
	a.outputs = slices.Clone(o.Outputs)
	if len(a.outputs) == 0 {
		a.outputs = []string{o.Input}
	}
	if len(a.outputs) > maxOutputs {
		return fmt.Errorf("%d output topics, at most %d are possible", len(a.outputs), maxOutputs)
	}
	a.env = [][2]string{{"REDPANDA_INPUT_TOPIC", o.Input}}
	for i, t := range a.outputs {
		if slices.Contains(a.outputs[:i], t) {
			return fmt.Errorf("output topic %s is named twice", t)
		}
		a.topics = append(a.topics, t)
		if t == o.Input {
			a.topics[i] = ""
		}
		a.env = append(a.env, [2]string{"REDPANDA_OUTPUT_TOPIC_" + strconv.Itoa(i), t})
	}
	if err := a.userEnv(); err != nil {
		return err
	}
	a.log = lineLog{now: a.host.o.Now, to: o.Log}
	if o.Log == nil {
		log := a.host.o.Log.With("plugin", o.Name, "revision", o.Revision)
		a.log.to = func(stderr bool, line string) { log.Info("plugin says", "stderr", stderr, "line", line) }
	}
	a.lanes = make([]lane, o.Lanes)
	for i := range a.lanes {
		a.lanes[i].a = a
		a.lanes[i].run.a = a
	}
	return nil
}

// userEnv checks the variables and puts them behind those of the topics.
func (a *Attachment) userEnv() error {
	if len(a.o.Env) > maxEnv {
		return fmt.Errorf("%d variables, at most %d are possible", len(a.o.Env), maxEnv)
	}
	control := func(s string) bool { return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) }
	fixed := len(a.env)
	for k, v := range a.o.Env {
		switch {
		case k == "" || len(k) > maxEnvKey || strings.Contains(k, "=") || control(k):
			return fmt.Errorf("variable name %q: 1 to %d bytes of text without '='", k, maxEnvKey)
		case strings.HasPrefix(k, "REDPANDA_"):
			return fmt.Errorf("variable %s: names that begin with REDPANDA_ are reserved", k)
		case len(v) > maxEnvValue || control(v):
			return fmt.Errorf("variable %s: its value is text of at most %d bytes, without line breaks", k, maxEnvValue)
		}
		a.env = append(a.env, [2]string{k, v})
	}
	slices.SortFunc(a.env[fixed:], func(x, y [2]string) int { return strings.Compare(x[0], y[0]) })
	return nil
}

// Process runs the records through the lane's instance and appends to out. A trap, a loop or too much memory costs that
// record what OnError says; the instance is made anew and goes on. An error means that nothing was done: ErrHalted (the
// attachment stopped until Resume), ErrClosed, or ctx's.
func (a *Attachment) Process(ctx context.Context, lane int, in []batch.Record, out *Output) error {
	if len(in) == 0 {
		return nil
	}
	l := &a.lanes[uint(lane)%uint(len(a.lanes))]
	l.mu.Lock()
	defer l.mu.Unlock()
	start := a.host.o.Now()
	from := out.mark()
	var err error
	switch State(a.state.Load()) {
	case Detached:
		err = ErrClosed
	case Halted:
		err = ErrHalted
	case Suspended:
		for i := range in {
			a.applyOnError(out, i, in[i].Payload, ErrSuspended)
		}
	default:
		err = l.process(ctx, in, out)
	}
	a.nanos.Add(uint64(a.host.o.Now().Sub(start)))
	if err != nil {
		out.rollback(from)
		return err
	}
	a.count(len(in), out.Results[from.results:])
	return nil
}

func (a *Attachment) count(in int, results []Result) {
	var emitted, dead, rejected, sources uint64
	last := -1
	for i := range results {
		r := &results[i]
		if r.Source != last {
			last = r.Source
			sources++
		}
		switch r.Kind {
		case Emitted:
			emitted++
		case Dead:
			dead++
		case Rejected:
			rejected++
		}
	}
	a.in.Add(uint64(in))
	a.out.Add(emitted)
	a.dropped.Add(uint64(in) - sources)
	if dead+rejected > 0 {
		a.dead.Add(dead)
		a.rejected.Add(rejected)
	}
}

// failure notes that a record failed. It reports the state that follows.
func (a *Attachment) failure(err error) State {
	a.errors.Add(1)
	text := err.Error()
	a.lastError.Store(&text)
	log := a.host.o.Log.With("plugin", a.o.Name, "revision", a.o.Revision, "topic", a.o.Input)
	if a.o.OnError == Halt {
		if a.state.CompareAndSwap(int32(Running), int32(Halted)) {
			log.Error("plugin halted its topic", "error", err)
		}
		return Halted
	}
	log.Warn("plugin failed on a record", "on_error", string(a.o.OnError), "error", err)
	if a.breaker.failure(a.host.o.Now()) {
		if a.state.CompareAndSwap(int32(Running), int32(Suspended)) {
			log.Error("plugin is suspended", "failures", breakerFailures, "within", breakerWindow)
		}
		return Suspended
	}
	return State(a.state.Load())
}

// Resume ends a halt or a suspension.
func (a *Attachment) Resume() {
	a.breaker.reset()
	if !a.state.CompareAndSwap(int32(Halted), int32(Running)) {
		a.state.CompareAndSwap(int32(Suspended), int32(Running))
	}
}

// Close waits for running calls and ends the instances. When ctx ends first, running calls are cut short with ErrClosed.
func (a *Attachment) Close(ctx context.Context) error {
	a.state.Store(int32(Detached))
	defer context.AfterFunc(ctx, func() { a.abort.Store(true) })()
	var wg sync.WaitGroup
	for i := range a.lanes {
		l := &a.lanes[i]
		wg.Go(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.discard()
		})
	}
	wg.Wait()
	if err := a.host.remove(ctx, a); err != nil {
		return fmt.Errorf("detach plugin %s: %w", a.o.Name, err)
	}
	return nil
}

// Stats returns a snapshot.
func (a *Attachment) Stats() Stats {
	s := Stats{
		In: a.in.Load(), Out: a.out.Load(), Dropped: a.dropped.Load(), Errors: a.errors.Load(), Restarts: a.restarts.Load(),
		Dead: a.dead.Load(), Rejected: a.rejected.Load(),
		FuelUsed: a.fuel.Load(), Nanos: a.nanos.Load(),
		State: State(a.state.Load()).String(),
	}
	for i := range a.lanes {
		s.MemoryBytes += a.lanes[i].memory.Load()
	}
	if e := a.lastError.Load(); e != nil {
		s.LastError = *e
	}
	return s
}
