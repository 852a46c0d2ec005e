package plugins

import (
	"sync"
	"time"
)

// A plugin that fails so often within the window is suspended.
const (
	breakerFailures = 20
	breakerWindow   = time.Minute
)

// breaker remembers the times of the last failures. The zero value is ready.
type breaker struct {
	mu    sync.Mutex
	times [breakerFailures]time.Time
	n     int
}

// failure notes one and reports whether they are too many.
func (b *breaker) failure(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.times[b.n%breakerFailures] = now
	b.n++
	return b.n >= breakerFailures && now.Sub(b.times[b.n%breakerFailures]) < breakerWindow
}

func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n = 0
}
