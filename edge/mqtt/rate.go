package mqtt

import (
	"sync"
	"time"

	"rivulet/edge/mqtt/packet"
)

// Rate bounds what is published: messages and bytes of payloads, with topic and properties, a second. 0 is no bound.
// As much as comes in a second may come at once.
type Rate struct {
	Messages, Bytes float64
}

// bucket measures one Rate. Its zero value is full.
type bucket struct {
	at              time.Time
	messages, bytes float64 // what may come at once; below 0 it is overdrawn
}

// take counts what came and returns how long to wait before more is welcome. It is asked once per slice.
func (b *bucket) take(r Rate, now time.Time, messages, bytes int) (wait time.Duration) {
	passed := now.Sub(b.at).Seconds()
	first := b.at.IsZero()
	b.at = now
	one := func(level *float64, rate float64, n int) {
		if rate <= 0 {
			return
		}
		if first {
			*level = rate
		} else {
			*level = min(*level+max(passed, 0)*rate, rate)
		}
		if *level -= float64(n); *level < 0 {
			wait = max(wait, time.Duration(-*level/rate*float64(time.Second)))
		}
	}
	one(&b.messages, r.Messages, messages)
	one(&b.bytes, r.Bytes, bytes)
	return wait
}

// sharedBucket is one for all clients.
type sharedBucket struct {
	mu sync.Mutex // guards b
	b  bucket
}

func (s *sharedBucket) take(r Rate, now time.Time, messages, bytes int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.take(r, now, messages, bytes)
}

// throttle holds up a client that publishes more than it may, or ends the connection.
func (c *conn) throttle(messages, bytes int) error {
	o := c.srv.limits()
	wait := time.Duration(0)
	if o.Rate != (Rate{}) {
		wait = c.rate.take(o.Rate, c.lastRead, messages, bytes)
		if wait > 0 && o.RateDisconnect {
			c.srv.stats.throttled.Add(1)
			return &packet.Error{Reason: packet.MessageRateTooHigh, Detail: "more messages or bytes a second than a client may publish"}
		}
	}
	if o.RateAll != (Rate{}) {
		wait = max(wait, c.srv.rate.take(o.RateAll, c.lastRead, messages, bytes))
	}
	if wait == 0 {
		return nil
	}
	c.srv.stats.throttled.Add(1)
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-c.ctx.Done():
		return c.ended()
	}
}
