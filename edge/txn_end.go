package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// InitProducer asks for a producer id. ProducerID and Epoch are those that the producer has, -1 for a new one (KIP-360).
type InitProducer struct {
	TxnID      string // "": idempotent only
	Timeout    time.Duration
	ProducerID int64
	Epoch      int16
}

// Init gives a producer its id and epoch. For a transactional id it fences the producer that had it before and aborts
// what that one left open. It is durable when it returns. Errors: ErrTxnTimeout, ErrFenced, ErrConcurrentTxn.
func (t *Txns) Init(ctx context.Context, in InitProducer) (pid int64, epoch int16, err error) {
	if in.TxnID == "" {
		pid, err = t.newID(ctx)
		return pid, 0, err
	}
	if in.Timeout <= 0 || in.Timeout > t.opts.MaxTimeout {
		return -1, -1, ErrTxnTimeout
	}
	x, err := t.acquire(ctx, in.TxnID, true)
	if err != nil {
		return -1, -1, err
	}
	defer x.unlock()
	r := x.record()
	if in.ProducerID >= 0 {
		switch {
		case r.ProducerID < 0 || r.ProducerID != in.ProducerID:
			return -1, -1, ErrUnknownProducer
		case in.Epoch != r.Epoch && in.Epoch != r.LastEpoch:
			return -1, -1, ErrFenced
		}
	}
	if err := x.close(ctx); err != nil {
		return -1, -1, err
	}
	defer x.reopen()
	old, ongoing := r, r.State == txnOngoing
	r.TimeoutMS = in.Timeout.Milliseconds()
	r.LastEpoch = -1
	if in.ProducerID >= 0 {
		r.LastEpoch = in.Epoch
	}
	fence := min(r.Epoch, maxEpoch) + 1
	if r.ProducerID < 0 || fence > maxEpoch {
		if r.ProducerID, err = t.newID(ctx); err != nil {
			return -1, -1, err
		}
		r.Epoch, r.LastEpoch = 0, -1
	} else {
		r.Epoch = fence
	}
	c := &Commit{Urgent: true}
	if ongoing {
		t.markers(c, old.ProducerID, fence, false)
	}
	r.State, r.StartedMS, r.Parts, r.Groups = txnEmpty, 0, nil, nil
	if err := t.finish(ctx, x, r, c, false); err != nil {
		return -1, -1, err
	}
	return r.ProducerID, r.Epoch, nil
}

// End commits or aborts the transaction. It is durable when it returns; the same End again is answered alike.
// Errors: ErrUnknownProducer, ErrFenced, ErrInvalidTxn, ErrConcurrentTxn.
func (t *Txns) End(ctx context.Context, id string, pid int64, epoch int16, commit bool) error {
	x, err := t.acquire(ctx, id, false)
	if err != nil {
		return err
	}
	defer x.unlock()
	x.mu.Lock()
	err = x.check(pid, epoch)
	state := x.rec.State
	x.mu.Unlock()
	switch {
	case err != nil:
		return err
	case state == txnOutcome(commit):
		return nil
	case state != txnOngoing:
		return ErrInvalidTxn
	}
	return t.end(ctx, x, epoch, commit)
}

func txnOutcome(commit bool) txnState {
	if commit {
		return txnCommitted
	}
	return txnAborted
}

// end writes the markers with epoch, which becomes the producer's; x.op is held and the transaction is ongoing.
func (t *Txns) end(ctx context.Context, x *txn, epoch int16, commit bool) error {
	if err := x.close(ctx); err != nil {
		return err
	}
	defer x.reopen()
	r := x.record()
	c := &Commit{Urgent: true}
	t.markers(c, r.ProducerID, epoch, commit)
	r.LastEpoch = -1
	if epoch != r.Epoch {
		r.LastEpoch = r.Epoch // timed out: its producer may come back for the new epoch (KIP-588)
	}
	r.Epoch, r.State, r.StartedMS, r.Parts, r.Groups = epoch, txnOutcome(commit), 0, nil, nil
	return t.finish(ctx, x, r, c, commit)
}

