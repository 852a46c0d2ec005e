package storage

import (
	"errors"
	"fmt"
)

// SeqOf returns the frame that committed the record at offset, or the first one behind offset that is still kept; 0 when
// there is none. Errors: ErrNoTopic, ErrCorrupt.
func (p *Partition) SeqOf(offset int64) (uint64, error) {
	for {
		v, err := p.view()
		if err != nil {
			return 0, err
		}
		seq, err := p.s.sealed.seqOf(p.ID, offset)
		if errors.Is(err, errGone) {
			continue // a file was replaced meanwhile: its groups are elsewhere, or past
		}
		if seq != 0 || err != nil {
			return seq, err
		}
		if i := tailFrom(v.tail, offset); i < len(v.tail) {
			return v.tail[i].seq, nil
		}
		return 0, nil
	}
}

// seqOf is SeqOf for what is sealed. Errors: errGone, when the index changed meanwhile.
func (l *sealedLog) seqOf(id uint32, offset int64) (seq uint64, err error) {
	entries := l.index(id)
	i := at(entries, offset)
	for i < len(entries) && entries[i].size == 0 {
		i++
	}
	if i == len(entries) {
		return 0, nil
	}
	want := &entries[i]
	err = l.eachLive(want.group, nil, func(e *dirEntry) error {
		if e.part != id || e.ref.base != want.base {
			return nil
		}
		end := e.ref.base
		for _, r := range e.runs {
			if end += int64(r.span); seq == 0 && end > offset {
				seq = r.seq
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("find the frame of offset %d: %w", offset, err)
	}
	if seq != 0 {
		return seq, nil
	}
	// Its group does not count any more if it was rewritten or trimmed since we looked.
	if again := l.index(id); i >= len(again) || again[i].group != want.group || again[i].base != want.base {
		return 0, errGone
	}
	return 0, nil
}

// SeqAt returns the frame behind which the records with a timestamp of at least ms begin: none of those that partitions p of
// pick(topic) hold lies in it or before. Timestamps need not ascend; the largest so far counts, as in OffsetForTime. It is
// the last frame when there is no such record.
func (s *Store) SeqAt(ms int64, pick func(topic string) bool) (uint64, error) {
	seq := s.LastSeq() + 1
	for _, t := range s.Topics() {
		if !pick(t.Name) {
			continue
		}
		for _, p := range t.Partitions {
			offset, _, ok, err := p.OffsetForTime(ms)
			if err == nil && ok {
				var at uint64
				if at, err = p.SeqOf(offset); err == nil && at != 0 {
					seq = min(seq, at)
				}
			}
			if err != nil && !errors.Is(err, ErrNoTopic) {
				return 0, fmt.Errorf("find %s/%d at %d ms: %w", t.Name, p.Index, ms, err)
			}
		}
	}
	return seq - 1, nil
}
