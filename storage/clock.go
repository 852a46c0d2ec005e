package storage

import (
	"math"
	"sync/atomic"
	"time"
)

// storeClock is the store's own time: milliseconds that it was open, summed over its life. The wall clock of a gateway may
// start in 1970 and jump; what is measured in idle hours must not be forgotten because of that. The committer ticks it.
type storeClock struct {
	at   atomic.Int64 // ms
	prev time.Time    // with the monotonic reading, when the clock that was passed in has one
	wall int64        // ms since 1970 of the last tick
}

func (c *storeClock) now() int64 { return c.at.Load() }

func (c *storeClock) tick(now time.Time) {
	c.wall = now.UnixMilli()
	// Whole milliseconds only, so that fast frames do not round time away.
	d := now.Sub(c.prev).Milliseconds()
	if c.prev.IsZero() || d < 0 || d > math.MaxInt32*1000 {
		c.prev = now
		return
	}
	if d > 0 {
		c.at.Add(d)
		c.prev = c.prev.Add(time.Duration(d) * time.Millisecond)
	}
}
