package gate

import "time"

// bucket is a token bucket. The zero value is an empty one.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right; zero: never
}

// fill adds what has come since, up to burst.
func (b *bucket) fill(now time.Time, rate, burst int) {
	if d := now.Sub(b.at); !b.at.IsZero() && d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*float64(rate), float64(burst))
	}
	b.at = now
}

// take takes a token, if there is one. A negative rate gives as many as are asked for.
func (b *bucket) take(now time.Time, rate, burst int) bool {
	if rate < 0 {
		return true
	}
	b.fill(now, rate, burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// delay takes tokens and says when they are there.
func (b *bucket) delay(now time.Time, n float64, rate, burst int) time.Duration {
	if rate < 0 {
		return 0
	}
	b.fill(now, rate, burst)
	b.tokens -= n
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / float64(rate) * float64(time.Second))
}
