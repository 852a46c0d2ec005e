package storage

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"

	"rivulet/storage/batch"
)

// sealedFrame is what one frame committed, as far as it is still kept. Its batches are encoded uncompressed.
type sealedFrame struct {
	seq     uint64
	batches []sealPart
}

// frames rebuilds the frames behind seq after and up to last from sealed batches, at least one, up to about maxBytes; none when
// no sealed batch was committed there. Frames without records left are passed over. With w, of each frame what w wants. All of it up to
// frame reached is there, which is after when nothing is left.
//
// The frames of one seal may lie in several groups, one a class, and a rewritten file spans many seals, so groups are taken by
// their first frame until the next one begins behind what fits. Who wants everything looks through their directories twice: once to
// find out how many frames fit, once to cut their records out of the batches, a batch at a time. Who does not cannot know
// beforehand how much there is for him: he looks at batches until he has enough, or has looked at lookBytes. So memory is bounded by
// maxBytes, a directory and a batch, and what the cache keeps.
func (l *sealedLog) frames(after, last uint64, maxBytes int, w *wanted) (frames []sealedFrame, reached uint64, err error) {
	for {
		if w == nil {
			if frames := l.ahead.get(after, last, maxBytes); len(frames) > 0 {
				return frames, frames[len(frames)-1].seq, nil
			}
		}
		frames, reached, err := l.tryFrames(after, last, maxBytes, w)
		switch {
		case errors.Is(err, errGone): // a file was replaced meanwhile: its groups are elsewhere, or past
		case err == nil && len(frames) == 0 && reached > after && w == nil: // all that those held is damaged
			after = reached
		default:
			return frames, reached, err
		}
	}
}

