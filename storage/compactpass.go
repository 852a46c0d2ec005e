package storage

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

const (
	// compactStepBytes is what one step of a compaction reads before the sealer looks after its other work.
	compactStepBytes = 8 << 20
	// compactRetry is how long a compaction that failed is left alone.
	compactRetry = time.Minute
)

// compactor is the sealer's: what it knows between the steps of a compaction, and of the ones before.
type compactor struct {
	now   *compaction
	tried map[uint32]compactTry
	after time.Time // no new one before, since the last one failed
}

// compactTry is what a compaction found of a partition: while that is so, and no tombstone's time ends, another one would find the
// same.
type compactTry struct {
	first, end int64
	now        uint32 // store clock, s
}

// compactStep does a bounded part of what is due; more says that there is more. The sealer calls it.
func (s *Store) compactStep() (more bool) {
	if s.compact.now == nil {
		if s.o.Now().Before(s.compact.after) {
			return false
		}
		if s.compact.now = s.planCompaction(); s.compact.now == nil {
			return false
		}
	}
	more, err := s.compact.now.step(s)
	switch {
	case errors.Is(err, errGone):
		return true // a file was replaced meanwhile: look again
	case errors.Is(err, ErrClosed):
		return false
	case err != nil:
		s.o.Log.Warn("cannot compact; trying again in a minute", "err", err)
		s.compact.now, s.compact.after = nil, s.o.Now().Add(compactRetry)
		return false
	case !more:
		s.endCompaction()
		return true // the table may have been too small for all
	}
	return true
}

// planCompaction picks the partitions in which enough is new. Nil: none.
func (s *Store) planCompaction() *compaction {
	now := s.clock.now()
	var c *compaction
	for _, t := range s.topics.Load().sorted {
		if !t.Policy.Compact {
			continue
		}
		for _, p := range t.Partitions {
			_, stable, _ := p.Offsets()
			entries := s.sealed.index(p.ID)
			if len(entries) == 0 {
				continue
			}
			r := compactable(entries, stable, t.Policy.CompactionLagMs, now)
			if last, ok := s.compact.tried[p.ID]; ok && last.first == r.first && last.end == r.end && !expiredSince(entries, last.now, now) {
				continue
			}
			if !r.due(t.Policy.DirtyRatio) {
				continue
			}
			if c == nil {
				c = newCompaction(s.o.CompactBytes, now)
			}
			c.add(p, r, t.Policy, entries[len(entries)-1].next()-1)
		}
	}
	return c
}

// expiredSince reports whether the time of some tombstones ended between two times, s and ms of the store's clock.
func expiredSince(entries []indexEntry, since uint32, now int64) bool {
	return slices.ContainsFunc(entries, func(e indexEntry) bool { return e.horizon > since && int64(e.horizon) <= now/1000 })
}

func newCompaction(bytes, now int64) *compaction {
	return &compaction{
		keys: newKeyMap(bytes), parts: make(map[uint32]*compactPart), done: make(map[*logFile]bool),
		now: uint32(min(max(now/1000, 0), math.MaxUint32)),
	}
}

func (c *compaction) add(p *Partition, r compactRatio, policy Policy, last int64) {
	cp := &compactPart{
		part: p, id: p.ID, topic: p.topic, first: r.first, noted: r.first, end: r.end, limit: r.end, last: last,
		aborted:    abortedBy(p.Aborted(0, r.end)),
		tombstones: uint32(min((max(policy.TombstoneMs, 0)+999)/1000, math.MaxUint32/2)),
	}
	c.parts[p.ID] = cp
	c.noting = append(c.noting, cp)
}

// step reads keys, or takes one file.
func (c *compaction) step(s *Store) (more bool, err error) {
	for budget := compactStepBytes; len(c.noting) > 0; {
		n, err := c.noteNext(s.sealed)
		if err != nil {
			return false, err
		}
		if budget -= n; budget <= 0 {
			return true, nil
		}
	}
	if !c.listed {
		c.files, c.listed = c.listFiles(s.sealed), true
	}
	if len(c.files) == 0 {
		return false, nil
	}
	f := c.files[0]
	if err := c.file(s, f); err != nil {
		return false, err
	}
	c.files = c.files[1:]
	return len(c.files) > 0, nil
}

