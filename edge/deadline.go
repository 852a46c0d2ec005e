package edge

import "time"

// deadline is one timer for the earliest of many times. Its owner's mutex guards it.
type deadline struct {
	timer *time.Timer
	at    time.Time // zero: not set
}

// set sees to it that fire runs at t or before, by the clock that says now.
func (d *deadline) set(t, now time.Time, fire func()) {
	if !d.at.IsZero() && !t.Before(d.at) {
		return
	}
	d.at = t
	in := max(t.Sub(now), 0)
	if d.timer == nil {
		d.timer = time.AfterFunc(in, fire)
		return
	}
	d.timer.Reset(in)
}

// fired is for fire to call first.
func (d *deadline) fired() { d.at = time.Time{} }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
