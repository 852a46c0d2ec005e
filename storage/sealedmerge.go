package storage

import (
	"errors"
	"fmt"
	"math"

	"rivulet/storage/batch"
)

const (
	mergeAim     = 256 << 10 // raw bytes of a merged batch: lz4 gains little beyond
	mergeMax     = 1 << 20
	keepFrom     = 16 << 10 // compressed batches of this size stay as their producer made them
	seqPeriod    = 1 << 31  // producer sequences wrap to 0
	mergeBatches = 4096     // single messages in a batch: bounds what a merge holds besides the bytes
)

// merger turns tails into a group: batches as they will be served, and the directory. It belongs to the sealer.
type merger struct {
	comp batch.Compressor
	dec  batch.Decoder
	out  []byte

	labels labelling

	codecs func(id uint32) codecRule // of a partition; nil: the default
	part   uint32                    // whose rule is
	ruled  bool                      // there is one
	rule   codecRule

	pace *pace // of build; nil: as fast as it goes

	dir     dirWriter
	done    []byte   // the directory, when it is finished
	blocks  [][]byte // the data, in chunks
	size    int64
	entries []dirEntry // without runs and labels

	again   bool                  // what it merges was sealed before
	maxSpan func(id uint32) int64 // store clock, ms, that a merged batch of a partition may span; nil: any
	limit   int64                 // the current partition's

	run  []mergeItem // batches to be merged
	data [][]byte
	raw  int
	kind runKind
	runs []seqRun
}

// runKind says which batches may be merged with each other.
type runKind struct {
	transactional bool
	producer      int64
	epoch         int16
	nextSeq       int64
}

// mergeItem is one batch on its way into a group.
type mergeItem struct {
	tailBatch
	oldest int64 // store clock of its first record; that of its last is at

	// Of what was sealed before.
	runs    []seqRun // what frame committed what; nil: frame seq committed all
	flags   uint8
	horizon uint32
	raw     uint32 // as the index says, sometimes an estimate

	labelled bool // with the labels of all its records
	labels   []uint32
}

// begin starts a group.
func (m *merger) begin(info dirInfo) {
	info.scheme = m.labels.Scheme
	m.dir.begin(info)
	m.size, m.ruled = 0, false
	m.blocks, m.entries = m.blocks[:0], m.entries[:0]
	m.drop()
}

// build merges parts into a group.
func (m *merger) build(info dirInfo, parts []sealPart) error {
	m.begin(info)
	for _, p := range parts {
		m.drop()
		for _, t := range p.tails {
			if err := m.add(p.id, mergeItem{tailBatch: t, oldest: t.at}); err != nil {
				return fmt.Errorf("merge partition %d at offset %d: %w", p.id, t.base, err)
			}
			m.pace.worked(len(t.data))
		}
		if err := m.flush(p.id); err != nil {
			return fmt.Errorf("merge partition %d: %w", p.id, err)
		}
	}
	m.finish()
	return nil
}

// finish ends a group.
func (m *merger) finish() { m.done = m.dir.finish(m.size) }

// group is the finished group in file f.
func (m *merger) group(f *logFile) *group { return &group{dirInfo: m.dir.info, file: f} }

// free gives back what a large group needed.
func (m *merger) free() {
	if len(m.blocks) > 8 {
		m.blocks = nil
	}
	if cap(m.out) > 4*mergeMax {
		m.out = nil
	}
	clear(m.run[:cap(m.run)])
	clear(m.data[:cap(m.data)])
}

func (m *merger) drop() { m.run, m.data, m.raw = m.run[:0], m.data[:0], 0 }

