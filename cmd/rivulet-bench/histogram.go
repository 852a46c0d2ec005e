package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/16 of a power of two: 6 % wide, from nanoseconds to hours.
type histogram struct {
	buckets [64 * 16]uint64
	count   uint64
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucket(uint64(max(d, 0)))]++
	h.count++
}

func bucket(n uint64) int {
	if n < 16 {
		return int(n)
	}
	exp := bits.Len64(n) - 5 // n>>exp is in [16, 32)
	return exp*16 + int(n>>exp)
}

// bound is the smallest value of a bucket.
func bound(b int) uint64 {
	if b < 16 {
		return uint64(b)
	}
	exp := b/16 - 1
	return uint64(16+b%16) << exp
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
}

// quantile is the lower bound of the bucket that holds it; 0 when nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := uint64(q * float64(h.count-1))
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen > rank {
			return time.Duration(bound(i))
		}
	}
	panic("BUG: histogram counts disagree")
}
