package mirror

import (
	"fmt"
	"slices"

	"rivulet/storage/batch"
)

// asIs reports whether a batch may travel as it lies on disk.
func (g *gatherer) asIs(l *lane, h batch.Header, b []byte) bool {
	return h.Codec() != batch.None &&
		h.BaseOffset >= l.scan && // the centre may hold the beginning of a batch that was merged later
		h.LastOffsetDelta+1 == h.NumRecords && // a broker refuses the gaps that compaction leaves
		h.Attributes&batch.AttrLogAppendTime == 0 && // and timestamps that are said to be a broker's
		len(b) <= min(l.target.maxBytes, g.limit) &&
		(!l.target.recode || h.Codec() == batch.LZ4) &&
		!l.suspect.touches(h.BaseOffset, h.NextOffset()) &&
		!l.skips.touches(h.BaseOffset, h.NextOffset())
}

// add puts one source batch into the burst. A small batch that could go as it is is held back until it is known whether
// another one follows that it can be put together with. When the burst is full, add may stop inside the batch: l.scan says where.
func (g *gatherer) add(l *lane, h batch.Header, b []byte) error {
	if g.asIs(l, h, b) {
		if len(b) >= smallBatch {
			if err := g.flush(l); err != nil {
				return err
			}
			g.post(parcel{l, h.BaseOffset, h.NextOffset(), nil, h.NumRecords, true}, b)
			return nil
		}
		if !g.open && g.held == nil {
			g.held, g.heldHead = b, h
			return nil
		}
	}
	if g.held != nil {
		held, head := g.held, g.heldHead
		g.held = nil
		if err := g.encode(l, held, head.BaseOffset); err != nil || g.burst.full {
			return err
		}
	}
	return g.encode(l, b, l.scan)
}

// encode adds the records of b from offset from on to the batch that is being built.
func (g *gatherer) encode(l *lane, b []byte, from int64) error {
	if err := g.dec.Reset(b, 0); err != nil {
		return fmt.Errorf("decode batch of %s/%d: %w", l.topic, l.index, err)
	}
	bound := min(mergeBytes, l.target.maxBytes, g.limit)
	for r, ok := g.dec.Next(); ok; r, ok = g.dec.Next() {
		if r.Offset < from || l.skips.has(r.Offset) {
			continue
		}
		if g.open && (g.bld.Len()+len(r.Payload)+recordOverhead > bound || l.suspect.cut(g.bld.Count(), g.first, r.Offset)) {
			if err := g.finish(l); err != nil {
				return err
			}
			if g.left() <= 0 {
				g.burst.full, l.scan = true, r.Offset
				return nil
			}
		}
		if !g.open {
			g.bld.Begin(g.raw[:0], 0, -1)
			g.open, g.first = true, r.Offset
		}
		g.bld.Add(r.Timestamp, r.Payload)
		g.next = r.Offset + 1
	}
	if err := g.dec.Err(); err != nil {
		return fmt.Errorf("decode batch of %s/%d: %w", l.topic, l.index, err)
	}
	return nil
}

// flush ends what is held or being built for l.
func (g *gatherer) flush(l *lane) error {
	if g.held != nil {
		h := g.heldHead
		g.post(parcel{l, h.BaseOffset, h.NextOffset(), nil, h.NumRecords, true}, g.held)
		g.held = nil
	}
	if g.open {
		return g.finish(l)
	}
	return nil
}

// finish compresses the batch that was built.
func (g *gatherer) finish(l *lane) error {
	n := int32(g.bld.Count())
	g.raw = g.bld.End(0, -1, -1, -1)
	g.open = false
	out, err := g.cmp.Compress(g.out[:0], g.raw, batch.LZ4)
	if err != nil {
		return fmt.Errorf("compress batch of %s/%d: %w", l.topic, l.index, err)
	}
	g.out = out
	g.post(parcel{l, g.first, g.next, nil, n, false}, out)
	return nil
}

// abandon forgets what is held or being built for l. Posted parcels stay: they are whole.
func (g *gatherer) abandon(l *lane) {
	if g.held != nil {
		l.scan = min(l.scan, g.heldHead.BaseOffset)
	}
	if g.open {
		l.scan = min(l.scan, g.first)
	}
	g.held, g.open = nil, false
}

// post copies a batch into the burst, since its header is going to be rewritten.
func (g *gatherer) post(p parcel, b []byte) {
	p.lane.scan = max(p.lane.scan, p.next) // whatever happens to what is behind it, it is not gathered again
	p.data = append(g.arena.alloc(len(b)), b...)
	batch.Place(p.data, 0, -1)
	g.burst.parcels = append(g.burst.parcels, p)
	g.burst.bytes += len(b)
	g.burst.records += int(p.records)
}

// arena hands out memory for one burst from chunks that it keeps.
type arena struct {
	chunks [][]byte
	n      int // chunks in use
}

const arenaChunk = 1 << 20

func (a *arena) reset() {
	a.chunks = slices.DeleteFunc(a.chunks, func(c []byte) bool { return cap(c) > arenaChunk }) // those made for one large batch
	for i, c := range a.chunks {
		a.chunks[i] = c[:0]
	}
	a.n = 0
}

// alloc returns an empty slice with room for size bytes.
func (a *arena) alloc(size int) []byte {
	for ; a.n < len(a.chunks); a.n++ {
		c := a.chunks[a.n]
		if cap(c)-len(c) >= size {
			a.chunks[a.n] = c[:len(c)+size]
			return c[len(c) : len(c) : len(c)+size]
		}
	}
	c := make([]byte, size, max(size, arenaChunk))
	a.chunks = append(a.chunks, c)
	return c[:0:size]
}
