package bridge

import (
	"math/rand/v2"
	"testing"
	"time"
)

// An hour of refusals is a handful of attempts a minute, never two at once, and not in step with other bridges.
func TestBackOff(t *testing.T) {
	b := backOff{longest: time.Minute, rand: rand.New(rand.NewPCG(1, 2))}
	attempts, seen := 0, map[time.Duration]bool{}
	for passed := time.Duration(0); passed < time.Hour; attempts++ {
		wait := b.after(0)
		if wait < backOffStart/2 || wait > time.Minute {
			t.Fatalf("attempt %d: %v", attempts, wait)
		}
		passed += wait
		seen[wait] = true
	}
	if attempts > 100 || attempts < 60 || len(seen) < attempts*9/10 {
		t.Errorf("%d attempts in an hour, %d different waits", attempts, len(seen))
	}
	if wait := b.after(stable); wait < time.Second {
		t.Errorf("%v after a connection that did not last", wait)
	}
	if wait := b.after(2 * stable); wait > backOffStart {
		t.Errorf("%v after a good connection", wait)
	}
	if wait := (&backOff{longest: 100 * time.Millisecond, rand: b.rand}).after(0); wait > 100*time.Millisecond {
		t.Errorf("%v is longer than the longest", wait)
	}
}
