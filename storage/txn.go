package storage

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
	for _, e := range s.events {
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

// Aborted is one aborted transaction of a partition.
type Aborted struct {
	ProducerID  int64
	FirstOffset int64
	LastOffset  int64 // the marker's
}

type abortedRef struct {
	p *Partition
	a Aborted
}
