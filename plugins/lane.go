package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"rivulet/storage/batch"
)

// lane is one instance and the run that it works on.
type lane struct {
	a      *Attachment
	memory atomic.Int64 // linear memory, for Stats

	mu       sync.Mutex // guards what follows
	inst     *instance
	run      run
	launched bool // an instance has been made before
}

// ready returns the lane's instance, a new one if need be, and whether it has not been given a batch yet.
func (l *lane) ready(ctx context.Context) (in *instance, fresh bool, err error) {
	if l.inst == nil {
		if l.launched {
			l.a.restarts.Add(1)
		}
		l.launched = true
		if l.inst, err = l.a.start(ctx, &l.run); err != nil {
			l.inst = nil
			return nil, true, err
		}
		l.account()
	}
	return l.inst, !l.inst.used, nil
}

// account moves the instance's figures to the attachment.
func (l *lane) account() {
	l.memory.Store(l.inst.lin.size)
	l.a.fuel.Add(l.inst.spent)
	l.inst.spent = 0
}

func (l *lane) discard() {
	if l.inst != nil {
		l.inst.close()
		l.inst = nil
		l.memory.Store(0)
	}
}

// process runs the batch until an attempt succeeds, leaving out the records that fail. An error leaves results that the
// caller takes back.
func (l *lane) process(ctx context.Context, in []batch.Record, out *Output) error {
	r := &l.run
	r.in, r.out, r.failed = in, out, r.failed[:0]
	defer func() {
		r.in, r.out = nil, nil
		clear(r.failed)
	}()
	from := out.mark()
	size := 0
	for i := range in {
		size += len(in[i].Payload) + resultSize
		if err := in[i].Payload.Valid(); err != nil { // SDKs panic on bad framing
			if state := l.fail(i, fmt.Errorf("input: %w", err)); state == Halted {
				return fmt.Errorf("%w: %w", ErrHalted, err)
			}
		}
	}
	r.limit = maxCallOutput + 4*size
	for {
		r.reset()
		if len(r.failed) == len(in) {
			r.finish()
			return nil
		}
		inst, fresh, err := l.ready(ctx)
		if err == nil {
			err = inst.process(ctx)
			l.account()
		}
		if err == nil {
			r.finish()
			return nil
		}
		l.discard()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.a.abort.Load() {
			return ErrClosed
		}
		if !fresh && !errors.Is(err, ErrFuel) { // its memory may be at fault; to try again is cheap
			out.rollback(from)
			continue
		}
		index := r.current
		if index < 0 {
			index = r.first()
		}
		switch l.fail(index, err) {
		case Halted:
			return fmt.Errorf("%w: %w", ErrHalted, err)
		case Suspended: // no further attempt: what was done before the record stands
			l.giveUp(from, index)
			return nil
		default:
			out.rollback(from)
		}
	}
}

// fail leaves a record out of further attempts.
func (l *lane) fail(index int, err error) State {
	r := &l.run
	at, _ := slices.BinarySearchFunc(r.failed, index, func(f failed, i int) int { return f.index - i })
	r.failed = slices.Insert(r.failed, at, failed{index, err})
	return l.a.failure(err)
}

// giveUp keeps the results of the records before index and applies OnError to the others.
func (l *lane) giveUp(from mark, index int) {
	out := l.run.out
	for n := len(out.Results); n > from.results && out.Results[n-1].Source >= index; n-- {
		out.Results[n-1] = Result{}
		out.Results = out.Results[:n-1]
	}
	r := &l.run
	for ; r.flushed < len(r.failed) && r.failed[r.flushed].index < index; r.flushed++ {
		f := r.failed[r.flushed]
		l.a.applyOnError(out, f.index, r.in[f.index].Payload, f.err)
	}
	for i := index; i < len(r.in); i++ {
		err := ErrSuspended
		if r.flushed < len(r.failed) && r.failed[r.flushed].index == i {
			err = r.failed[r.flushed].err
			r.flushed++
		}
		l.a.applyOnError(out, i, r.in[i].Payload, err)
	}
}

// first is the first record that has not failed.
func (r *run) first() int {
	for i, f := range r.failed {
		if f.index != i {
			return i
		}
	}
	return len(r.failed)
}
