package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// pageSize is that of our bbolt files, whatever the system's is: larger ones cost two to three times the writes.
const pageSize = 4096

// openBolt opens a bbolt file with o and what all of our files have in common. Damage, for which bbolt panics here and there, is an
// ErrCorrupt; so is nothing else, since files are set aside for it.
func openBolt(path string, o *bolt.Options) (db *bolt.DB, err error) {
	var file *os.File
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	defer func() {
		if db == nil && file != nil && errors.Is(err, ErrCorrupt) {
			// bbolt closes it when it fails, but not when it panics. The memory map, which stays, would keep its lock.
			unlockFile(file)
			_ = file.Close() // bbolt may have closed it
		}
	}()
	defer catchDamage(&err)()
	o.PageSize = pageSize
	o.FreelistType = bolt.FreelistMapType
	o.NoStatistics = true
	o.Timeout = time.Second // a lock that someone else holds is an error, not a wait
	if info, err := os.Stat(path); err == nil && info.Size() < 4*pageSize && (info.Size() > 0 || o.ReadOnly) {
		return nil, fmt.Errorf("open %s: %w: file of %d bytes", path, ErrCorrupt, info.Size())
	}
	db, err = bolt.Open(path, 0o600, o)
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrCorrupt, err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// viewBolt is db.View with damage as an ErrCorrupt.
func viewBolt(db *bolt.DB, fn func(tx *bolt.Tx) error) (err error) {
	defer catchDamage(&err)()
	return db.View(fn)
}

// updateBolt is db.Update with damage as an ErrCorrupt.
func updateBolt(db *bolt.DB, fn func(tx *bolt.Tx) error) (err error) {
	defer catchDamage(&err)()
	return db.Update(fn)
}

// walkPages visits every page of a file that buckets and keys lie in. bbolt does that in goroutines of its own, where a panic for a
// damaged page ends the process: in Open for writing, when the freelist is not kept, and in Tx.Check. So whoever does the
// first walks before, and nobody does the second.
func walkPages(db *bolt.DB) error {
	return viewBolt(db, func(tx *bolt.Tx) error {
		var walk func(b *bolt.Bucket, depth int) error
		walk = func(b *bolt.Bucket, depth int) error {
			if depth > 4 { // ours are two deep; damage may make circles
				return fmt.Errorf("%w: buckets in buckets", ErrCorrupt)
			}
			var last []byte
			return b.ForEach(func(k, v []byte) error {
				if last != nil && bytes.Compare(last, k) >= 0 {
					return fmt.Errorf("%w: keys out of order", ErrCorrupt)
				}
				last = append(last[:0], k...)
				if v != nil {
					return nil
				}
				nested := b.Bucket(k)
				if nested == nil {
					return fmt.Errorf("%w: a bucket is missing", ErrCorrupt)
				}
				return walk(nested, depth+1)
			})
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if b == nil {
				return fmt.Errorf("%w: bucket %q is missing", ErrCorrupt, name)
			}
			return walk(b, 1)
		})
	})
}

// catchDamage makes an error of the panics by which bbolt and the memory map answer damaged pages and files that were cut
// off. Defer what it returns.
func catchDamage(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: bbolt: %v", ErrCorrupt, r)
		}
	}
}

// syncFile makes a file that was written by other means durable.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
