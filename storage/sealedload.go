package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// loadedFile is what a file's directories say.
type loadedFile struct {
	file   *logFile
	groups []loadedGroup
	damage error // why not all of it could be read
	where  string
}

type loadedGroup struct {
	*group
	entries []dirEntry
}

// load reads the directories of a file; the batches themselves are checked when they are read. Damage is in the result:
// an error is anything else, such as a lack of descriptors, for which no file may be set aside.
func (l *sealedLog) load(f *logFile) (*loadedFile, error) {
	out := &loadedFile{file: f}
	err := l.handles.view(f, func(groups *bolt.Bucket) error {
		tx := groups.Tx()
		if err := l.checkMeta(tx, f.class); err != nil {
			return err
		}
		f.used = tx.Size()
		list := tx.Bucket(metaBucket).Get(replacesKey)
		f.rewritten = list != nil
		for ; len(list) >= 4; list = list[4:] {
			f.replaces = append(f.replaces, binary.BigEndian.Uint32(list))
		}
		return eachGroup(groups, func(key uint64) error {
			g, err := loadGroup(f, groups, key)
			if errors.Is(err, ErrNewerFormat) {
				return err
			}
			if err != nil {
				// The groups behind it may be whole.
				out.damage, out.where = err, fmt.Sprintf("group %d", key)
				return nil
			}
			f.groups++
			f.key = key
			out.groups = append(out.groups, g)
			return nil
		})
	})
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	if err != nil {
		out.damage, out.where = err, "file"
	}
	return out, nil
}

// withoutReplaced drops the files that another one replaces, unless that one is damaged or itself replaced: a crash came before
// they were unlinked. With repair, it does that now.
func (l *sealedLog) withoutReplaced(class string, files []*loadedFile, repair bool) ([]*loadedFile, error) {
	replaced := make(map[uint32]bool)
	for _, d := range slices.Backward(files) {
		if d.damage != nil || replaced[d.file.number] {
			continue
		}
		for _, n := range d.file.replaces {
			replaced[n] = true
		}
	}
	kept := files[:0:0]
	l.files[class] = nil
	for _, d := range files {
		if !replaced[d.file.number] {
			kept = append(kept, d)
			l.files[class] = append(l.files[class], d.file)
			continue
		}
		if !repair {
			continue
		}
		if err := l.handles.remove(d.file); err != nil {
			return nil, fmt.Errorf("unlink %s, which was rewritten: %w", d.file.path, err)
		}
	}
	return kept, nil
}

func (l *sealedLog) checkMeta(tx *bolt.Tx, class string) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%w: no meta", ErrCorrupt)
	}
	format := meta.Get(formatKey)
	if len(format) != 1 {
		return fmt.Errorf("%w: no format", ErrCorrupt)
	}
	if format[0] > logFormat {
		if l.versioned {
			return fmt.Errorf("%w: format %d", ErrCorrupt, format[0])
		}
		return ErrNewerFormat
	}
	if got := string(meta.Get(classKey)); got != class {
		return fmt.Errorf("%w: file of class %q", ErrCorrupt, got)
	}
	return nil
}

// eachGroup calls fn for every group of a file, ascending.
func eachGroup(groups *bolt.Bucket, fn func(key uint64) error) error {
	c := groups.Cursor()
	for k, _ := c.First(); k != nil; {
		if len(k) != 13 {
			return fmt.Errorf("%w: key of %d bytes", ErrCorrupt, len(k))
		}
		key := binary.BigEndian.Uint64(k)
		if err := fn(key); err != nil {
			return err
		}
		if key++; key == 0 {
			return nil
		}
		k, _ = c.Seek(chunkKey(key, 0, 0))
	}
	return nil
}

func loadGroup(f *logFile, groups *bolt.Bucket, key uint64) (g loadedGroup, err error) {
	// A page of this group alone may be damaged.
	defer catchDamage(&err)()
	r, err := readDir(directory(groups, key))
	if errors.Is(err, ErrNewerFormat) {
		return g, err
	}
	if err != nil {
		return g, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if r.key != key {
		return g, fmt.Errorf("%w: directory of group %d", ErrCorrupt, r.key)
	}
	g.group = &group{dirInfo: r.dirInfo, file: f}
	if r.version == 1 {
		g.first = math.MaxUint64
	}
	var runs []seqRun
	var labels []uint32
	for {
		e := dirEntry{runs: runs, labels: labels}
		more, err := r.next(&e)
		if err != nil {
			return g, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if !more {
			return g, nil
		}
		if n := len(e.runs); r.version == 1 && n > 0 {
			g.first, g.last = min(g.first, e.runs[0].seq), max(g.last, e.runs[n-1].seq)
		}
		runs, e.runs = e.runs, nil // many, and needed by frames only, which reads them again
		labels, e.labels = e.labels, nil
		g.entries = append(g.entries, e)
	}
}

// quarantine renames a damaged file, after what can be read of it was copied to a new one: the rest of a group of files
// must not be lost because of one page.
func (l *sealedLog) quarantine(d *loadedFile) error {
	f := d.file
	files := l.files[f.class]
	if len(d.groups) > 0 {
		to, err := l.createLog(f.class)
		if err != nil {
			return err
		}
		if err := l.copyGroups(d, to); err != nil {
			return fmt.Errorf("salvage %s: %w", f.path, err)
		}
		files = append(files, to)
		l.move(f, to)
	}
	kept := files[:0:0]
	for _, o := range files {
		if o != f {
			kept = append(kept, o)
		}
	}
	l.files[f.class] = kept
	l.handles.mu.Lock()
	f.gone = true
	err := l.handles.closeLocked(f)
	l.handles.mu.Unlock()
	if err != nil {
		l.log.Warn("close damaged log file", "file", f.path, "error", err)
	}
	if err := os.Rename(f.path, f.path+quarantineSuffix); err != nil {
		return fmt.Errorf("quarantine %s: %w", f.path, err)
	}
	return syncDir(filepath.Dir(f.path))
}

// copyGroups copies the readable groups of d, chunk by chunk, in one transaction a group.
func (l *sealedLog) copyGroups(d *loadedFile, to *logFile) error {
	db, err := l.handles.write(to)
	if err != nil {
		return err
	}
	defer l.handles.release(to)
	for _, g := range d.groups {
		var chunks []keyedChunk
		err := l.handles.view(d.file, func(groups *bolt.Bucket) error {
			c := groups.Cursor()
			for k, _ := c.Seek(chunkKey(g.key, 0, 0)); k != nil && binary.BigEndian.Uint64(k) == g.key; k, _ = c.Next() {
				chunks = append(chunks, keyedChunk{append([]byte(nil), k...), append([]byte(nil), chunk(groups, k)...)})
			}
			return nil
		})
		if err != nil {
			// Some of its pages are damaged: what was copied stays, the rest is found missing when it is read.
			l.log.Error("salvage group", "file", d.file.path, "group", g.key, "error", err)
		}
		if to.used, _, err = putChunks(db, chunks); err != nil {
			return err
		}
		to.groups++
	}
	return l.handles.retire(to)
}

// move points the index at another file. Nobody reads yet.
func (l *sealedLog) move(from, to *logFile) {
	for _, g := range l.groups {
		if g.file == from {
			g.file = to
		}
	}
	from.live, to.live = 0, to.live+from.live
	from.liveBytes, to.liveBytes = 0, to.liveBytes+from.liveBytes
	to.bytes += from.bytes
	to.sealed = max(to.sealed, from.sealed)
}
