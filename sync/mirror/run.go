package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rivulet/edge"
)

// Run mirrors until ctx ends, and then returns nil. It never gives up: an error is shown by Status and tried again with a
// growing pause. Call it once.
func (u *Uplink) Run(ctx context.Context) error {
	defer u.setState(StateStopped)
	u.setState(StateConnecting)
	u.updateLanes()
	var s *session
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	for u.awaitResume(ctx) == nil {
		err := u.attempt(ctx, &s)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			continue
		}
		u.noteError(err)
		if _, answered := errors.AsType[*kerr.Error](err); s != nil && (!answered || errors.Is(err, kerr.UnsupportedVersion)) {
			s.close()
			s = nil
		}
		if sleep(ctx, u.backOff()) != nil {
			break
		}
	}
	return nil
}

// attempt opens a producer epoch, dialling if need be, and works until something fails. nil: try again at once.
func (u *Uplink) attempt(ctx context.Context, sp **session) error {
	if *sp == nil {
		s, err := u.dial(ctx)
		if err != nil {
			return err
		}
		*sp = s
	}
	s := *sp
	err := s.open(ctx)
	if err == nil {
		u.setState(StateRunning)
		err = u.work(ctx, s)
	}
	if ctx.Err() != nil || err == nil {
		return nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return u.refused(ctx, r)
	}
	if lost, ok := errors.AsType[*lostError](err); ok {
		u.noteError(lost)
		u.park(ctx, StateFailed)
		u.forgiven = true
		return nil
	}
	if fencedBy(err) && s.progress != nil {
		return u.fenced(ctx, s, err)
	}
	return err
}

// fenced decides what to do when the centre says that a later producer has our transactional id. That may be a transaction of our
// own that timed out, so the positions are looked at: only another instance that really commits is given way to, since
// initialising again would fence it in turn, and so on for ever.
func (u *Uplink) fenced(ctx context.Context, s *session, cause error) error {
	if u.o.Takeover {
		u.alarm("another instance with this edge id was at work; taking over")
		return cause
	}
	for pause := time.Second; pause <= 4*time.Second; pause *= 2 {
		p, err := s.fetchProgress(ctx, false)
		if err != nil {
			return err
		}
		if p.counter > s.progress.counter && p.instance != u.instance {
			u.alarm("another instance with this edge id mirrors to this centre; this one has stopped. Set takeover: true or resume the uplink here to fence the other")
			u.noteError(errors.New("another instance with this edge id"))
			u.park(ctx, StateFenced)
			return nil
		}
		u.noteError(cause)
		if err := sleep(ctx, u.jitter(pause)); err != nil {
			return nil
		}
	}
	return nil
}

// park waits for Resume.
func (u *Uplink) park(ctx context.Context, st State) {
	u.mu.Lock()
	u.resumed = false
	u.state = st
	u.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.poke:
		}
		u.mu.Lock()
		resumed := u.resumed
		u.mu.Unlock()
		if resumed {
			return
		}
	}
}

// awaitResume waits while the uplink is paused.
func (u *Uplink) awaitResume(ctx context.Context) error {
	for {
		u.mu.Lock()
		paused := u.paused
		switch {
		case paused:
			u.state = StatePaused
		case u.state == StatePaused:
			u.state = StateConnecting
		}
		u.mu.Unlock()
		if !paused {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.poke:
		}
	}
}

// noteError logs an error once, and not again while it stays the same.
func (u *Uplink) noteError(err error) {
	u.mu.Lock()
	known := u.lastErr == err.Error()
	u.mu.Unlock()
	if !known {
		u.o.Log.Warn("uplink does not get through", "err", err)
	}
	u.mu.Lock()
	u.state, u.lastErr, u.lastErrAt = StateConnecting, err.Error(), u.o.Now()
	u.mu.Unlock()
}

