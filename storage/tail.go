package storage

import "sort"

// tailFrom is the index of the first batch of tail that ends behind offset from: it holds from, or from lies in a gap before it.
func tailFrom(tail []tailBatch, from int64) int {
	return sort.Search(len(tail), func(i int) bool { return tail[i].next > from })
}

// tailUpTo returns the part of the tail that frames up to seq appended.
func (p *Partition) tailUpTo(seq uint64) []tailBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := sort.Search(len(p.tail), func(i int) bool { return p.tail[i].seq > seq })
	return p.tail[:n:n]
}

// dropTail forgets what frames up to seq appended, since it is sealed. Readers that hold the old slice keep it alive.
func (p *Partition) dropTail(seq uint64) (freed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := sort.Search(len(p.tail), func(i int) bool { return p.tail[i].seq > seq })
	for _, t := range p.tail[:n] {
		freed += int64(len(t.data))
	}
	// A new array: the old one would keep the buffers of what was dropped.
	p.tail = append([]tailBatch(nil), p.tail[n:]...)
	return freed
}
