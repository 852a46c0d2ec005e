package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"rivulet/storage/batch"
)

// rewriting says how files are rewritten.
type rewriting struct {
	// batch is asked about each batch that counts, partition by partition, in offset order; nil leaves them as they are.
	batch rewriteBatch
	// pause is called between batches, when nothing is held: the place to seal, and to give up, by an error. nil never.
	pause func() error
}

// rewriteBatch says what becomes of one batch: the same one, or one with fewer records, whose offsets are kept, that ends at
// the same offset or, its last records being gone, before; nothing when its data is nil. What it returns may alias b, which it
// must not change. e is what the index says of it.
type rewriteBatch func(part uint32, e *indexEntry, b []byte) (rewritten, error)

// rewritten is what becomes of one batch.
type rewritten struct {
	data    []byte
	clean   bool   // compaction has been here
	settled bool   // and is through with it
	horizon uint32 // store clock, s, until which its tombstones must stay; 0: none
}

// rewrite copies what counts of a row of files, which are of one class and take no groups any more, to one new file, and
// unlinks them. On the way small batches of a partition that follow each other are merged, and each batch may be changed. The
// sealer calls it.
//
// Crash safety: the new file is written under another name, complete, synced, renamed, and names the files that it replaces; a
// start that finds those, too, unlinks them. So at every moment the offsets are in one of the two, or in both and then
// count once. Readers that hold the old index are sent to the new one.
//
// An entry of the new file covers the offsets of all that it was made from, so that offsets stay without gaps in the index
// although records are missing. What is trimmed or deleted meanwhile stays so. Damage that is met ends it: the old files
// stay, since the rest of them can be read. Everything is as it was when an error is returned, but for
// a file that a start may find in place of the old ones, with the same records.
func (l *sealedLog) rewrite(row []*logFile, how rewriting) (err error) {
	if len(row) == 0 {
		return nil
	}
	w := &rewriter{l: l, how: how, row: row, class: row[0].class, m: &l.again}
	w.m.again = true
	defer w.m.free()
	if err := w.load(); err != nil {
		return fmt.Errorf("rewrite %d files of class %s: %w", len(row), w.class, err)
	}
	defer func() {
		if err != nil {
			w.abandon()
			err = fmt.Errorf("rewrite %d files of class %s: %w", len(row), w.class, err)
		}
	}()
	if err := w.create(); err != nil {
		return err
	}
	for _, p := range w.parts {
		if err := w.partition(p); err != nil {
			return err
		}
	}
	if err := w.install(); err != nil {
		return err
	}
	w.publish()
	var failed error
	for _, f := range row {
		if failed == nil {
			failed = l.faults(pointForwardUnlink)
		}
		err := failed
		if err == nil {
			err = l.handles.remove(f)
		}
		if err != nil { // the next start unlinks it, as long as a file says that it is replaced
			l.ghosts[w.class] = append(l.ghosts[w.class], f.number)
			l.log.Warn("unlink log file that was rewritten", "file", f.path, "error", err)
		}
	}
	if failed == nil {
		_ = l.faults(pointForwardDone) // nothing is left that could fail
	}
	return nil
}

// rewritable lists the files of a class that take no more groups, and of which all can be read, in the order of their first frames.
func (l *sealedLog) rewritable(class string) []*logFile {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []*logFile
	first := make(map[*logFile]uint64)
	for _, g := range l.groups {
		if _, seen := first[g.file]; !seen { // groups are in that order
			first[g.file] = g.first
		}
	}
	for _, f := range l.files[class] {
		if f != l.active[class] && f.groups > 0 && !f.unread {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b *logFile) int { return compare(first[a], first[b]) })
	return out
}

// classNames lists the classes that have files.
func (l *sealedLog) classNames() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Sorted(maps.Keys(l.files))
}

// breathe is rewriting.pause of the sealer: it seals when that is due, so that commits do not wait for a file to be rewritten, and
// gives up when the store is closed or cannot seal.
func (s *Store) breathe() error {
	select {
	case <-s.quit:
		return ErrClosed
	default:
	}
	if s.pressed.Swap(false) || s.tailBytes.Load() >= s.o.TailBytes/2 || s.journal.short() {
		if err := s.seal(); err != nil {
			return err
		}
		s.journal.recycle(min(s.sealedKnown, s.applied))
	}
	return nil
}

