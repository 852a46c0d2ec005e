package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Verify reads a closed store: every batch's checksum, every index, every journal frame, every upload. It changes nothing. What it finds is
// in the problems; an error says that it could not look. Errors: ErrLocked, ErrNoStore, ErrRestoring.
func Verify(ctx context.Context, dir string) (problems []Problem, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("verify store: %w", err)
	}
	if err := storeIn(dir); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("verify store: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	o := Options{Dir: dir}.withDefaults()
	v := &verifier{
		ctx: ctx, o: o, topics: make(map[uint32]string), starts: make(map[uint32]int64),
		ends: make(map[uint32]int64), sealEnds: make(map[uint32]int64),
	}
	if _, err := readVersion(dir); versionLost(err) {
		v.report(filepath.Join(dir, versionFile), "", "file", "%v", err)
	} else if err != nil {
		return nil, fmt.Errorf("verify store: %w", err)
	}
	for _, look := range []func() error{v.setAside, v.meta, v.sealed, v.journal, v.missing, v.uploads} {
		if err := ctx.Err(); err != nil {
			return v.problems, err
		}
		if err := look(); err != nil {
			return v.problems, fmt.Errorf("verify store %s: %w", dir, err)
		}
	}
	return v.problems, nil
}

// verifier walks through a store in the order of recovery.
type verifier struct {
	ctx      context.Context
	o        Options
	problems []Problem

	topics   map[uint32]string // by partition
	starts   map[uint32]int64  // log starts that were moved, by partition
	gaps     []offsetGap
	ends     map[uint32]int64 // offset behind the last batch seen, by partition
	sealEnds map[uint32]int64 // that of the last sealed one
	applied  uint64
	sealedTo uint64
}

// offsetGap is offsets between two batches. It is a loss only if they are behind the log start, which the journal's last frame may tell:
// a file of several partitions stays as long as one of them needs it, so that files before a start go in any order.
type offsetGap struct {
	partition uint32
	next      int64 // offset behind it
	problem   Problem
}

func (v *verifier) gap(file string, id uint32, next int64, where, format string, args ...any) {
	v.gaps = append(v.gaps, offsetGap{id, next, Problem{File: file, Where: where, Detail: fmt.Sprintf(format, args...)}})
}

// missing reports the gaps that are losses.
func (v *verifier) missing() error {
	for _, g := range v.gaps {
		topic := v.topics[g.partition]
		if deleted := topic == "" && len(v.topics) > 0; !deleted && g.next > v.starts[g.partition] {
			g.problem.Topic = topic
			v.problems = append(v.problems, g.problem)
		}
	}
	return nil
}

func (v *verifier) report(file, topic, where, format string, args ...any) {
	v.problems = append(v.problems, Problem{File: file, Topic: topic, Where: where, Detail: fmt.Sprintf(format, args...)})
}

// setAside reports what earlier starts quarantined.
func (v *verifier) setAside() error {
	return filepath.WalkDir(v.o.Dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, quarantineSuffix) {
			v.report(path, "", "file", "was set aside by an earlier start")
		}
		return nil
	})
}

// uploads checks the plugins' modules.
func (v *verifier) uploads() error {
	checkUploads(v.ctx, v.o.Dir, func(path string, err error) { v.report(path, "", "upload", "%v", err) })
	return v.ctx.Err()
}

// meta checks meta.db's pages and every value's checksum.
func (v *verifier) meta() (err error) {
	path := filepath.Join(v.o.Dir, "meta.db")
	m := &metaDB{path: path}
	db, err := openBolt(path, &bolt.Options{ReadOnly: true})
	if errors.Is(err, ErrCorrupt) || errors.Is(err, os.ErrNotExist) {
		v.report(path, "", "file", "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	m.db = db
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.readSeq(); err != nil {
		v.report(path, "", "file", "%v", err)
		return nil
	}
	v.applied = m.seq
	v.pages(path, db)
	err = viewBolt(db, func(tx *bolt.Tx) error {
		return tx.Bucket(spacesBucket).ForEachBucket(func(space []byte) error {
			b := tx.Bucket(spacesBucket).Bucket(space)
			return b.ForEach(func(k, raw []byte) error {
				val, err := value(b, k, raw)
				if err != nil {
					v.report(path, "", fmt.Sprintf("%s/%q", space, k), "%v", err)
					return nil
				}
				v.known(Put{Space: string(space), Key: string(k), Value: val})
				return nil
			})
		})
	})
	if err != nil {
		v.report(path, "", "file", "%v", err)
	}
	return nil
}

// pages checks the structure of a bbolt file.
func (v *verifier) pages(path string, db *bolt.DB) {
	if err := walkPages(db); err != nil {
		v.report(path, "", "pages", "%v", err)
	}
}

// sealed checks every log file: pages, directories, batches, and that offsets follow each other.
func (v *verifier) sealed() (err error) {
	l := newSealedLog(v.o)
	defer func() { err = errors.Join(err, l.close()) }()
	problems, err := l.loadClasses(false)
	v.problems = append(v.problems, problems...)
	if err != nil {
		return err
	}
	v.sealedTo = max(v.sealedTo, l.sealedSeq())
	for _, files := range l.files {
		for _, f := range files {
			if err := v.ctx.Err(); err != nil {
				return err
			}
			db, err := l.handles.acquire(f)
			if err != nil {
				continue // reported when it was loaded
			}
			v.pages(f.path, db)
			l.handles.release(f)
		}
	}
	for _, id := range l.ids() {
		if v.topics[id] == "" && len(v.topics) > 0 {
			continue // of a deleted topic: what is left of it is in files that others need
		}
		if err := v.ctx.Err(); err != nil {
			return err
		}
		v.partition(l, id)
	}
	return nil
}

// partition reads every sealed batch of a partition.
func (v *verifier) partition(l *sealedLog, id uint32) {
	entries := l.index(id)
	var d recordCounter
	for i := range entries {
		e := &entries[i]
		if i > 0 && e.base != entries[i-1].next() {
			v.gap(e.group.file.path, id, e.base, fmt.Sprintf("partition %d", id), "offsets %d to %d are missing", entries[i-1].next(), e.base-1)
		}
		if e.size == 0 {
			continue // compaction left nothing
		}
		got, err := l.readRun(nil, id, entries[i:i+1])
		if err == nil {
			err = d.check(got[0], e)
		}
		if err != nil {
			v.report(e.group.file.path, v.topics[id], fmt.Sprintf("partition %d, offsets %d to %d", id, e.base, e.next()-1), "%v", err)
		}
	}
	v.ends[id] = entries[len(entries)-1].next()
	v.sealEnds[id] = v.ends[id]
}
