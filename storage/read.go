package storage

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"rivulet/storage/batch"
)

// view is what a reader needs of a partition, taken under its lock.
type view struct {
	start, high int64
	tail        []tailBatch
	aborted     []Aborted // by LastOffset; all that end behind start
}

func (p *Partition) view() (view, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		return view{}, ErrNoTopic
	}
	return view{start: p.start, high: p.high, tail: p.tail, aborted: p.aborted}, nil
}

// Read returns whole batches from the one that holds offset from, at least one and then up to maxBytes, none behind
// limit (an offset, exclusive: pass high or stable). Sealed batches come as they lie on disk, recent ones as they were
// committed. In the place of a sealed batch that is damaged stands one without records that covers its offsets (Damages).
// Data is immutable or owned by the caller. An empty result means that from is the limit.
// Errors: ErrOffsetRange, ErrNoTopic, and those of the file system.
func (p *Partition) Read(from, limit int64, maxBytes int) ([][]byte, error) {
	v, err := p.view()
	if err != nil {
		return nil, err
	}
	return p.readView(v, from, limit, maxBytes)
}

// ReadCommitted is Read, with the aborted transactions that touch the offsets [from, limit), which Committed goes by. They are asked for
// first: when the log start moves past a transaction, or the topic is deleted, that it was aborted is forgotten, and then the read
// fails or does not reach it.
func (p *Partition) ReadCommitted(from, limit int64, maxBytes int) ([][]byte, []Aborted, error) {
	aborted := p.Aborted(from, limit)
	set, err := p.Read(from, limit, maxBytes)
	return set, aborted, err
}

// readView is Read for what view said at an earlier moment.
func (p *Partition) readView(v view, from, limit int64, maxBytes int) ([][]byte, error) {
	if from < v.start || from > v.high {
		return nil, fmt.Errorf("read offset %d of %d to %d: %w", from, v.start, v.high, ErrOffsetRange)
	}
	limit = min(limit, v.high)
	tail := v.tail
	if from >= limit {
		return nil, nil
	}
	var out [][]byte
	var err error
	if len(tail) == 0 || from < tail[0].base {
		end := limit
		if len(tail) > 0 {
			end = min(end, tail[0].base)
		}
		if out, err = p.s.sealed.read(p.ID, from, end, maxBytes); err != nil {
			return nil, fmt.Errorf("read sealed batches: %w", err)
		}
		v.mark(out)
		for _, b := range out {
			maxBytes -= len(b)
		}
		if len(out) > 0 && (end == limit || maxBytes <= 0) {
			return out, nil
		}
		if len(out) > 0 {
			h, err := batch.ParseHeader(out[len(out)-1])
			if err != nil {
				return nil, fmt.Errorf("read sealed batches: %w: %w", ErrCorrupt, err)
			}
			if h.NextOffset() < end {
				return out, nil // the next one does not fit
			}
			from = h.NextOffset() // the tail may have been sealed since, and merged with what was before it
		}
	}
	for _, t := range tail[tailFrom(tail, from):] {
		if t.base >= limit || len(out) > 0 && len(t.data) > maxBytes {
			break
		}
		out = append(out, t.data)
		maxBytes -= len(t.data)
	}
	if len(out) == 0 { // nothing is left up to there: a reader that waits for the limit must come to it
		if len(tail) > 0 && tail[len(tail)-1].next > from {
			limit = min(limit, tail[tailFrom(tail, from)].base)
		}
		out = stopgap(nil, from, limit)
	}
	return out, nil
}

// OffsetForTime returns the first offset whose record's timestamp is at least ms, and that timestamp; ok is false when
// there is none.
func (p *Partition) OffsetForTime(ms int64) (offset, ts int64, ok bool, err error) {
	for {
		if offset, ts, ok, err = p.offsetForTime(ms); !errors.Is(err, errGone) {
			return offset, ts, ok, err
		}
	}
}