// backOff doubles from RetryMin to RetryMax with every failure in a row; a committed transaction ends the row.
func (u *Uplink) backOff() time.Duration {
	d := u.o.RetryMin << min(u.fails, 20)
	u.fails++
	return u.jitter(min(max(d, u.o.RetryMin), u.o.RetryMax))
}

// work sends burst after burst until something fails or the uplink is paused.
func (u *Uplink) work(ctx context.Context, s *session) error {
	store := u.o.Broker.Store()
	w := &edge.Waiter{C: make(chan struct{}, 1)}
	store.WatchAll(w)
	defer store.UnwatchAll(w)
	defer u.saveShadows(context.WithoutCancel(ctx), store.Generation().ID, true)
	for backlog := true; ; {
		if u.isPaused() {
			if err := u.awaitResume(ctx); err != nil {
				return err
			}
			u.setState(StateRunning)
		}
		if err := u.lookAround(ctx, s); err != nil {
			return err
		}
		if !backlog {
			if err := u.awaitWork(ctx, w); err != nil {
				return err
			}
		}
		for d := u.bucket.wait(u.o.Now()); d > 0 && !u.isPaused(); d = u.bucket.wait(u.o.Now()) {
			if err := u.rest(ctx, d); err != nil {
				return err
			}
		}
		if u.isPaused() {
			continue
		}
		b := u.gather(u.burstLimit())
		if err := u.sendBurst(ctx, s, b); err != nil {
			return err
		}
		backlog = b.full
		u.saveShadows(ctx, store.Generation().ID, false)
	}
}

// rest waits for d, or until Pause or Resume is called: a pause does not wait for the limit.
func (u *Uplink) rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-u.poke:
	case <-t.C:
	}
	return nil
}

func (u *Uplink) isPaused() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.paused
}

// lookAround takes up new topics here, and looks at the centre's again when some cannot be used.
func (u *Uplink) lookAround(ctx context.Context, s *session) error {
	if u.o.Broker.Store().Epoch() != u.epoch {
		u.updateLanes()
		if err := s.ensureTargets(ctx); err != nil {
			return err
		}
		return s.settle(ctx)
	}
	if u.o.Now().Sub(u.targetsAt).Abs() < refreshTargets {
		return nil
	}
	for _, l := range *u.lanes.Load() {
		if !l.ready() {
			return s.ensureTargets(ctx)
		}
	}
	u.targetsAt = u.o.Now()
	return nil
}

// minBurst is the least that a burst shrinks to on a slow link.
const minBurst = 16 << 10

// mostPatient is by how much the timeout of a transaction grows when the least burst is too much for it: two minutes let 1 MiB through at 70 kbit/s.
// Readers of the centre wait as long for what an uplink that died left open.
const mostPatient = 12

func (u *Uplink) burstLimit() int {
	n := min(u.budget, u.o.Size)
	if u.o.LimitBytes > 0 {
		n = min(n, int(min(u.o.LimitBytes, maxGather))) // a burst of a second at most
	}
	return max(n, minBurst)
}

// sendBurst sends b and the positions behind it; it does nothing when there is nothing to send.
func (u *Uplink) sendBurst(ctx context.Context, s *session, b *burst) error {
	gen := u.o.Broker.Store().Generation().ID
	lanes := *u.lanes.Load()
	if b.moved {
		for _, l := range lanes {
			if l.known {
				s.progress.set(source{l.topic, l.index}, position{gen, l.src.ID, l.scan})
			}
		}
	}
	now := u.o.Now()
	renew := now.Sub(u.renewedAt).Abs() >= u.renew
	if len(b.parcels) == 0 && !renew {
		u.arrived(lanes)
		return nil
	}
	if renew { // each offset is forgotten by itself, so those of silent partitions too
		s.progress.allDirty()
	}
	positions, err := s.progress.encode(u.instance, gen)
	if err != nil {
		return err
	}
	if s.progress.shards > len(u.progressTarget.leaders) {
		if err := s.ensureTargets(ctx); err != nil {
			return err
		}
	}
	if len(positions) == 0 {
		u.renewedAt = now
		return nil
	}
	began := time.Now()
	err = s.send(ctx, b, positions)
	took := time.Since(began)
	u.bucket.take(u.o.Now(), b.bytes)
	if err != nil {
		u.total.aborted.Add(1)
		u.g.arena = arena{}           // a request that was given up may still be on its way out
		if took > u.txnTimeout*9/10 { // not fenced, too slow
			smaller := max(minBurst, min(u.budget, b.bytes/2))
			if smaller == u.budget { // a record alone, or the link gives next to nothing
				u.txnTimeout = min(2*u.txnTimeout, mostPatient*u.o.txnTimeout)
			}
			u.budget = smaller
			return fmt.Errorf("transaction took %v, the next will be smaller or have more time: %v", took, err) //nolint:errorlint // what the centre said of a transaction that it gave up means nothing
		}
		return err
	}
	s.progress.counter++
	s.progress.committed()
	if renew {
		u.renewedAt = now
	}
	for _, l := range lanes {
		if l.known {
			l.committed = l.scan
		}
	}
	u.committed(b, took)
	u.arrived(lanes)
	return nil
}

