package mirror

import "time"

// bucket is a token bucket of bytes. It may go into debt by one burst, which is then waited off.
type bucket struct {
	rate   float64 // bytes a second; 0: no limit
	tokens float64
	at     time.Time
}

// take accounts for n bytes that were sent by now.
func (b *bucket) take(now time.Time, n int) {
	b.fill(now)
	b.tokens -= float64(n)
}

// wait is how long nothing may be sent.
func (b *bucket) wait(now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.fill(now)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// fill adds what has come since; at most a second's worth is saved up. A clock that steps costs at most that.
func (b *bucket) fill(now time.Time) {
	passed := min(max(now.Sub(b.at).Seconds(), 0), 1)
	b.at = now
	b.tokens = min(b.tokens+passed*b.rate, b.rate)
}
