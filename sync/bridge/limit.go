package bridge

import "time"

// bucket is a token bucket of bytes. It may go into debt by one batch, which is then waited off.
type bucket struct {
	rate   float64 // bytes a second; 0: no limit
	tokens float64
	at     time.Time
}

// take accounts for n bytes and returns how long to wait before more. At most a second's worth is saved up.
func (b *bucket) take(now time.Time, n int) time.Duration {
	if b.rate == 0 {
		return 0
	}
	passed := min(max(now.Sub(b.at).Seconds(), 0), 1)
	b.at = now
	b.tokens = min(b.tokens+passed*b.rate, b.rate) - float64(n)
	return time.Duration(max(0, -b.tokens/b.rate) * float64(time.Second))
}