// endOf is the offset behind a batch.
func endOf(b []byte) (int64, error) {
	h, err := batch.ParseHeader(b)
	return h.NextOffset(), err
}

// rewriter is one rewriting.
type rewriter struct {
	l     *sealedLog
	how   rewriting
	row   []*logFile
	class string
	m     *merger

	info  dirInfo
	dirs  map[*group]*rowDir
	parts []rowPart

	tmp    string
	file   *logFile
	db     *bolt.DB
	made   []madeGroup
	begun  uint64     // key of the group that is under way
	hole   *mergeItem // offsets of which nothing is left, waiting for what follows
	holeOf uint32
	rename bool // was tried
}

// rowPart is what the row holds of a partition.
type rowPart struct {
	id      uint32
	entries []indexEntry
}

// rowDir is a directory in which entries are found by position: their runs would take much memory decoded.
type rowDir struct {
	dir []byte
	at  map[entryKey]uint32
}

type entryKey struct {
	part uint32
	base int64
}

type madeGroup struct {
	group   *group
	entries []dirEntry
}

// load looks up what counts in the row.
func (w *rewriter) load() error {
	l := w.l
	in := make(map[*logFile]bool, len(w.row))
	for _, f := range w.row {
		in[f] = true
		w.info.sealed = max(w.info.sealed, f.sealed)
	}
	l.mu.RLock()
	indexes := make(map[uint32][]indexEntry, len(l.parts))
	for id, p := range l.parts {
		indexes[id] = p.entries
	}
	groups := l.groups
	l.mu.RUnlock()
	for id, entries := range indexes {
		p := rowPart{id: id}
		for i := range entries {
			if in[entries[i].group.file] {
				p.entries = append(p.entries, entries[i])
			}
		}
		if len(p.entries) > 0 {
			w.parts = append(w.parts, p)
		}
	}
	slices.SortFunc(w.parts, func(a, b rowPart) int { return compare(uint64(a.id), uint64(b.id)) })
	w.dirs = make(map[*group]*rowDir)
	for _, g := range groups {
		if !in[g.file] {
			continue
		}
		w.info.upTo = max(w.info.upTo, g.upTo)
		d, err := w.directory(g.group)
		if err != nil {
			g.file.unread = unreadable(err)
			return err
		}
		w.dirs[g.group] = d
	}
	return nil
}

