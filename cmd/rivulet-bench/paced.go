package main

import (
	"sync/atomic"
	"time"
)

// times is when a publisher's last messages were sent, by their number modulo its length, as Unix nanoseconds.
type times [1 << 13]atomic.Int64

func (t *times) set(number uint64, at time.Time) { t[number%uint64(len(t))].Store(at.UnixNano()) }

// since is how long ago a message was sent.
func (t *times) since(number uint64, now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - t[number%uint64(len(t))].Load())
}

// paced sends a message whenever its time has come, whatever was acknowledged meanwhile, as devices do; only a window that is full
// holds it back. Every message is timed, from just before it is written; one that the broker held back, from when it was due.
func (p *publisher) paced() error {
	room := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.send(room)
	}()
	var err error
	for err == nil {
		from := p.done
		err = p.read()
		now := time.Now()
		for n := from; n < p.done; n++ {
			p.latency.add(p.times.since(n, now))
		}
		select {
		case room <- struct{}{}:
		default:
		}
	}
	close(room)
	p.conn.Close()
	<-ended
	return err
}

// send is a goroutine of its own; it ends when room is closed, or when a write fails: the reader then fails for the same reason.
func (p *publisher) send(room <-chan struct{}) {
	next := time.Now().Add(p.phase)
	var held time.Time // until when the broker held us back
	for {
		next = next.Add(p.gap)
		time.Sleep(time.Until(next))
		for p.sent-p.acked.Load() >= uint64(p.window) {
			if _, open := <-room; !open {
				return
			}
			held = time.Now()
		}
		at := time.Now()
		if next.Before(held) {
			at = next
		}
		p.times.set(p.sent, at)
		if p.write(1) != nil {
			return
		}
		if after := time.Now(); after.Sub(at) > p.gap {
			held = after
		}
	}
}