// add takes one batch: to the run if it may be merged with that, else as the first of a new one, else as it is.
func (m *merger) add(id uint32, t mergeItem) error {
	h, err := batch.ParseHeader(t.data)
	if err != nil {
		return err
	}
	if !m.ruled || id != m.part {
		m.ruleOf(id)
	}
	raw, alone, err := m.weigh(h, t)
	if err != nil {
		return err
	}
	if alone {
		if err := m.flush(id); err != nil {
			return err
		}
		m.run, m.data, m.raw = append(m.run, t), append(m.data, t.data), raw
		return m.flush(id)
	}
	kind := runKind{}
	if h.Transactional() {
		kind = runKind{transactional: true, producer: h.ProducerID, epoch: h.ProducerEpoch, nextSeq: int64(h.BaseSequence)}
	}
	if n := len(m.run); n > 0 && (m.kind != kind || m.run[n-1].next != t.base || m.raw+raw > mergeMax || n >= mergeBatches ||
		t.next-m.run[0].base > math.MaxInt32 || m.limit > 0 && t.at-m.run[0].oldest > m.limit) {
		if err := m.flush(id); err != nil {
			return err
		}
	}
	if kind.nextSeq >= 0 && h.Transactional() { // what plugins emit into a transaction has no sequence
		kind.nextSeq = (kind.nextSeq + int64(h.NumRecords)) % seqPeriod
	}
	m.kind = kind
	m.run, m.data, m.raw = append(m.run, t), append(m.data, t.data), m.raw+raw
	if m.raw >= mergeAim {
		return m.flush(id)
	}
	return nil
}

// ruleOf looks up how the partition's batches are stored; it stays the same through a group.
func (m *merger) ruleOf(id uint32) {
	m.part, m.ruled, m.rule = id, true, codecOf("")
	if m.codecs != nil {
		m.rule = m.codecs(id)
	}
	m.limit = 0
	if m.maxSpan != nil {
		m.limit = m.maxSpan(id)
	}
}

// weigh returns the raw size of a batch's records, and whether it stays alone: transaction markers, and what a producer
// compressed well enough. Those bytes are not touched, unless the topic wants another codec, so that what is compressed once is
// compressed once.
//
// Of what was sealed before, nobody knows who compressed it: it is merged while it is less than half of what a batch aims at,
// so that what was merged once is not merged again and again.
func (m *merger) weigh(h batch.Header, t mergeItem) (raw int, alone bool, err error) {
	b, enough := t.data, mergeAim
	if m.again {
		enough = mergeAim / 2
	}
	if h.Codec() == batch.None {
		raw = len(b) - batch.HeaderSize
		return raw, h.Control() || m.again && raw >= enough, nil
	}
	if m.again && (h.Control() || int(t.raw) >= enough) {
		return int(t.raw), true, nil
	}
	if own := !m.again || h.Codec() != m.rule.codec; h.Control() || own && len(b) >= keepFrom && m.rule.asIs(h) {
		// What it holds raw is needed only to estimate: a typical ratio saves decompressing it.
		return 4 * (len(b) - batch.HeaderSize), true, nil
	}
	if err := m.dec.Reset(b, 0); err != nil {
		if errors.Is(err, batch.ErrTooLarge) {
			return batch.DefaultMaxRaw, true, nil
		}
		return 0, false, err
	}
	raw = m.dec.RawSize()
	return raw, raw >= enough, nil
}

// flush writes the run as one batch.
func (m *merger) flush(id uint32) error {
	if len(m.run) == 0 {
		return nil
	}
	var err error
	if len(m.run) == 1 { // nothing to merge with: it keeps its producer
		h, herr := batch.ParseHeader(m.data[0])
		if herr != nil {
			return herr
		}
		if m.rule.asIs(h) {
			return m.emit(id, m.data[0])
		}
		m.out, err = m.comp.Compress(m.out[:0], m.data[0], m.rule.codec)
	} else {
		m.out, err = m.comp.Merge(m.out[:0], m.data, m.rule.codec)
	}
	if err != nil {
		return err
	}
	return m.emit(id, m.out)
}

