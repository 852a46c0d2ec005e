package storage

import (
	"errors"
	"fmt"
	"maps"
	"math"
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

// frames rebuilds the frames behind seq after and up to last from sealed batches, at least one, up to about maxBytes; none when
// no sealed batch was committed there. Frames without records left are passed over.
//
// The frames of one seal may lie in several groups, one a class, and a rewritten file spans many seals, so groups are taken by
// their first frame until the next one begins behind what fits. Their directories are read twice: once to find out how many
// frames fit, once to cut their records out of the batches, a batch at a time, so that memory is bounded by maxBytes, a
// directory and a batch.
func (l *sealedLog) frames(after, last uint64, maxBytes int) ([]sealedFrame, error) {
	for {
		frames, reached, err := l.tryFrames(after, last, maxBytes)
		switch {
		case errors.Is(err, errGone): // a file was replaced meanwhile: its groups are elsewhere, or past
		case err == nil && len(frames) == 0 && reached > after: // all that those held is damaged
			after = reached
		default:
			return frames, err
		}
	}
}

// tryFrames also returns the last frame that it looked at, after when there is none. Errors: errGone.
func (l *sealedLog) tryFrames(after, last uint64, maxBytes int) (_ []sealedFrame, reached uint64, err error) {
	return l.framesOf(l.groupsBehind(after), after, last, maxBytes)
}

// groupsBehind lists the groups that may hold frames behind seq after.
func (l *sealedLog) groupsBehind(after uint64) groupList {
	l.mu.RLock()
	groups := l.groups
	l.mu.RUnlock()
	return groups[sort.Search(len(groups), func(i int) bool { return groups[i].reach > after }):]
}

// framesOf is tryFrames for the groups of an earlier moment. A file that was rewritten since holds nothing that counts, and what holds it
// now is not in groups: that is errGone, also while the file can still be read.
func (l *sealedLog) framesOf(groups groupList, after, last uint64, maxBytes int) (_ []sealedFrame, reached uint64, err error) {
	fit := frameFit{after: after, last: last, max: maxBytes, bytes: make(map[uint64]int)}
	looked := groups[:0]
	for i, g := range groups {
		if g.first > fit.last {
			break
		}
		if g.last <= after {
			continue
		}
		if fit.prune(g.first) {
			break
		}
		looked = groups[:i+1]
		err := l.eachLive(g.group, func(e *dirEntry) error {
			fit.add(e)
			return nil
		})
		if err != nil {
			return nil, after, err
		}
	}
	fit.prune(math.MaxUint64)
	if len(fit.bytes) == 0 {
		return nil, after, l.stillThere(looked)
	}
	for seq := range fit.bytes {
		reached = max(reached, seq)
	}
	var cut frameCutter
	for _, g := range groups {
		if g.first > fit.last {
			break
		}
		if g.last <= after {
			continue
		}
		err := l.eachLive(g.group, func(e *dirEntry) error {
			from, to := cutRuns(e.runs, after, fit.last)
			if from == to {
				return nil
			}
			b, err := l.readRun(nil, e.part, []indexEntry{e.ref})
			if err == nil {
				err = cut.add(e, b[0], from, to)
			}
			if _, ok := l.setAside(err); ok {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, after, err
		}
	}
	if err := l.stillThere(looked); err != nil {
		return nil, after, err
	}
	return cut.frames(), reached, nil
}

// stillThere is errGone when the file of one of the groups was rewritten.
func (l *sealedLog) stillThere(groups groupList) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, g := range groups {
		if g.file.moved {
			return errGone
		}
	}
	return nil
}

// eachLive calls fn for the entries of a group that count and hold a batch.
func (l *sealedLog) eachLive(g *group, fn func(e *dirEntry) error) error {
	var dir []byte
	err := l.handles.view(g.file, func(groups *bolt.Bucket) error {
		dir = directory(groups, g.key)
		return nil
	})
	if err == nil {
		if _, bad := readDir(dir); bad != nil && !errors.Is(bad, ErrNewerFormat) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, bad)
		}
	}
	if unreadable(err) {
		return l.eachUndirected(g, fn)
	}
	if err != nil {
		return fmt.Errorf("read directory of group %d of %s: %w", g.key, g.file.path, err)
	}
	part, entries := uint32(0), []indexEntry(nil)
	return eachDirEntry(dir, func(e *dirEntry) error {
		if entries == nil || e.part != part {
			part, entries = e.part, l.index(e.part)
		}
		i := at(entries, e.ref.base)
		if e.ref.size == 0 || i == len(entries) || entries[i].group != g || entries[i].base != e.ref.base {
			return nil // past, or held by another group
		}
		e.ref.group = g
		return fn(e)
	})
}

