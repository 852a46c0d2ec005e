package storage

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// openDir is a group's directory, decoded; it is immutable.
type openDir struct{ entries []dirEntry }

// entrySize is what an entry takes in memory, about.
const entrySize = 192

// directory returns a group's directory.
func (l *sealedLog) directory(g *group) (*openDir, error) {
	return opened(l.cache, directoryKey(g), func() (*openDir, int64, error) {
		var dir []byte
		err := l.handles.view(g.file, func(groups *bolt.Bucket) error {
			dir = directory(groups, g.key)
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
		return openDirectory(dir, g)
	})
}

func openDirectory(dir []byte, g *group) (d *openDir, size int64, err error) {
	r, err := readDir(dir)
	if errors.Is(err, ErrNewerFormat) {
		return nil, 0, err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	d = &openDir{}
	var e dirEntry
	var runs []seqRun
	var labels []uint32
	for {
		more, err := r.next(&e)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if !more {
			break
		}
		o := e
		o.ref.group = g
		o.runs, o.labels = carve(&runs, e.runs), carve(&labels, e.labels)
		d.entries = append(d.entries, o)
		size += 16*int64(len(e.runs)) + 4*int64(len(e.labels))
	}
	return d, size + entrySize*int64(cap(d.entries)), nil
}

// carve copies s to the end of a piece of memory that many share, or to a new one.
func carve[T any](from *[]T, s []T) []T {
	if cap(*from)-len(*from) < len(s) {
		*from = make([]T, 0, max(1024, len(s)))
	}
	n := len(*from)
	*from = append(*from, s...)
	return (*from)[n:len(*from):len(*from)]
}

// eachLive calls fn for the entries of a group that count, hold a batch, and may hold something that is wanted. fn may keep them and
// must not change them.
func (l *sealedLog) eachLive(g *group, w *wanted, fn func(e *dirEntry) error) error {
	d, err := l.directory(g)
	if unreadable(err) {
		return l.eachUndirected(g, w, fn)
	}
	if err != nil {
		return fmt.Errorf("read directory of group %d of %s: %w", g.key, g.file.path, err)
	}
	part, entries := uint32(0), []indexEntry(nil)
	for i := range d.entries {
		e := &d.entries[i]
		if e.ref.size == 0 || w != nil && !w.entry(g, e) {
			continue
		}
		if entries == nil || e.part != part {
			part, entries = e.part, l.index(e.part)
		}
		k := at(entries, e.ref.base)
		if k == len(entries) || entries[k].group != g || entries[k].base != e.ref.base {
			continue // past, or held by another group
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// eachUndirected is eachLive for a group whose directory cannot be read any more, although it could when the file was opened: which
// frame committed what is unknown, so all of it counts as the last one's. Who read a part of the group gets that part again.
func (l *sealedLog) eachUndirected(g *group, w *wanted, fn func(e *dirEntry) error) error {
	l.log.Error("a directory of the log is damaged; its batches are read as one frame", "file", g.file.path, "group", g.key)
	for _, id := range l.ids() {
		for _, ref := range l.index(id) {
			if ref.group != g || ref.size == 0 {
				continue
			}
			e := &dirEntry{part: id, ref: ref, runs: []seqRun{{seq: g.last, span: ref.span}}}
			if w != nil && !w.entry(g, e) {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return nil
}
