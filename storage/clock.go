package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// storeClock is the store's own time: milliseconds that it was open, summed over its life. Retention goes by it. It never goes
// back, and it pauses where the wall clock steps by more than an hour: a gateway without a battery for its clock starts in
// 1970, and what it kept must not be forgotten when somebody tells it the time.
//
// While the process runs, time that Go measured with the monotonic clock counts, whatever the wall clock does. Over a restart
// nothing is left but the wall clock: a difference of up to an hour counts, any other does not. Clocks of tests have no monotonic
// reading; each of their steps is like a restart.
type storeClock struct {
	at   atomic.Int64 // ms
	wall atomic.Int64 // ms since 1970 at the last tick

	mu   sync.Mutex // guards prev
	prev time.Time  // of the last tick, without what is no whole millisecond
}

// clockStep is the largest step of the wall clock that counts as time that passed.
const clockStep = time.Hour

func (c *storeClock) now() int64 { return c.at.Load() }

// both returns the store's clock and the wall clock of the last tick.
func (c *storeClock) both() (at, wall int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Load(), c.wall.Load()
}

// tick moves the clock on to now. The committer calls it with each frame, the sealer when there are none.
func (c *storeClock) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall.Store(now.UnixMilli())
	d := now.Sub(c.prev)
	if c.prev.IsZero() || d < 0 || d > clockStep && !monotonic(now) {
		c.prev = now
		return
	}
	// Whole milliseconds only, so that fast frames do not round time away.
	if ms := d.Milliseconds(); ms > 0 {
		c.at.Add(ms)
		c.prev = c.prev.Add(time.Duration(ms) * time.Millisecond)
	}
}

// monotonic tells whether Sub of t compares monotonic readings.
func monotonic(t time.Time) bool {
	return t != t.Round(0) //nolint:revive // Equal would ignore just that
}

// resume starts the clock behind a restart. It stood at at when the wall clock was at wall, both in ms; 0, 0 when nobody
// knows. Since then recovery may have moved it on by what the journal says.
func (c *storeClock) resume(at, wall int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prev = now
	c.wall.Store(now.UnixMilli())
	if wall == 0 {
		return
	}
	wall += c.at.Load() - at
	if d := now.UnixMilli() - wall; d > 0 && d <= clockStep.Milliseconds() {
		c.at.Add(d)
	}
}