func (p *Partition) offsetForTime(ms int64) (offset, ts int64, ok bool, err error) {
	v, err := p.view()
	if err != nil {
		return 0, 0, false, err
	}
	start, tail := v.start, v.tail
	for from := start; ; {
		base, found := p.s.sealed.firstAtOrAfter(p.ID, from, ms)
		if !found {
			break
		}
		b, err := p.sealedBatch(base)
		if err != nil {
			return 0, 0, false, err
		}
		if lost, is := damagedFrom(b); is {
			return max(lost, start), ms, true, nil // whoever begins there comes past the damage
		}
		if offset, ts, ok, err = firstRecord(b, start, ms); ok || err != nil {
			return offset, ts, ok, err
		}
		// The record that we are led to is before the start.
		h, err := batch.ParseHeader(b)
		if err != nil {
			return 0, 0, false, fmt.Errorf("decode batch: %w: %w", ErrCorrupt, err)
		}
		from = h.NextOffset()
	}
	for _, t := range tail[tailFrom(tail, start):] {
		h, err := batch.ParseHeader(t.data)
		if err != nil {
			return 0, 0, false, fmt.Errorf("read tail: %w: %w", ErrCorrupt, err)
		}
		if h.MaxTimestamp < ms {
			continue
		}
		if offset, ts, ok, err = firstRecord(t.data, start, ms); ok || err != nil {
			return offset, ts, ok, err
		}
	}
	return 0, 0, false, nil
}

// MaxTimestamp returns the largest timestamp and its offset (ListOffsets -3, KIP-734), -1 and -1 when empty. Where the log starts
// within a batch, what that batch has before the start counts.
func (p *Partition) MaxTimestamp() (offset, ts int64, err error) {
	for {
		if offset, ts, err = p.maxTimestamp(); !errors.Is(err, errGone) {
			return offset, ts, err
		}
	}
}

func (p *Partition) maxTimestamp() (offset, ts int64, err error) {
	v, err := p.view()
	if err != nil {
		return -1, -1, err
	}
	start, tail := v.start, v.tail
	best, from := int64(-1), []byte(nil)
	for _, t := range tail[tailFrom(tail, start):] {
		h, err := batch.ParseHeader(t.data)
		if err != nil {
			return -1, -1, fmt.Errorf("read tail: %w: %w", ErrCorrupt, err)
		}
		if h.MaxTimestamp > best {
			best, from = h.MaxTimestamp, t.data
		}
	}
	if base, ms, ok := p.s.sealed.latest(p.ID, start); ok && ms >= best {
		if from, err = p.sealedBatch(base); err != nil {
			return -1, -1, err
		}
		best = ms
	}
	if from == nil {
		return -1, -1, nil
	}
	if lost, is := damagedFrom(from); is {
		return max(lost, start), best, nil
	}
	offset, ts, ok, err := firstRecord(from, 0, best)
	if err != nil {
		return -1, -1, err
	}
	if now, _, _ := p.Offsets(); !ok && now > start {
		return -1, -1, errGone // what stands there now is not what we were led to
	}
	if !ok {
		return -1, -1, nil
	}
	return max(offset, start), ts, nil
}

// mark puts a marker where the one that ended an aborted transaction is damaged: a client that waits for it would drop all
// that this producer sends later. It goes by what was known when the read began: with what retention takes meanwhile, that is forgotten.
func (v *view) mark(set [][]byte) {
	for i, b := range set {
		h, err := batch.ParseHeader(b)
		if err != nil || h.NumRecords > 0 || h.LastOffsetDelta > 0 { // markers are batches of their own
			continue
		}
		n, found := slices.BinarySearchFunc(v.aborted, h.BaseOffset, endsAt)
		if found {
			set[i] = batch.AppendMarker(nil, h.BaseOffset, 0, -1, v.aborted[n].ProducerID, 0, false)
		}
	}
}

// damagedFrom returns the first offset of a batch that stands in the place of a damaged one.
func damagedFrom(b []byte) (base int64, is bool) {
	h, err := batch.ParseHeader(b)
	return h.BaseOffset, err == nil && h.NumRecords == 0
}

// sealedBatch returns the batch at base, or the first one behind it. Errors: errGone, when all was taken since the index was asked.
func (p *Partition) sealedBatch(base int64) ([]byte, error) {
	bs, err := p.s.sealed.read(p.ID, base, math.MaxInt64, 1)
	if err != nil {
		return nil, fmt.Errorf("read sealed batches: %w", err)
	}
	if len(bs) == 0 {
		return nil, errGone
	}
	return bs[0], nil
}

// firstRecord finds the first record of a batch, from offset start on, with a timestamp of at least ms.
func firstRecord(b []byte, start, ms int64) (offset, ts int64, ok bool, err error) {
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return 0, 0, false, fmt.Errorf("decode batch: %w: %w", ErrCorrupt, err)
	}
	for {
		r, more := d.Next()
		if !more {
			if err := d.Err(); err != nil {
				return 0, 0, false, fmt.Errorf("decode batch: %w: %w", ErrCorrupt, err)
			}
			return 0, 0, false, nil
		}
		if r.Offset >= start && r.Timestamp >= ms {
			return r.Offset, r.Timestamp, true, nil
		}
	}
}