// noteNext notes the keys of the next entry of the first partition that is not through; it returns the bytes that it read.
func (c *compaction) noteNext(l *sealedLog) (read int, err error) {
	p := c.noting[0]
	entries := l.index(p.id)
	i := at(entries, p.noted)
	if i == len(entries) || entries[i].next() > p.end {
		p.end = p.noted
		c.noting = c.noting[1:]
		return 0, nil
	}
	e := entries[i]
	if e.size == 0 {
		p.noted = e.next()
		return 0, nil
	}
	set, err := l.readRun(nil, p.id, entries[i:i+1])
	if _, damaged := l.setAside(err); damaged {
		p.noted = e.next() // what supersedes something in there is not known, so it stays
		return int(e.size), nil
	}
	if err != nil {
		return 0, err
	}
	full, err := c.noteBatch(p, set[0], &e)
	if err != nil {
		return 0, err
	}
	if full {
		// The next compaction goes on from here.
		for _, o := range c.noting {
			if o.end = o.noted; o.end == o.first && o.dirty() {
				delete(c.parts, o.id)
			}
		}
		c.noting = nil
		return int(e.size), nil
	}
	p.noted = e.next()
	return int(e.size), nil
}

// noteBatch notes one batch's keys. A batch that alone has more keys than the table has room gets a table that holds them: such a batch
// is bounded by max.message.bytes.
func (c *compaction) noteBatch(p *compactPart, b []byte, e *indexEntry) (full bool, err error) {
	first := c.keys.used == 0
	ok, err := c.note(p, b)
	if err != nil {
		return false, fmt.Errorf("compact %s, offset %d: %w", p, e.base, err)
	}
	if ok || !first {
		return !ok, nil
	}
	c.keys = newKeyMap(2 * keySlotBytes * int64(e.records))
	if ok, err = c.note(p, b); err == nil && !ok {
		err = fmt.Errorf("BUG: a table for %d records has no room for their keys", e.records)
	}
	return false, err
}

// dirty reports whether the partition was chosen for what is new in it, and not for tombstones alone.
func (p *compactPart) dirty() bool { return p.first < p.limit }

// listFiles returns the files that hold entries of the partitions before their ends: those with the oldest first, so that few
// entries have to wait for a file behind theirs.
func (c *compaction) listFiles(l *sealedLog) []*logFile {
	oldest := make(map[*logFile]int64)
	for id, p := range c.parts {
		entries := l.index(id)
		for i := range entries {
			e := &entries[i]
			if e.next() > p.end {
				break
			}
			if e.size == 0 {
				continue
			}
			f := e.group.file
			if at, ok := oldest[f]; !ok || e.base < at {
				oldest[f] = e.base
			}
		}
	}
	files := make([]*logFile, 0, len(oldest))
	for f := range oldest {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *logFile) int {
		return cmp.Or(cmp.Compare(oldest[a], oldest[b]), cmp.Compare(a.number, b.number), cmp.Compare(a.class, b.class))
	})
	return files
}

