package storage

import (
	"maps"
	"slices"
	"sync"
)

// Partition is one log. It lives as long as the store, also when its topic is deleted (reads then fail with ErrNoTopic).
type Partition struct {
	ID    uint32 // never used twice in a store's life
	Index int32  // in its topic

	s     *Store
	topic string

	// The committer's: what the next frame is built from.
	next    int64 // next offset
	pending []pending
	dirty   bool // pending is not empty
	prods   map[int64]*producer
	rawNow  uint64 // bytes appended, of which raw is what is published
	known   int64  // next offset as checkpointed; recovery's
	trimmed int64  // log start as it was committed, whatever the log holds; recovery's
	gone    bool   // the topic was deleted

	counted int64 // the sealer's: records before it were counted as dropped, or were gone when the store was opened

	mu      sync.Mutex // guards what follows: the published state
	start   int64
	high    int64
	stable  int64
	raw     uint64
	tail    []tailBatch     // in offset order; elements are never changed, so that readers keep a slice of it
	open    map[int64]int64 // producer id → first offset of its open transaction
	aborted []Aborted       // by LastOffset
	waiters []*Waiter
	removed bool
}

// pending is one append of a commit in the frame that is being built.
type pending struct {
	c *Commit
	a *Append
}

func newPartition(s *Store, id uint32, index int32, topic string) *Partition {
	return &Partition{ID: id, Index: index, s: s, topic: topic}
}

// Topic is the name of the partition's topic.
func (p *Partition) Topic() string { return p.topic }

// Offsets of a partition: log start, last stable offset, high watermark. All of them are durable.
func (p *Partition) Offsets() (start, stable, high int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start, p.stable, p.high
}

// Size returns the raw bytes that were appended and the bytes that the sealed batches take.
func (p *Partition) Size() (raw, stored int64) {
	p.mu.Lock()
	raw = int64(p.raw)
	p.mu.Unlock()
	return raw, p.s.sealed.stored(p.ID)
}

// Unsealed returns the bytes of the tail: the part of Size's raw that the journal alone holds, and no sealed batch yet.
func (p *Partition) Unsealed() int64 {
	p.mu.Lock()
	tail := p.tail
	p.mu.Unlock()
	n := int64(0)
	for _, t := range tail {
		n += int64(len(t.data))
	}
	return n
}

// Aborted lists the aborted transactions that touch the offsets [from, to). Who reads the log, too, asks for them first, as ReadCommitted
// does: with what retention removes, they are forgotten.
func (p *Partition) Aborted(from, to int64) []Aborted {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Aborted
	// Ordered by last offset, so all behind the first one that ends at or behind from may touch it; their first offsets
	// have no order.
	i, _ := slices.BinarySearchFunc(p.aborted, from, endsAt)
	for _, a := range p.aborted[i:] {
		if a.FirstOffset < to {
			out = append(out, a)
		}
	}
	return out
}

// OpenTxns lists the producers with an open transaction in this partition and their first offset.
func (p *Partition) OpenTxns() map[int64]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.open)
}

// settle computes the last stable offset. mu is held.
func (p *Partition) settle() {
	p.stable = p.high
	for _, first := range p.open {
		p.stable = min(p.stable, first)
	}
}

// publish shows batches of one frame to readers. The committer calls it after the frame's fsync.
func (p *Partition) publish(batches []tailBatch, raw int) {
	p.mu.Lock()
	p.tail = append(p.tail, batches...)
	p.high = batches[len(batches)-1].next
	p.raw += uint64(raw)
	if len(p.open) == 0 {
		p.stable = p.high
	} else {
		p.settle()
	}
	for _, w := range p.waiters {
		poke(w.C)
	}
	p.mu.Unlock()
}

// remove makes the partition one of a deleted topic and returns the bytes of its tail.
func (p *Partition) remove() (freed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed = true
	for _, t := range p.tail {
		freed += int64(len(t.data))
	}
	p.tail, p.open, p.aborted = nil, nil, nil
	for _, w := range p.waiters {
		poke(w.C)
	}
	return freed
}

// Watch registers w for this partition.
func (p *Partition) Watch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = append(p.waiters, w)
}

// Unwatch takes back one Watch.
func (p *Partition) Unwatch(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = without(p.waiters, w)
}
