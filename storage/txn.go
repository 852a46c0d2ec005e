package storage

import (
	"cmp"
	"slices"

	"rivulet/storage/batch"
)

// txnEvent is a transaction that began or ended in a partition; readers see it when its frame is published.
type txnEvent struct {
	p     *Partition
	id    int64
	first int64
	last  int64 // the marker's offset, -1: it began
	abort bool
}

// beginTxn notes that a transactional batch stands at offset base.
func (s *Store) beginTxn(p *Partition, id int64, epoch int16, base int64) {
	pr := s.producer(p, id, epoch)
	if pr.txnFirst < 0 {
		pr.txnFirst = base
		s.events = append(s.events, txnEvent{p: p, id: id, first: base, last: -1})
	}
}

// endTxn notes that a marker stands at offset at.
func (s *Store) endTxn(p *Partition, id int64, epoch int16, at int64, commit bool) {
	pr := s.producer(p, id, epoch)
	if pr.txnFirst >= 0 {
		s.events = append(s.events, txnEvent{p: p, id: id, first: pr.txnFirst, last: at, abort: !commit})
		pr.txnFirst = -1
	}
}

// showTxns applies the frame's transaction events to what readers see. It runs before the frame's batches are published, so
// that the last stable offset never passes the beginning of an open transaction.
func (s *Store) showTxns() {
	if len(s.events) == 0 {
		return
	}
	s.openMu.Lock()
	defer s.openMu.Unlock()
	for _, e := range s.events {
		s.indexTxn(e)
		e.p.mu.Lock()
		if e.last < 0 {
			if e.p.open == nil {
				e.p.open = map[int64]int64{}
			}
			e.p.open[e.id] = e.first
		} else {
			delete(e.p.open, e.id)
			if e.abort {
				a := Aborted{ProducerID: e.id, FirstOffset: e.first, LastOffset: e.last}
				e.p.aborted = append(e.p.aborted, a)
				s.newAborted = append(s.newAborted, abortedRef{e.p, a})
			}
		}
		e.p.mu.Unlock()
	}
	s.events = s.events[:0]
}

// indexTxn keeps openTxns; openMu is held.
func (s *Store) indexTxn(e txnEvent) {
	in := s.openTxns[e.id]
	switch {
	case e.last >= 0:
		delete(in, e.p)
		if len(in) == 0 {
			delete(s.openTxns, e.id)
		}
	case in == nil:
		if s.openTxns == nil {
			s.openTxns = map[int64]map[*Partition]struct{}{}
		}
		s.openTxns[e.id] = map[*Partition]struct{}{e.p: {}}
	default:
		in[e.p] = struct{}{}
	}
}

// OpenIn lists the partitions in which a producer has a transaction open, by id: what a commit that ends it needs a
// marker for.
func (s *Store) OpenIn(producer int64) []*Partition {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	var list []*Partition
	for p := range s.openTxns[producer] {
		p.mu.Lock()
		_, open := p.open[producer]
		p.mu.Unlock()
		if open {
			list = append(list, p)
			continue
		}
		delete(s.openTxns[producer], p) // its topic was deleted
	}
	if len(s.openTxns[producer]) == 0 {
		delete(s.openTxns, producer)
	}
	slices.SortFunc(list, func(a, b *Partition) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Aborted is one aborted transaction of a partition.
type Aborted struct {
	ProducerID  int64
	FirstOffset int64
	LastOffset  int64 // the marker's
}

// Holds reports whether a batch of the partition belongs to the transaction.
func (a Aborted) Holds(h batch.Header) bool {
	return h.Transactional() && !h.Control() && a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset < a.LastOffset
}

// Committed reports whether a batch holds records that all may see: it is no control batch, and of none of the aborted transactions.
func Committed(aborted []Aborted, h batch.Header) bool {
	return !h.Control() && !slices.ContainsFunc(aborted, func(a Aborted) bool { return a.Holds(h) })
}

type abortedRef struct {
	p *Partition
	a Aborted
}