// emit appends b, which holds the run's records, to the group.
func (m *merger) emit(id uint32, b []byte) error {
	h, err := batch.ParseHeader(b)
	if err != nil {
		return err
	}
	first, last := m.run[0], m.run[len(m.run)-1]
	if h.BaseOffset < first.base || h.BaseOffset > first.base && first.flags&flagClean == 0 || h.NextOffset() != last.next {
		return fmt.Errorf("BUG: batch of offsets %d to %d became %d to %d", first.base, last.next, h.BaseOffset, h.NextOffset())
	}
	if m.size+int64(len(b)) > math.MaxUint32 {
		return ErrTooLarge
	}
	m.runs = m.runs[:0]
	for i := range m.run {
		t := &m.run[i]
		if t.runs == nil {
			m.addRun(seqRun{seq: t.seq, span: uint32(t.next - t.base)})
		}
		for _, r := range t.runs {
			m.addRun(r)
		}
	}
	e := dirEntry{
		part: id,
		ref: indexEntry{
			base: first.base, span: uint32(last.next - first.base), records: uint32(h.NumRecords), maxTime: h.MaxTimestamp,
			pos: uint32(m.size), size: uint32(len(b)), raw: uint32(m.raw),
		},
		runs: m.runs,
	}
	e.ref.newest, e.oldest = last.at, first.oldest
	settled := uint8(flagSettled) // if all of it is
	for _, t := range m.run {
		e.ref.newest, e.oldest = max(e.ref.newest, t.at), min(e.oldest, t.oldest)
		e.ref.flags |= t.flags &^ flagSettled
		settled &= t.flags
		e.ref.horizon = max(e.ref.horizon, t.horizon)
	}
	e.ref.flags |= settled
	e.ref.age = uint32(min((e.ref.newest-e.oldest+999)/1000, math.MaxUint32))
	e.labels, e.labelled = m.labels.run(id, m.run)
	m.dir.add(&e)
	e.runs, e.labels = nil, nil
	m.entries = append(m.entries, e)
	m.write(b)
	m.drop()
	return nil
}

// hole notes that nothing is left of the offsets that item t covers.
func (m *merger) hole(id uint32, t mergeItem) error {
	if err := m.flush(id); err != nil {
		return err
	}
	e := dirEntry{part: id, oldest: t.oldest, ref: indexEntry{
		base: t.base, span: uint32(t.next - t.base), maxTime: math.MinInt64, newest: t.at, pos: uint32(m.size), flags: t.flags | flagClean,
	}}
	m.dir.add(&e)
	m.entries = append(m.entries, e)
	return nil
}

func (m *merger) addRun(r seqRun) {
	if n := len(m.runs); n > 0 && m.runs[n-1].seq == r.seq {
		m.runs[n-1].span += r.span
	} else {
		m.runs = append(m.runs, r)
	}
}

// write appends to the data, in blocks of a chunk each: one buffer for all would be copied as it grows.
func (m *merger) write(b []byte) {
	for len(b) > 0 {
		n := len(m.blocks)
		if n == 0 || len(m.blocks[n-1]) == chunkBytes {
			if n < cap(m.blocks) && cap(m.blocks[:n+1][n]) == chunkBytes {
				m.blocks = m.blocks[:n+1]
				m.blocks[n] = m.blocks[n][:0]
			} else {
				m.blocks = append(m.blocks, make([]byte, 0, chunkBytes))
			}
			n++
		}
		last := m.blocks[n-1]
		take := min(len(b), chunkBytes-len(last))
		m.blocks[n-1] = append(last, b[:take]...)
		b = b[take:]
		m.size += int64(take)
	}
}

// chunks lists the group as it lies in the file.
func (m *merger) chunks() []keyedChunk {
	var out []keyedChunk
	dir, key := m.done, m.dir.info.key
	for n := 0; n == 0 || len(dir) > 0; n++ {
		take := min(len(dir), chunkBytes)
		out = append(out, keyedChunk{chunkKey(key, chunkDir, n), dir[:take]})
		dir = dir[take:]
	}
	for n, b := range m.blocks {
		out = append(out, keyedChunk{chunkKey(key, chunkData, n), b})
	}
	return out
}
