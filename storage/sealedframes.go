package storage

import (
	"fmt"
	"slices"
	"sort"

	bolt "go.etcd.io/bbolt"

	"rivulet/storage/batch"
)

// sealedFrame is what one frame committed, as far as it is still kept. Its batches are encoded uncompressed.
type sealedFrame struct {
	seq     uint64
	batches []sealPart
}

// frames rebuilds the frames behind seq after from sealed batches, at least one, up to about maxBytes; none when no sealed
// batch was committed behind after. Frames without records left are passed over.
func (l *sealedLog) frames(after uint64, maxBytes int) ([]sealedFrame, error) {
	l.mu.RLock()
	groups := l.groups
	l.mu.RUnlock()
	i := sort.Search(len(groups), func(i int) bool { return groups[i].upTo > after })
	for _, g := range groups[i:] {
		frames, err := l.groupFrames(g, after, maxBytes)
		if err != nil || len(frames) > 0 {
			return frames, err
		}
	}
	return nil, nil
}

// groupFrames rebuilds frames of one group. The directory is read twice: once to find out how many frames fit, once to cut
// their records out of the batches, a batch at a time, so that memory is bounded by maxBytes and one batch.
func (l *sealedLog) groupFrames(g group, after uint64, maxBytes int) ([]sealedFrame, error) {
	var dir []byte
	err := l.handles.view(g.file, func(groups *bolt.Bucket) error {
		dir = directory(groups, g.upTo)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read directory of group %d: %w", g.upTo, err)
	}
	live := l.live()
	last, err := lastFitting(dir, g.upTo, after, maxBytes, live)
	if err != nil || last <= after {
		return nil, err
	}
	var cut frameCutter
	err = eachDirEntry(dir, func(e *dirEntry) error {
		if !live(e.part) {
			return nil
		}
		from, to := cutRuns(e.runs, after, last)
		if from == to {
			return nil
		}
		e.ref.file = g.file
		b, err := l.readRun(nil, e.part, []indexEntry{e.ref})
		if err != nil {
			return err
		}
		return cut.add(e, b[0], from, to)
	})
	if err != nil {
		return nil, err
	}
	return cut.frames(), nil
}

// live returns a function that tells whether a partition was not dropped.
func (l *sealedLog) live() func(id uint32) bool {
	return func(id uint32) bool {
		l.mu.RLock()
		defer l.mu.RUnlock()
		return l.parts[id] != nil
	}
}

func eachDirEntry(dir []byte, fn func(e *dirEntry) error) error {
	r, err := readDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var e dirEntry
	for {
		more, err := r.next(&e)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if !more {
			return nil
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
}

// lastFitting returns the last frame such that those behind after and up to it take about maxBytes, at least one; after
// when there is none.
func lastFitting(dir []byte, upTo, after uint64, maxBytes int, live func(id uint32) bool) (uint64, error) {
	bytes := make(map[uint64]int)
	err := eachDirEntry(dir, func(e *dirEntry) error {
		if !live(e.part) {
			return nil
		}
		for _, r := range e.runs {
			if r.seq > after {
				bytes[r.seq] += batch.HeaderSize + int(uint64(e.raw)*uint64(r.span)/uint64(e.ref.span))
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	seqs := make([]uint64, 0, len(bytes))
	for s := range bytes {
		seqs = append(seqs, s)
	}
	slices.Sort(seqs)
	last, total := after, 0
	for _, s := range seqs {
		if total += bytes[s]; total > maxBytes && last > after {
			break
		}
		last = s
	}
	return last, nil
}

// cutRuns returns the range of runs in the frames (after, last]. Runs ascend.
func cutRuns(runs []seqRun, after, last uint64) (from, to int) {
	from = sort.Search(len(runs), func(i int) bool { return runs[i].seq > after })
	to = sort.Search(len(runs), func(i int) bool { return runs[i].seq > last })
	return from, to
}

// frameCutter collects the batches of frames, partition by partition.
type frameCutter struct {
	bySeq map[uint64][]sealPart
	comp  batch.Compressor
	dec   batch.Decoder
	build batch.Builder
}

// add cuts batch b of entry e into those of its runs [from, to).
func (c *frameCutter) add(e *dirEntry, b []byte, from, to int) error {
	if len(e.runs) == 1 {
		plain, err := c.comp.Compress(nil, b, batch.None)
		if err != nil {
			return damaged(e, err)
		}
		c.put(e, e.runs[0].seq, plain, e.ref.base, e.ref.next())
		return nil
	}
	if err := c.dec.Reset(b, 0); err != nil {
		return damaged(e, err)
	}
	h := c.dec.Header()
	start := e.ref.base
	r, ok := c.dec.Next()
	for i, run := range e.runs[:to] {
		end := start + int64(run.span)
		want := i >= from
		if want {
			c.build.Begin(nil, start, h.LeaderEpoch)
		}
		for ; ok && r.Offset < end; r, ok = c.dec.Next() {
			if want {
				c.build.AddAt(int32(r.Offset-start), r.Timestamp, r.Payload)
			}
		}
		if want {
			seq := h.BaseSequence
			if seq >= 0 {
				seq = int32((int64(seq) + start - e.ref.base) % seqPeriod)
			}
			// Each record has its own timestamp here, also where the batch had one for all.
			attrs := h.Attributes &^ (batch.AttrCodec | batch.AttrLogAppendTime)
			if plain := c.build.End(attrs, h.ProducerID, h.ProducerEpoch, seq); len(plain) > 0 {
				c.put(e, run.seq, plain, start, end)
			}
		}
		start = end
	}
	if err := c.dec.Err(); err != nil {
		return damaged(e, err)
	}
	return nil
}

func damaged(e *dirEntry, cause error) error {
	return &DamageError{File: e.ref.file.path, Partition: e.part, First: e.ref.base, Next: e.ref.next(), Cause: cause}
}

func (c *frameCutter) put(e *dirEntry, seq uint64, b []byte, base, next int64) {
	if c.bySeq == nil {
		c.bySeq = make(map[uint64][]sealPart)
	}
	t := tailBatch{seq: seq, base: base, next: next, data: b}
	parts := c.bySeq[seq]
	if n := len(parts); n > 0 && parts[n-1].id == e.part {
		parts[n-1].tails = append(parts[n-1].tails, t)
	} else {
		parts = append(parts, sealPart{id: e.part, tails: []tailBatch{t}})
	}
	c.bySeq[seq] = parts
}

func (c *frameCutter) frames() []sealedFrame {
	out := make([]sealedFrame, 0, len(c.bySeq))
	for seq, parts := range c.bySeq {
		out = append(out, sealedFrame{seq: seq, batches: parts})
	}
	slices.SortFunc(out, func(a, b sealedFrame) int { return compare(a.seq, b.seq) })
	return out
}