// arrived says that the centre has, or needs nothing of, what is before every lane's scan.
func (u *Uplink) arrived(lanes []*lane) {
	for _, l := range lanes {
		if !l.known {
			continue
		}
		l.position.Store(l.scan)
		if l.suspect != nil && l.scan >= l.suspect.to {
			l.suspect = nil
		}
	}
}

// committed counts a burst, and fits the size of the next to the link: a transaction should be open for a third of its timeout at most.
func (u *Uplink) committed(b *burst, took time.Duration) {
	most := u.txnTimeout / 3
	switch {
	case took > most:
		u.budget = max(minBurst, int(float64(min(b.bytes, u.budget))*float64(most)/float64(took)))
	case u.budget < u.o.Size:
		u.budget = min(u.o.Size, u.budget*2)
	}
	now := u.o.Now()
	u.fails = 0
	u.total.txns.Add(1)
	u.total.bytes.Add(uint64(b.bytes))
	u.total.batches.Add(uint64(len(b.parcels)))
	u.total.records.Add(uint64(b.records))
	for i := range b.parcels {
		if b.parcels[i].raw {
			u.total.raw.Add(1)
		}
	}
	u.mu.Lock()
	u.lastTxn, u.lastErr, u.state = now, "", StateRunning
	u.mu.Unlock()
}

// awaitWork waits until something can be sent, and then until it is Age old or about Size large.
func (u *Uplink) awaitWork(ctx context.Context, w *edge.Waiter) error {
	tick := min(max(u.o.Age/16, 2*time.Millisecond), 100*time.Millisecond)
	idle := time.NewTimer(refreshTargets)
	defer idle.Stop()
	for !u.waiting() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.poke:
			return nil
		case <-idle.C:
			return nil
		case <-w.C:
		}
		if u.waiting() || u.o.Broker.Store().Epoch() != u.epoch {
			break
		}
		if err := sleep(ctx, tick); err != nil { // frames of other topics wake us too
			return err
		}
	}
	began := time.Now()
	t := time.NewTicker(tick)
	defer t.Stop()
	for time.Since(began) < u.o.Age && u.gathering() < float64(u.o.Size) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.poke:
			return nil
		case <-t.C:
		}
	}
	return nil
}

// waiting reports whether a lane has something to send.
func (u *Uplink) waiting() bool {
	for _, l := range *u.lanes.Load() {
		if l.ready() && l.pending() > 0 {
			return true
		}
	}
	return false
}

// gathering estimates the bytes on the wire that the waiting records will take.
func (u *Uplink) gathering() float64 {
	return float64(u.rawBytes()-u.rawSeen) * u.ratio
}

// rawBytes is what was ever appended to the lanes.
func (u *Uplink) rawBytes() int64 {
	var n int64
	for _, l := range *u.lanes.Load() {
		raw, _ := l.src.Size()
		n += raw
	}
	return n
}
