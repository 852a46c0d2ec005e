package storage

import (
	"fmt"
	"testing/synctest"
	"time"
)

// simWallClocks are what the wall clock may be off by: right, 1970 as after a start without a battery, and years ahead.
var simWallClocks = []time.Duration{0, -29 * 365 * 24 * time.Hour, 26 * 365 * 24 * time.Hour}

// simClock is a wall clock that steps, over the time of the bubble. It has no monotonic reading, so that every look at it is like
// the first one behind a restart.
func (w *simWorld) wallClock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Round(0).Add(w.wallOff)
}

// stepping gives some programs a wall clock that steps; a third of these begin in 1970.
func (sim *simulation) stepping() {
	if sim.seed%5 < 3 {
		return
	}
	w := sim.w
	w.o.Now = w.wallClock
	if sim.rng.IntN(3) == 0 {
		w.wallOff = simWallClocks[1]
	}
}

// stepClock steps the wall clock: by years, or by what could have passed. The store's own clock counts the one, and not the other.
func (sim *simulation) stepClock() error {
	w := sim.w
	if w.o.Now == nil {
		return sim.pass()
	}
	before, moment := sim.storeClock(), time.Now()
	w.mu.Lock()
	old := w.wallOff
	switch sim.rng.IntN(3) {
	case 0:
		w.wallOff += []time.Duration{30 * time.Minute, -30 * time.Minute, time.Second, -time.Second}[sim.rng.IntN(4)]
	default:
		w.wallOff = simWallClocks[sim.rng.IntN(3)]
	}
	d := w.wallOff - old
	w.mu.Unlock()
	if d > 0 {
		sim.model.room.stepped += min(d, clockStep).Milliseconds()
	}
	after := sim.storeClock()
	synctest.Wait()
	if w.crashed() {
		return nil
	}
	sim.logf("the clock steps by %v", d)
	counts := time.Duration(0)
	if d > 0 && d <= clockStep {
		counts = d
	}
	w.rows[rowStepped]++
	return clockMoved(before, after, time.Since(moment)+counts)
}

// storeClock is the store's clock as of now.
func (sim *simulation) storeClock() int64 {
	s := sim.w.s
	s.onSealer(func() { s.clock.tick(s.o.Now()) })
	return s.clock.now()
}

// clockMoved says how a store's clock moved otherwise than by at most d.
func clockMoved(from, to int64, d time.Duration) error {
	if to < from || to > from+d.Milliseconds()+1 {
		return fmt.Errorf("the store's clock went from %d to %d, when %v passed", from, to, d)
	}
	return nil
}
