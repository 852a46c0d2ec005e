package mqtt

import "time"

// backOff is the pause behind something that failed: short at first, twice as long each time. The zero value is ready.
type backOff struct {
	timer *time.Timer // nil: no pause now
	wait  time.Duration
}

const (
	firstPause = 50 * time.Millisecond
	maxPause   = 5 * time.Second
)

// begin starts a pause. It is true for the first one since forget.
func (b *backOff) begin() (first bool) {
	first = b.wait == 0
	b.wait = min(max(2*b.wait, firstPause), maxPause)
	b.timer = time.NewTimer(b.wait)
	return first
}

// lasts reports whether there is a pause now, over when it is over; then ends is called.
func (b *backOff) lasts() bool { return b.timer != nil }

func (b *backOff) over() <-chan time.Time {
	if b.timer == nil {
		return nil
	}
	return b.timer.C
}

func (b *backOff) ends() { b.timer = nil }

// forget is called when all is well.
func (b *backOff) forget() { b.wait = 0 }

// rest is a whole pause; false: stop was closed meanwhile.
func (b *backOff) rest(stop <-chan struct{}) bool {
	defer b.ends()
	defer b.timer.Stop()
	select {
	case <-b.over():
		return true
	case <-stop:
		return false
	}
}
