package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FS is the seam under the journal, so that tests can tear, lose and fail its writes. Paths are absolute.
type FS interface {
	// Create makes and preallocates a zero-filled file of size bytes, synced with its folder. rest is called between pieces of the
	// work, and returns when the next may be done.
	Create(path string, size int64, rest func()) (File, error)
	Open(path string) (File, error)
	Rename(from, to string) error // synced with its folder
	Remove(path string) error
	List(dir string) ([]string, error)
}

// File is one journal file. Only the committer writes to it.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error // fdatasync
	Size() (int64, error)
	Close() error
}

// Endings of names: half-made files, and what a start set aside because it was damaged.
const (
	tmpSuffix        = ".tmp"
	quarantineSuffix = ".quarantined"
)

// createPiece is how much of a new file is written at once: a commit that comes meanwhile waits for that much, 13 ms on an SD card
// of 10 MB/s.
const createPiece = 128 << 10

// osFS is the operating system's file system.
type osFS struct{}

// Create fills the file with zeros, since blocks that are only reserved change the file's metadata when they are first
// written, which makes every fdatasync on the way of an acknowledgement twice as dear. Each piece is on its way to the disk before
// the next one begins: 16 MiB that a sync writes out at once would hold up all commits meanwhile.
func (osFS) Create(path string, size int64, rest func()) (_ File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	tmp := path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(tmp)
		}
	}()
	zero := make([]byte, min(size, createPiece))
	for off := int64(0); off < size; {
		n, err := f.WriteAt(zero[:min(int64(len(zero)), size-off)], off)
		if err != nil {
			return nil, err
		}
		if err := writeOut(f, off, int64(n)); err != nil {
			return nil, err
		}
		off += int64(n)
		rest()
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func (osFS) Remove(path string) error { return os.Remove(path) }

// List names the files of dir, and removes what a crash left half made.
func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove half-made file: %w", err)
			}
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return fdatasync(f.File) }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// writeFileSynced makes a small file whose content is there after a crash, or no file.
func writeFileSynced(path string, data []byte) (err error) {
	tmp := path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
