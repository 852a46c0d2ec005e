package bridge

import (
	"math/rand/v2"
	"time"
)

// backOff is how long to wait before the next connection. Half of each wait is left to chance: bridges that were cut off together must
// not come back together.
type backOff struct {
	longest time.Duration
	rand    *rand.Rand
	next    time.Duration
}

const (
	backOffStart = 500 * time.Millisecond
	stable       = 10 * time.Second // a connection that lasted so long was a good one
)

// after returns the wait after a connection that was up for so long, 0 if it failed. Each one doubles the next, up to the longest.
func (b *backOff) after(up time.Duration) time.Duration {
	if b.next == 0 || up > stable {
		b.next = backOffStart
	}
	b.next = min(b.next, b.longest)
	wait := b.next/2 + time.Duration(b.rand.Int64N(int64(b.next/2)+1))
	b.next *= 2
	return wait
}