// tryFrames is frames for the groups of one moment. Errors: errGone.
func (l *sealedLog) tryFrames(after, last uint64, maxBytes int, w *wanted) (_ []sealedFrame, reached uint64, err error) {
	return l.framesOf(l.groupsBehind(after), after, last, maxBytes, w)
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
func (l *sealedLog) framesOf(groups groupList, after, last uint64, maxBytes int, w *wanted) (_ []sealedFrame, reached uint64, err error) {
	var picked []*dirEntry
	step, asked := maxBytes, last
	for ; ; step = int(l.cache.max / 4) {
		if w == nil {
			last, err = l.fit(groups, after, asked, step)
		}
		if err == nil && last > after {
			picked, last, err = l.pick(groups, after, last, w)
		}
		if err != nil {
			return nil, after, err
		}
		raw := int64(0)
		for _, e := range picked {
			raw += int64(e.ref.raw)
		}
		// More than the cache holds would be opened again at every step, so there are to be few.
		if w != nil || step != maxBytes || raw <= l.cache.max || int64(maxBytes) >= l.cache.max/4 {
			break
		}
	}
	if last == after { // in none of them
		return nil, after, l.stillThere(groups)
	}
	cut := frameCutter{after: after, last: last}
	if err := l.cut(&cut, picked, maxBytes, w); err != nil {
		return nil, after, err
	}
	looked := sort.Search(len(groups), func(i int) bool { return groups[i].first > last })
	if err := l.stillThere(groups[:looked]); err != nil {
		return nil, after, err
	}
	if step != maxBytes {
		run := frameRun{after: after, last: cut.last, frames: cut.frames()}
		l.ahead.add(run)
		if frames := run.get(after, last, maxBytes); len(frames) > 0 {
			return frames, frames[len(frames)-1].seq, nil
		}
		return nil, cut.last, nil
	}
	return cut.frames(), cut.last, nil
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

// fit returns the last frame such that those behind after and up to it take about maxBytes; after when there is none.
func (l *sealedLog) fit(groups groupList, after, last uint64, maxBytes int) (uint64, error) {
	fit := frameFit{after: after, last: last, max: maxBytes, bytes: make(map[uint64]int)}
	for _, g := range groups {
		if g.first > fit.last {
			break
		}
		if g.last <= after {
			continue
		}
		if fit.prune(g.first) {
			break
		}
		err := l.eachLive(g.group, nil, func(e *dirEntry) error {
			fit.add(e)
			return nil
		})
		if err != nil {
			return after, err
		}
	}
	fit.prune(math.MaxUint64)
	last = after
	for seq := range fit.bytes {
		last = max(last, seq)
	}
	return last, nil
}

// lookBytes is how much of the log, uncompressed, a reader who wants little looks at before the next one has its turn.
const lookBytes = 4 << 20

// lookEntries is how many batches it may pass over.
const lookEntries = 64 << 10

// pick lists the batches that hold something of the frames behind after and up to last, and are wanted, by their first frame. It returns the
// frame up to which that is all of them: with w, it may be before last.
func (l *sealedLog) pick(groups groupList, after, last uint64, w *wanted) (picked []*dirEntry, end uint64, err error) {
	if w != nil {
		w.seen = 0
	}
	raw := 0
	for _, g := range groups {
		if g.first > last {
			break
		}
		if g.last <= after {
			continue
		}
		if w != nil && (raw > l.look || w.seen > lookEntries) && g.first-1 > after {
			last = g.first - 1 // no group behind begins earlier
			break
		}
		err := l.eachLive(g.group, w, func(e *dirEntry) error {
			if from, to := cutRuns(e.runs, after, last); from < to {
				picked = append(picked, e)
				raw += int(e.ref.raw)
			}
			return nil
		})
		if err != nil {
			return nil, after, err
		}
	}
	slices.SortStableFunc(picked, func(a, b *dirEntry) int { return compare(a.runs[0].seq, b.runs[0].seq) })
	return picked, last, nil
}

// cut cuts frames out of the picked batches. It moves c.last back when there is too much.
func (l *sealedLog) cut(c *frameCutter, picked []*dirEntry, maxBytes int, w *wanted) error {
	looked, again := 0, l.look
	for i, e := range picked {
		first := e.runs[0].seq
		if first > c.last {
			break
		}
		if w != nil && looked > again {
			// Here is a place to stop, unless most of what was opened would have to be opened again.
			done := 0
			for _, o := range picked[:i] {
				if o.runs[len(o.runs)-1].seq < first {
					done += int(o.ref.raw)
				}
			}
			if again += looked / 4; done > looked/2 && first-1 > c.after {
				c.stop(first - 1)
				break
			}
		}
		from, to := cutRuns(e.runs, c.after, c.last)
		if from == to {
			continue
		}
		o, err := l.open(e)
		if err == nil {
			looked += len(o.raw)
			err = c.add(e, o, from, to, w)
		}
		if err != nil {
			if _, ok := l.setAside(err); !ok {
				return err
			}
		}
		if w != nil && c.bytes > 2*maxBytes {
			c.prune(maxBytes)
		}
	}
	if w != nil && c.bytes > maxBytes {
		c.prune(maxBytes)
	}
	return nil
}

// open returns a batch, opened.
func (l *sealedLog) open(e *dirEntry) (*openBatch, error) {
	return opened(l.cache, cacheKey{e.ref.group, e.part, e.ref.base}, func() (*openBatch, int64, error) {
		set, err := l.readRun(nil, e.part, []indexEntry{e.ref})
		if err != nil {
			return nil, 0, err
		}
		o, err := l.cache.openBatch(set[0])
		if err != nil {
			return nil, 0, damaged(e, err)
		}
		return o, int64(len(o.raw)) + o.indexSize(), nil
	})
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

// eachDirEntry calls fn for the entries of a directory.
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

// frameCutter collects the batches of the frames behind after and up to last, partition by partition.
type frameCutter struct {
	after, last uint64
	bySeq       map[uint64][]sealPart
	bytes       int
	dec         batch.Decoder
	build       batch.Builder
	read        recordReader
}

// add cuts what is wanted of batch o of entry e into those of its runs [from, to).
func (c *frameCutter) add(e *dirEntry, o *openBatch, from, to int, w *wanted) error {
	if w != nil && !o.whole() {
		if topic, want := w.topic(e.part); want == WantLabels {
			records, err := o.find(w.of, topic, w.labels)
			if err != nil {
				return damaged(e, err)
			}
			return c.addSome(e, o, from, to, records)
		}
	}
	return c.addAll(e, o, from, to)
}

func (c *frameCutter) addAll(e *dirEntry, o *openBatch, from, to int) error {
	if len(e.runs) == 1 {
		c.put(e, e.runs[0].seq, batch.AppendPlain(nil, o.h, o.raw), e.ref.base, e.ref.next())
		return nil
	}
	c.dec.Records(o.h, o.raw, o.h.NumRecords)
	start := e.ref.base
	r, ok := c.dec.Next()
	for i, run := range e.runs[:to] {
		end := start + int64(run.span)
		want := i >= from
		if want {
			c.build.Begin(nil, start, o.h.LeaderEpoch)
		}
		for ; ok && r.Offset < end; r, ok = c.dec.Next() {
			if want {
				c.build.AddAt(int32(r.Offset-start), r.Timestamp, r.Payload)
			}
		}
		if want {
			seq := o.h.BaseSequence
			if seq >= 0 {
				seq = int32((int64(seq) + max(start-o.h.BaseOffset, 0)) % seqPeriod)
			}
			// Each record has its own timestamp here, also where the batch had one for all.
			attrs := o.h.Attributes &^ (batch.AttrCodec | batch.AttrLogAppendTime)
			if plain := c.build.End(attrs, o.h.ProducerID, o.h.ProducerEpoch, seq); len(plain) > 0 {
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

// addSome takes single records.
func (c *frameCutter) addSome(e *dirEntry, o *openBatch, from, to int, records []uint32) error {
	run, end := 0, e.ref.base+int64(e.runs[0].span) // that the next record is in, and the offset behind it
	base, count := int64(0), 0
	last := int64(0)
	flush := func() {
		if count > 0 {
			c.put(e, e.runs[run].seq, c.build.End(0, -1, -1, -1), base, last+1)
			count = 0
		}
	}
	for _, n := range records {
		r, err := c.read.read(o, n)
		if err != nil {
			return damaged(e, err)
		}
		if r.Offset >= end {
			flush()
			for r.Offset >= end {
				if run++; run == to {
					return nil
				}
				end += int64(e.runs[run].span)
			}
		}
		if run < from {
			continue
		}
		if count == 0 {
			base = r.Offset
			c.build.Begin(nil, base, o.h.LeaderEpoch)
		}
		c.build.AddAt(int32(r.Offset-base), r.Timestamp, r.Payload)
		last = r.Offset
		count++
	}
	flush()
	return nil
}

// stop ends at frame last. Of those behind it something may be there: what was looked at began before them.
func (c *frameCutter) stop(last uint64) {
	c.last = last
	maps.DeleteFunc(c.bySeq, func(seq uint64, _ []sealPart) bool { return seq > last })
}

// prune drops the last frames, so that what is left takes about most bytes: at least one frame.
func (c *frameCutter) prune(most int) {
	total := 0
	seqs := slices.Sorted(maps.Keys(c.bySeq))
	for i, seq := range seqs {
		size := 0
		for _, p := range c.bySeq[seq] {
			for _, t := range p.tails {
				size += len(t.data)
			}
		}
		if total+size > most && i > 0 {
			c.stop(seq - 1)
			break
		}
		total += size
	}
	c.bytes = total
}

func damaged(e *dirEntry, cause error) error {
	return &DamageError{File: e.ref.group.file.path, Partition: e.part, First: e.ref.base, Next: e.ref.next(), Cause: cause}
}

func (c *frameCutter) put(e *dirEntry, seq uint64, b []byte, base, next int64) {
	if c.bySeq == nil {
		c.bySeq = make(map[uint64][]sealPart)
	}
	c.bytes += len(b)
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
