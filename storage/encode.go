package storage

import (
	"encoding/binary"

	"rivulet/storage/batch"
)

// maxMerged is where a batch that merges the records of many commits ends; a Kafka consumer asks for 1 MiB a partition.
const maxMerged = 1 << 20

// encode writes the frame's body to a raw buffer and notes its batches as entries.
func (s *Store) encode(cost int64) []byte {
	b := &s.build
	if int64(cap(b.chunk)-len(b.chunk)) < cost {
		b.chunk = make([]byte, 0, max(s.o.chunkSize(), cost))
	}
	raw := b.chunk[len(b.chunk):len(b.chunk)]
	raw = binary.AppendUvarint(raw, uint64(b.puts))
	for _, c := range b.taken {
		for _, p := range c.Puts {
			raw = appendPut(raw, p)
		}
	}
	raw = binary.AppendUvarint(raw, uint64(len(b.marks)))
	for _, m := range b.marks {
		raw = appendMark(raw, m)
	}
	for _, p := range b.dirty {
		raw = s.encodePartition(raw, p)
	}
	return raw
}

// encodePartition writes what the frame appends to p: the records of consecutive commits as one batch; whole batches,
// markers and what belongs to a transaction as batches of their own.
func (s *Store) encodePartition(raw []byte, p *Partition) []byte {
	b := &s.build
	w := &b.builder
	open := false // a batch that merges
	var cur entry
	begin := func(base int64) {
		raw = binary.LittleEndian.AppendUint32(raw, p.ID)
		cur = entry{p: p, base: base, from: len(raw)}
	}
	end := func(next int64) {
		cur.next, cur.to = next, len(raw)
		b.entries = append(b.entries, cur)
	}
	next := int64(0) // offset behind the open batch
	flush := func() {
		if open {
			open = false
			raw = w.End(0, -1, -1, -1)
			end(next)
		}
	}
	for _, pd := range p.pending {
		a := pd.a
		switch {
		case a.Marker != nil:
			flush()
			begin(a.Base)
			raw = batch.AppendMarker(raw, a.Base, 0, s.clock.wall.Load(), a.Marker.ProducerID, a.Marker.Epoch, a.Marker.Commit)
			end(a.Base + 1)
		case a.Batch != nil:
			flush()
			begin(a.Base)
			h, _ := batch.ParseHeader(a.Batch) // checked
			raw = append(raw, a.Batch...)
			batch.Place(raw[cur.from:], a.Base, 0)
			end(a.Base + int64(h.LastOffsetDelta) + 1)
		case pd.c.Producer != nil && pd.c.Producer.Transactional:
			flush()
			begin(a.Base)
			w.Begin(raw, a.Base, 0)
			for i := range a.Records {
				w.Add(a.Records[i].Timestamp, a.Records[i].Payload)
			}
			raw = w.End(batch.AttrTransactional, pd.c.Producer.ID, pd.c.Producer.Epoch, -1)
			end(a.Base + int64(len(a.Records)))
		default:
			if open && w.Len() >= maxMerged {
				flush()
			}
			if !open {
				begin(a.Base)
				w.Begin(raw, a.Base, 0)
				open = true
			}
			for i := range a.Records {
				w.Add(a.Records[i].Timestamp, a.Records[i].Payload)
			}
			next = a.Base + int64(len(a.Records))
		}
	}
	flush()
	clear(p.pending)
	p.pending, p.dirty = p.pending[:0], false
	return raw
}