func (w *rewriter) directory(g *group) (*rowDir, error) {
	d := &rowDir{at: make(map[entryKey]uint32)}
	err := w.l.handles.view(g.file, func(groups *bolt.Bucket) error {
		d.dir = directory(groups, g.key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	r, err := readDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	var e dirEntry
	for {
		pos := uint32(len(d.dir) - dirTail - len(r.b))
		more, err := r.next(&e)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if !more {
			return d, nil
		}
		d.at[entryKey{e.part, e.ref.base}] = pos
	}
}

// item reads what the directory says of an entry.
func (w *rewriter) item(part uint32, ref *indexEntry) (mergeItem, error) {
	t := mergeItem{
		tailBatch: tailBatch{base: ref.base, next: ref.next(), at: ref.newest}, oldest: ref.newest,
		flags: ref.flags, horizon: ref.horizon, raw: ref.raw,
	}
	d := w.dirs[ref.group]
	pos, ok := d.at[entryKey{part, ref.base}]
	if !ok {
		return t, fmt.Errorf("BUG: offset %d of partition %d is in no directory", ref.base, part)
	}
	r, err := readDirHead(d.dir[:len(d.dir)-dirTail])
	if err != nil {
		return t, err
	}
	r.b, r.left = d.dir[pos:len(d.dir)-dirTail], 1
	var e dirEntry
	if _, err := r.next(&e); err != nil {
		return t, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if r.version > 1 {
		t.oldest -= e.ref.newest - e.oldest // as a difference: both are relative here
	}
	t.runs = e.runs
	if e.labelled && r.scheme == w.m.labels.Scheme {
		t.labels, t.labelled = e.labels, true
	}
	return t, nil
}

// create makes the new file, under another name.
func (w *rewriter) create() error {
	l := w.l
	number := l.nextNumber()
	w.file = &logFile{
		path:  filepath.Join(l.dir, w.class, fmt.Sprintf("%06d%s", number, logSuffix)),
		class: w.class, number: number, rewritten: true, replaces: slices.Clone(l.ghosts[w.class]),
	}
	for _, f := range w.row {
		w.file.replaces = append(w.file.replaces, f.number)
	}
	w.tmp = w.file.path + tmpSuffix
	if err := l.faults(pointForwardBefore); err != nil {
		return err
	}
	var err error
	if w.db, err = openLog(w.tmp, false, 0); err != nil {
		return err
	}
	w.db.NoSync = true // once, at the end
	return w.db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		var list []byte
		for _, n := range w.file.replaces {
			list = binary.BigEndian.AppendUint32(list, n)
		}
		err = errors.Join(meta.Put(formatKey, []byte{logFormat}), meta.Put(classKey, []byte(w.class)), meta.Put(replacesKey, list))
		if err != nil {
			return err
		}
		_, err = tx.CreateBucket(groupsBucket)
		return err
	})
}

// rewriteGroup is how much data goes into one group of a rewritten file: it is held in memory.
const rewriteGroup = 4 << 20

// partition rewrites what the row holds of one partition.
func (w *rewriter) partition(p rowPart) error {
	for i := range p.entries {
		e := &p.entries[i]
		if err := w.entry(p.id, e); err != nil {
			return fmt.Errorf("partition %d, offset %d: %w", p.id, e.base, err)
		}
		if w.how.pause != nil {
			if err := w.how.pause(); err != nil {
				return err
			}
		}
		if w.m.size >= min(rewriteGroup, w.l.bound/4) {
			if err := w.flush(p.id); err != nil {
				return err
			}
			if err := w.finish(); err != nil {
				return err
			}
		}
	}
	return w.flush(p.id)
}

// entry rewrites one batch.
func (w *rewriter) entry(id uint32, e *indexEntry) error {
	t, err := w.item(id, e)
	if err != nil {
		return err
	}
	if e.size > 0 {
		got, err := w.l.readRun(nil, id, []indexEntry{*e})
		if err != nil {
			if _, damaged := w.l.setAside(err); damaged {
				e.group.file.unread = true
			}
			return err
		}
		t.data = got[0]
		if w.how.batch != nil {
			r, err := w.how.batch(id, e, t.data)
			if err != nil {
				return err
			}
			if t.data, t.horizon = r.data, r.horizon; r.clean {
				t.flags |= flagClean
			}
			if t.flags &^= flagSettled; r.settled {
				t.flags |= flagSettled
			}
		}
	}
	w.begin()
	// What compaction has not been at may lie behind the last stable offset, and must not begin before it.
	if w.hole != nil && (w.holeOf != id || w.hole.next != t.base || t.next-w.hole.base > math.MaxInt32 || t.flags&flagClean == 0) {
		if err := w.flush(w.holeOf); err != nil {
			return err
		}
	}
	if w.hole != nil { // what follows a hole covers it
		span := uint32(t.base - w.hole.base)
		t.base, t.oldest, t.flags = w.hole.base, min(t.oldest, w.hole.oldest), t.flags|flagClean
		if len(t.runs) > 0 {
			t.runs[0].span += span
		}
		w.hole = nil
	}
	if len(t.data) == 0 {
		w.hole, w.holeOf = &t, id
		return nil
	}
	return w.fit(id, t)
}

// fit adds a batch that may end before what it covers: then a hole follows.
func (w *rewriter) fit(id uint32, t mergeItem) error {
	next, err := endOf(t.data)
	if err != nil {
		return err
	}
	if next <= t.base || next > t.next {
		return fmt.Errorf("BUG: offsets up to %d were rewritten as up to %d", t.next, next)
	}
	if next == t.next {
		return w.m.add(id, t)
	}
	t.flags |= flagClean
	rest := t
	rest.base, rest.data, rest.runs = next, nil, nil
	t.next, t.runs = next, slices.Clone(t.runs)
	t.runs, rest.runs = splitRuns(t.runs, next-t.base)
	w.hole, w.holeOf = &rest, id
	return w.m.add(id, t)
}

// splitRuns cuts runs behind span offsets.
func splitRuns(runs []seqRun, span int64) (before, behind []seqRun) {
	for i, r := range runs {
		if int64(r.span) < span {
			span -= int64(r.span)
			continue
		}
		behind = slices.Clone(runs[i:])
		before = runs[:i+1]
		before[i].span = uint32(span)
		if behind[0].span -= uint32(span); behind[0].span == 0 {
			behind = behind[1:]
		}
		break
	}
	return before, behind
}

// begin starts a group if none is under way.
func (w *rewriter) begin() {
	if w.begun == w.key() {
		return
	}
	w.begun = w.key()
	info := w.info
	info.key = w.begun
	w.m.begin(info)
}

// key is that of the next group.
func (w *rewriter) key() uint64 { return uint64(len(w.made)) + 1 }

// flush ends what is being merged.
func (w *rewriter) flush(id uint32) error {
	w.begin()
	if w.hole != nil {
		t := *w.hole
		w.hole = nil
		return w.m.hole(w.holeOf, t)
	}
	return w.m.flush(id)
}

// finish writes the group.
func (w *rewriter) finish() error {
	w.begin()
	if len(w.m.entries) == 0 {
		return nil
	}
	w.m.finish()
	used, written, err := putChunks(w.db, w.m.chunks())
	if err != nil {
		return err
	}
	w.file.used = used
	w.file.groups++
	w.l.mu.Lock()
	w.l.copied += written
	w.l.mu.Unlock()
	w.made = append(w.made, madeGroup{w.m.group(w.file), slices.Clone(w.m.entries)})
	return nil
}

// install makes the new file durable, under its own name.
func (w *rewriter) install() error {
	if err := w.finish(); err != nil {
		return err
	}
	db := w.db
	w.db = nil
	if err := errors.Join(db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := syncFile(w.tmp); err != nil {
		return err
	}
	if err := w.l.faults(pointForwardWritten); err != nil {
		return err
	}
	w.rename = true
	if err := os.Rename(w.tmp, w.file.path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(w.file.path)); err != nil {
		return err
	}
	return w.l.faults(pointForwardRenamed)
}

// abandon removes what was made. If that fails, too, whatever replaces the same files replaces this one.
func (w *rewriter) abandon() {
	if w.db != nil {
		_ = w.db.Close() // it is thrown away
	}
	if w.tmp != "" {
		_ = os.Remove(w.tmp) // the next start does it, too
	}
	if w.rename {
		_ = os.Remove(w.file.path)
		w.l.ghosts[w.class] = append(w.l.ghosts[w.class], w.file.number)
	}
}

// publish puts the new file in the place of the row.
func (w *rewriter) publish() {
	l := w.l
	in := make(map[*logFile]bool, len(w.row))
	for _, f := range w.row {
		in[f] = true
	}
	byPart := make(map[uint32][]indexEntry, len(w.parts))
	groups := make([]*group, 0, len(w.made))
	for _, g := range w.made {
		groups = append(groups, g.group)
		for _, e := range g.entries {
			e.ref.group = g.group
			byPart[e.part] = append(byPart[e.part], e.ref)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range w.row {
		f.moved = true
	}
	for id, entries := range byPart {
		if p := l.parts[id]; p != nil { // else its topic was deleted meanwhile
			p.replace(in, entries)
		}
	}
	files := slices.DeleteFunc(slices.Clone(l.files[w.class]), func(f *logFile) bool { return in[f] })
	if len(groups) > 0 {
		files = append(files, w.file)
	}
	l.files[w.class] = files
	l.groups = newGroupList(append(l.groups.without(func(f *logFile) bool { return in[f] }).list(), groups...))
	for _, g := range groups {
		l.note(g)
	}
}

// replace puts entries in the place of those that lie in the given files. sealedLog.mu is held; readers hold the old slice.
func (p *partIndex) replace(in map[*logFile]bool, entries []indexEntry) {
	merged := make([]indexEntry, 0, len(p.entries))
	for _, e := range p.entries {
		if !in[e.group.file] {
			merged = append(merged, e)
		}
	}
	for i := range entries {
		if entries[i].next() > p.floor { // else it was trimmed meanwhile
			entries[i].group.file.count(&entries[i])
			merged = append(merged, entries[i])
		}
	}
	slices.SortFunc(merged, func(a, b indexEntry) int { return compare(a.base, b.base) })
	p.entries, p.stored = make([]indexEntry, 0, len(merged)), 0
	for _, e := range merged {
		p.append(e)
	}
}