// eachUndirected is eachLive for a group whose directory cannot be read any more, although it could when the file was opened: which
// frame committed what is unknown, so all of it counts as the last one's. Who read a part of the group gets that part again.
func (l *sealedLog) eachUndirected(g *group, fn func(e *dirEntry) error) error {
	l.log.Error("a directory of the log is damaged; its batches are read as one frame", "file", g.file.path, "group", g.key)
	for _, id := range l.ids() {
		for _, ref := range l.index(id) {
			if ref.group != g || ref.size == 0 {
				continue
			}
			if err := fn(&dirEntry{part: id, ref: ref, runs: []seqRun{{seq: g.last, span: ref.span}}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// frameFit finds the last frame such that those behind after and up to it take about max bytes, at least one.
type frameFit struct {
	after, last uint64
	max         int
	bytes       map[uint64]int
	total       int
}

func (f *frameFit) add(e *dirEntry) {
	for _, r := range e.runs {
		if r.seq <= f.after || r.seq > f.last {
			continue
		}
		n := batch.HeaderSize + int(uint64(e.ref.raw)*uint64(r.span)/uint64(e.ref.span))
		f.bytes[r.seq] += n
		f.total += n
	}
	if f.total > 4*max(f.max, 64<<10) { // keeps the map small
		f.prune(math.MaxUint64)
	}
}

// prune forgets the frames that do not fit; true says that those before frame next fill it, so that next and those behind it do
// not matter.
func (f *frameFit) prune(next uint64) bool {
	if f.total <= f.max {
		return false
	}
	seqs := slices.Sorted(maps.Keys(f.bytes))
	total := 0
	for i, s := range seqs {
		if total += f.bytes[s]; total > f.max && i > 0 {
			f.last = seqs[i-1]
			for _, s := range seqs[i:] {
				f.total -= f.bytes[s]
				delete(f.bytes, s)
			}
			break
		}
		if total > f.max { // the first one alone
			f.last = s
		}
	}
	return f.last < next
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
				seq = int32((int64(seq) + max(start-h.BaseOffset, 0)) % seqPeriod)
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
	return &DamageError{File: e.ref.group.file.path, Partition: e.part, First: e.ref.base, Next: e.ref.next(), Cause: cause}
}

func (c *frameCutter) put(e *dirEntry, seq uint64, b []byte, base, next int64) {
	if c.bySeq == nil {
		c.bySeq = make(map[uint64][]sealPart)
	}
	t := tailBatch{seq: seq, base: base, next: next, data: b}
	parts := c.bySeq[seq]
	i, found := slices.BinarySearchFunc(parts, e.part, func(p sealPart, id uint32) int { return compare(uint64(p.id), uint64(id)) })
	if !found {
		parts = slices.Insert(parts, i, sealPart{id: e.part})
		c.bySeq[seq] = parts
	}
	parts[i].tails = append(parts[i].tails, t)
}

// frames lists what was cut. The batches of one partition may have come from several groups, in any order.
func (c *frameCutter) frames() []sealedFrame {
	out := make([]sealedFrame, 0, len(c.bySeq))
	for seq, parts := range c.bySeq {
		for _, p := range parts {
			slices.SortFunc(p.tails, func(a, b tailBatch) int { return compare(a.base, b.base) })
		}
		out = append(out, sealedFrame{seq: seq, batches: parts})
	}
	slices.SortFunc(out, func(a, b sealedFrame) int { return compare(a.seq, b.seq) })
	return out
}
