package storage

import (
	"fmt"
	"math"

	"rivulet/storage/batch"
)

// producer is what a partition remembers of one producer (KIP-98). The committer owns it.
type producer struct {
	epoch    int16
	count    int8 // of recent
	recent   [keepBatches]seqRange
	txnFirst int64 // first offset of the open transaction, -1 when there is none
	seen     int64 // store clock of the last batch or marker
	changed  bool  // since the last checkpoint
}

// seqRange is one batch: its first and last sequence, and the offset that answered it.
type seqRange struct {
	first, last int32
	base        int64
}

const (
	// keepBatches is how many batches a producer may have in flight, and so send again.
	keepBatches = 5
	// producerIdle is how long a producer without an open transaction is remembered, as in Kafka.
	producerIdle = 24 * 60 * 60 * 1000
)

// seqAfter is the sequence n behind seq; sequences wrap from 2^31-1 to 0.
func seqAfter(seq, n int32) int32 { return int32((int64(seq) + int64(n)) & math.MaxInt32) }

// checkProducer decides whether pr's batch may be appended now. A duplicate's error comes with the offset of then.
func (s *Store) checkProducer(pr *Producer) (base int64, err error) {
	if pr.Records < 1 || pr.BaseSequence < 0 || pr.Epoch < 0 || pr.ID < 0 {
		return -1, fmt.Errorf("producer %d, epoch %d, sequence %d, %d records: %w", pr.ID, pr.Epoch, pr.BaseSequence, pr.Records, ErrInvalidTxn)
	}
	known := pr.Partition.prods[pr.ID]
	if known == nil {
		return -1, nil
	}
	switch {
	case pr.Epoch < known.epoch:
		return -1, fmt.Errorf("producer %d has epoch %d, not %d: %w", pr.ID, known.epoch, pr.Epoch, ErrFenced)
	case pr.Epoch > known.epoch:
		if pr.BaseSequence != 0 {
			return -1, fmt.Errorf("producer %d starts epoch %d with sequence %d: %w", pr.ID, pr.Epoch, pr.BaseSequence, ErrOutOfOrder)
		}
	case known.count > 0:
		last := seqAfter(pr.BaseSequence, pr.Records-1)
		for _, r := range known.recent[:known.count] {
			if r.first == pr.BaseSequence && r.last == last {
				return r.base, ErrDuplicate
			}
		}
		if want := seqAfter(known.recent[known.count-1].last, 1); pr.BaseSequence != want {
			return -1, fmt.Errorf("producer %d sent sequence %d, not %d: %w", pr.ID, pr.BaseSequence, want, ErrOutOfOrder)
		}
	}
	if known.txnFirst >= 0 && (!pr.Transactional || pr.Epoch != known.epoch) {
		return -1, fmt.Errorf("producer %d: %w", pr.ID, ErrInvalidTxn)
	}
	return -1, nil
}

// checkMarker decides whether a transaction may be ended.
func checkMarker(p *Partition, m *Marker) error {
	if known := p.prods[m.ProducerID]; known != nil && m.Epoch < known.epoch {
		return fmt.Errorf("producer %d has epoch %d, not %d: %w", m.ProducerID, known.epoch, m.Epoch, ErrFenced)
	}
	return nil
}

// checkBatch holds a whole batch against the producer that the commit names.
func checkBatch(b []byte, pr *Producer) (batch.Header, error) {
	h, err := batch.ParseHeader(b)
	if err != nil {
		return h, err
	}
	if h.Size() != len(b) || h.NumRecords < 1 || h.Control() {
		return h, batch.ErrMalformed
	}
	if h.ProducerID < 0 && !h.Transactional() {
		return h, nil
	}
	if pr == nil || h.ProducerID != pr.ID || h.ProducerEpoch != pr.Epoch || h.BaseSequence != pr.BaseSequence || h.Transactional() != pr.Transactional {
		return h, fmt.Errorf("batch of producer %d, epoch %d, sequence %d: %w", h.ProducerID, h.ProducerEpoch, h.BaseSequence, ErrInvalidTxn)
	}
	return h, nil
}

// producer returns p's state of a producer, and makes it.
func (s *Store) producer(p *Partition, id int64, epoch int16) *producer {
	pr := p.prods[id]
	if pr == nil {
		pr = &producer{epoch: epoch, txnFirst: -1}
		if p.prods == nil {
			p.prods = map[int64]*producer{}
		}
		p.prods[id] = pr
	}
	if epoch > pr.epoch {
		pr.epoch, pr.count = epoch, 0
	}
	pr.seen = s.clock.now()
	if !pr.changed {
		pr.changed = true
		s.changedProducers = append(s.changedProducers, producerRef{p, id})
	}
	return pr
}

// producerRef names one producer of one partition.
type producerRef struct {
	p  *Partition
	id int64
}

// remember takes a batch into its producer's state.
func (s *Store) remember(p *Partition, m mark) {
	pr := s.producer(p, m.id, m.epoch)
	if pr.count == keepBatches {
		copy(pr.recent[:], pr.recent[1:])
		pr.count--
	}
	pr.recent[pr.count] = seqRange{m.first, seqAfter(m.first, m.records-1), m.base}
	pr.count++
}

// forgetProducers drops all state of a deleted partition; its checkpoint follows with the next one.
func (s *Store) forgetProducers(p *Partition) {
	for id := range p.prods {
		s.graves = append(s.graves, producerKey(p.ID, id))
	}
	p.prods = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.aborted {
		put := abortedPut(p.ID, a)
		put.Value = nil
		s.graves = append(s.graves, put)
	}
}
