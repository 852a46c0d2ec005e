package storage

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"rivulet/storage/batch"
)

// DamageError says which stored records cannot be read any more. It is an ErrCorrupt.
type DamageError struct {
	File      string
	Partition uint32
	First     int64 // offsets [First, Next)
	Next      int64
	Cause     error
}

// Error says where the damage is.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: partition %d, offsets %d to %d: %v", e.File, e.Partition, e.First, e.Next-1, e.Cause)
}

// Unwrap makes it an ErrCorrupt.
func (e *DamageError) Unwrap() []error { return []error{ErrCorrupt, e.Cause} }

// read returns copies of whole batches from the one that holds from, up to limit and maxBytes, at least one; each
// checked against its CRC. Where from lies in a gap, it begins behind that. In the place of a batch that cannot be read stands
// one without records.
func (l *sealedLog) read(id uint32, from, limit int64, maxBytes int) ([][]byte, error) {
	for {
		out, err := l.tryRead(id, from, limit, maxBytes)
		if errors.Is(err, errGone) {
			continue // a file was replaced or is past: the index says what there is now
		}
		return out, err
	}
}

func (l *sealedLog) tryRead(id uint32, from, limit int64, maxBytes int) ([][]byte, error) {
	entries := l.index(id)
	entries = entries[at(entries, from):]
	n, total := 0, 0
	for n < len(entries) && entries[n].base < limit && (n == 0 || total+int(entries[n].size) <= maxBytes) {
		total += int(entries[n].size)
		n++
	}
	out := make([][]byte, 0, n)
	for entries = entries[:n]; len(entries) > 0; {
		run := 1
		for run < len(entries) && entries[run].group.file == entries[0].group.file {
			run++
		}
		var err error
		if out, err = l.readRun(out, id, entries[:run]); err != nil {
			damage, ok := l.setAside(err)
			if !ok {
				return nil, err
			}
			run = at(entries, damage.First) + 1
			out = stopgap(out, damage.First, damage.Next)
		}
		entries = entries[run:]
	}
	return out, nil
}

// setAside tells whoever keeps the book that a batch cannot be read; ok is false when err is something else.
func (l *sealedLog) setAside(err error) (damage *DamageError, ok bool) {
	if damage, ok = errors.AsType[*DamageError](err); ok && l.found != nil {
		l.found(damage)
	}
	return damage, ok
}

// readRun appends the batches of entries, which lie in one file, to out.
func (l *sealedLog) readRun(out [][]byte, id uint32, entries []indexEntry) ([][]byte, error) {
	f := entries[0].group.file
	err := l.handles.view(f, func(groups *bolt.Bucket) error {
		for len(entries) > 0 {
			if entries[0].size == 0 {
				out = stopgap(out, entries[0].base, entries[0].next()) // compaction left nothing, and readers must get on
			} else {
				if l.damage.covers(id, entries[0].base, entries[0].next()) {
					return errKnownDamage
				}
				b, err := readBatch(groups, &entries[0])
				if err != nil {
					return err
				}
				out = append(out, b)
			}
			entries = entries[1:]
		}
		return nil
	})
	if err != nil {
		if unreadable(err) {
			err = &DamageError{File: f.path, Partition: id, First: entries[0].base, Next: entries[0].next(), Cause: err}
		}
		return out, err
	}
	return out, nil
}

// errKnownDamage says that the batch was found damaged before: it is not read again at every turn.
var errKnownDamage = fmt.Errorf("%w: known since an earlier read", ErrCorrupt)

// unreadable reports whether err is about the bytes on disk, and not about this process, such as a lack of descriptors.
func unreadable(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, batch.ErrCRC) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.EIO)
}

// readBatch copies one batch and checks that it is the one that the directory names.
func readBatch(groups *bolt.Bucket, e *indexEntry) ([]byte, error) {
	b, err := copyChunks(groups, e.group.key, chunkData, int64(e.pos), int64(e.size))
	if err != nil {
		return nil, err
	}
	if err := batch.Check(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if h, err := batch.ParseHeader(b); err != nil || h.BaseOffset < e.base || h.BaseOffset > e.base && e.flags&flagClean == 0 || h.NextOffset() != e.next() {
		return nil, fmt.Errorf("%w: batch of offsets %d to %d", ErrCorrupt, h.BaseOffset, h.NextOffset()-1)
	}
	return b, nil
}