// markers adds a marker for every partition in which the producer has a transaction open. That is where it wrote, plus
// where ingest plugins put what they made of it. A partition that it named but never wrote to needs none.
func (t *Txns) markers(c *Commit, pid int64, epoch int16, commit bool) {
	for _, p := range t.store.OpenIn(pid) {
		c.Appends = append(c.Appends, Append{Partition: p, Marker: &Marker{ProducerID: pid, Epoch: epoch, Commit: commit}})
	}
}

// finish stores the end of x's transaction: markers (in c), offsets and record in one commit.
func (t *Txns) finish(ctx context.Context, x *txn, r txnRecord, c *Commit, commit bool) error {
	x.mu.Lock()
	offsets := slices.Collect(maps.Values(x.offsets))
	x.mu.Unlock()
	keys := make([]string, len(offsets))
	for i, o := range offsets {
		keys[i] = o.Key
		c.Puts = append(c.Puts, Put{Space: spaceTxnOffsets, Key: txnOffsetKey(x.id, o.Key)})
		if commit {
			c.Puts = append(c.Puts, o)
		}
	}
	if err := t.put(ctx, x, r, c); err != nil {
		return err
	}
	x.mu.Lock()
	x.offsets = nil
	x.mu.Unlock()
	t.settle(keys)
	return nil
}

// schedule sees to it that expire runs at at or before; t.mu is held.
func (t *Txns) schedule(at time.Time) {
	if !t.closed {
		t.next.set(at, t.opts.Now(), t.expire)
	}
}

// The store may refuse for a while what a timeout wants to end; it is tried again after retryAfter. Expired ids are
// looked for every sweepEvery.
const (
	retryAfter = 5 * time.Second
	sweepEvery = time.Hour
)

// expire aborts what timed out and drops ids that were idle for too long. It runs when the timer fires.
func (t *Txns) expire() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.work.Add(1)
	defer t.work.Done()
	t.next.fired()
	all := make([]*txn, 0, len(t.txns))
	for _, x := range t.txns {
		all = append(all, x)
	}
	t.mu.Unlock()

	now := t.opts.Now()
	next := now.Add(sweepEvery)
	for _, x := range all {
		at, err := t.expireTxn(x, now)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.opts.Log.Warn("cannot end a transaction that timed out; trying again", "txn", x.id, "err", err)
			at = now.Add(retryAfter)
		}
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	t.mu.Lock()
	t.schedule(next)
	t.mu.Unlock()
}

// expireTxn ends what is over and says when to look again; zero: no need to.
func (t *Txns) expireTxn(x *txn, now time.Time) (time.Time, error) {
	due := func() (at time.Time, abort, drop bool) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.rec.State == txnOngoing {
			return x.due, !now.Before(x.due), false
		}
		return time.Time{}, false, now.Sub(x.used) > t.opts.Expiry
	}
	if at, abort, drop := due(); !abort && !drop {
		return at, nil
	}
	if err := x.lock(t.run); err != nil {
		return time.Time{}, err
	}
	defer x.unlock()
	at, abort, drop := due() // it may have ended while we waited
	switch {
	case abort:
		x.mu.Lock()
		epoch := x.rec.Epoch
		x.mu.Unlock()
		t.opts.Log.Warn("transaction timed out and is aborted", "txn", x.id, "epoch", epoch)
		return time.Time{}, t.end(t.run, x, min(epoch, maxEpoch)+1, false)
	case drop:
		return time.Time{}, t.drop(x)
	}
	return at, nil
}

// drop forgets an idle transactional id; x.op is held.
func (t *Txns) drop(x *txn) error {
	if err := t.store.Do(t.run, &Commit{Puts: []Put{{Space: spaceTxns, Key: x.id}}, Urgent: true}); err != nil {
		return fmt.Errorf("drop transactional id: %w", err)
	}
	x.mu.Lock()
	x.gone = true
	x.mu.Unlock()
	t.mu.Lock()
	delete(t.txns, x.id)
	t.mu.Unlock()
	return nil
}