// file looks through one file, and rewrites it when something in it can go or becomes settled.
func (c *compaction) file(s *Store, f *logFile) error {
	l := s.sealed
	if f.unread {
		return nil
	}
	settled := c.settledIn(l, f)
	need, err := c.needs(l, f, settled)
	if err != nil {
		return err
	}
	if !need {
		c.done[f] = true
		return nil
	}
	if f == l.active[f.class] {
		if err := l.retire(f.class); err != nil {
			return err
		}
	}
	removed := make(map[uint32]int)
	err = l.rewrite([]*logFile{f}, rewriting{pause: s.breathe, batch: func(id uint32, e *indexEntry, b []byte) (rewritten, error) {
		p := c.parts[id]
		if p == nil || e.next() > p.end {
			return rewritten{data: b, settled: e.flags&flagSettled != 0, horizon: e.horizon}, nil
		}
		res, err := c.thin(p, e, b, true)
		if err != nil {
			return rewritten{}, fmt.Errorf("compact %s: %w", p, err)
		}
		removed[id] += res.dropped
		in := e.flags&flagSettled != 0 || e.base < settled[id]
		return rewritten{data: res.batch, clean: true, settled: in, horizon: c.horizon(p, e, res, in)}, nil
	}})
	if f.unread { // damage: what lies behind it stays as it is
		return nil
	}
	if err != nil {
		return err
	}
	for _, o := range l.files[f.class] {
		if slices.Contains(o.replaces, f.number) {
			c.done[o] = true
		}
	}
	for id, n := range removed { // at once: what comes behind may fail
		c.removed += n
		s.dropped.add(c.parts[id].topic, DropCompacted, uint64(n))
	}
	return nil
}

// horizon is until when an entry's tombstones stay. Their time begins when the entry is settled: then nothing of their keys is left
// before them.
func (c *compaction) horizon(p *compactPart, e *indexEntry, res cleaned, settled bool) uint32 {
	switch {
	case !res.tombstones || !settled:
		return 0
	case e.flags&flagSettled != 0 && e.horizon != 0:
		return e.horizon
	}
	return max(c.now+p.tombstones, 1)
}

// settledIn returns for each partition up to which offset the entries of f may become settled: all before are in f, or in files
// that are done.
func (c *compaction) settledIn(l *sealedLog, f *logFile) map[uint32]int64 {
	out := make(map[uint32]int64, len(c.parts))
	for id, p := range c.parts {
		out[id] = p.end
		for _, e := range l.index(id) {
			if o := e.group.file; e.size > 0 && o != f && !c.done[o] {
				out[id] = min(p.end, e.base)
				break
			}
		}
	}
	return out
}

// needs reports whether f is to be rewritten.
func (c *compaction) needs(l *sealedLog, f *logFile, settled map[uint32]int64) (bool, error) {
	for _, id := range slices.Sorted(maps.Keys(c.parts)) {
		p := c.parts[id]
		entries := l.index(id)
		for i := range entries {
			e := &entries[i]
			if e.next() > p.end {
				break
			}
			if e.size == 0 || e.group.file != f {
				continue
			}
			if e.flags&flagSettled == 0 && e.base < settled[id] {
				return true, nil
			}
			set, err := l.readRun(nil, id, entries[i:i+1])
			if _, damaged := l.setAside(err); damaged {
				continue
			}
			if err != nil {
				return false, err
			}
			res, err := c.thin(p, e, set[0], false)
			if err != nil {
				return false, fmt.Errorf("compact %s, offset %d: %w", p, e.base, err)
			}
			if res.batch == nil || res.removed > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// endCompaction keeps the books of one that is through.
func (s *Store) endCompaction() {
	c := s.compact.now
	s.compact.now = nil
	if s.compact.tried == nil {
		s.compact.tried = make(map[uint32]compactTry)
	}
	for id, p := range c.parts {
		part := s.partition(id)
		delete(s.compact.tried, id)
		if part == nil {
			continue // its topic was deleted meanwhile
		}
		t, ok := s.Topic(part.topic)
		if !ok {
			continue
		}
		_, stable, _ := part.Offsets()
		r := compactable(s.sealed.index(id), stable, t.Policy.CompactionLagMs, s.clock.now())
		if p.end < p.limit || r.first > p.first && r.first < r.end {
			continue // it came further, and there is more
		}
		s.compact.tried[id] = compactTry{first: r.first, end: r.end, now: c.now}
	}
	s.o.Log.Debug("compacted", "partitions", len(c.parts), "files", len(c.done), "removed", c.removed)
}
