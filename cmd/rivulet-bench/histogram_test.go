package main

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("empty: %v", got)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, time.Microsecond}, {0.5, 500 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {1, time.Millisecond}} {
		got := h.quantile(c.q)
		if got > c.want || float64(got) < 0.93*float64(c.want) {
			t.Errorf("quantile %v = %v, want at most 7%% below %v", c.q, got, c.want)
		}
	}
	for n := uint64(0); n < 1<<20; n += 37 {
		b := bucket(n)
		if bound(b) > n || bound(b+1) <= n {
			t.Fatalf("%d in bucket %d: [%d, %d)", n, b, bound(b), bound(b+1))
		}
	}
}
