package storage

import (
	"errors"

	"rivulet/storage/batch"
)

var errAppendKind = errors.New("an append holds records, or one batch, or a marker")

// check decides whether a commit may be in the frame, against the state that the commits before it in the frame left. It
// changes nothing, so that a commit is taken whole or not at all.
func (s *Store) check(c *Commit) error {
	for i := range c.Appends {
		a := &c.Appends[i]
		if a.Partition == nil || a.Partition.gone {
			return ErrNoTopic
		}
		switch {
		case a.Batch != nil && a.Records == nil && a.Marker == nil:
			if _, err := checkBatch(a.Batch, c.Producer); err != nil {
				return err
			}
		case a.Marker != nil && a.Records == nil && a.Batch == nil:
			if err := checkMarker(a.Partition, a.Marker); err != nil {
				return err
			}
		case a.Marker != nil || a.Batch != nil:
			return errAppendKind
		}
	}
	if c.Producer == nil {
		return nil
	}
	if c.Producer.Partition == nil || c.Producer.Partition.gone {
		return ErrNoTopic
	}
	base, err := s.checkProducer(c.Producer)
	if errors.Is(err, ErrDuplicate) && len(c.Appends) > 0 {
		c.Appends[0].Base = base
	}
	return err
}

// link gives a commit its offsets and notes on each partition what it appends.
func (s *Store) link(c *Commit) {
	b := &s.build
	b.puts += len(c.Puts)
	if c.visible != nil {
		b.shows = append(b.shows, c.visible)
	}
	answer := int64(-1)
	for i := range c.Appends {
		a := &c.Appends[i]
		p := a.Partition
		a.Base = p.next
		switch {
		case a.Marker != nil:
			s.endTxn(p, a.Marker.ProducerID, a.Marker.Epoch, p.next, a.Marker.Commit)
			p.next++
		case a.Batch != nil:
			h, _ := batch.ParseHeader(a.Batch) // checked
			if h.Transactional() {
				s.beginTxn(p, h.ProducerID, h.ProducerEpoch, p.next)
			}
			p.next += int64(h.LastOffsetDelta) + 1
			s.stats.records.Add(uint64(h.NumRecords))
		case len(a.Records) == 0:
			continue
		default:
			if c.Producer != nil && c.Producer.Transactional {
				s.beginTxn(p, c.Producer.ID, c.Producer.Epoch, p.next)
			}
			p.next += int64(len(a.Records))
			s.stats.records.Add(uint64(len(a.Records)))
		}
		if answer < 0 && c.Producer != nil && p == c.Producer.Partition {
			answer = a.Base
		}
		if !p.dirty {
			p.dirty = true
			b.dirty = append(b.dirty, p)
		}
		p.pending = append(p.pending, pending{c, a})
	}
	if pr := c.Producer; pr != nil {
		m := mark{
			partition: pr.Partition.ID, id: pr.ID, epoch: pr.Epoch, first: pr.BaseSequence, records: pr.Records,
			transactional: pr.Transactional, base: answer,
		}
		s.remember(pr.Partition, m)
		b.marks = append(b.marks, m)
	}
}
