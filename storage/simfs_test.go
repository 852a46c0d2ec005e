package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// simFS is a file system in memory whose writes reach the disk only when they are synced. crash keeps what was synced and,
// of what was not, what the random source likes: nothing, all, or sectors here and there, as a disk does.
type simFS struct {
	mu     sync.Mutex
	files  map[string]*simFile // by path; the folder is synced by every operation, as FS promises
	sector int

	// fail is asked before every operation; what it returns happens instead. A failed sync keeps the pages readable but they
	// are never written, as on Linux.
	fail  func(op, path string) error
	done  func(op, path string) error // the same, asked behind an operation that took place
	calls map[string]int
	space int64 // bytes that may still be preallocated; negative: no bound
	torn  bool  // crash kept a part of what was written between two syncs
}

// simFile is one file: what is on the disk, and what the page cache holds over it.
type simFile struct {
	fs    *simFS
	disk  []byte
	cache map[int64][]byte // dirty sectors
	lost  map[int64][]byte // sectors whose sync failed: they can be read, and are gone after a crash
	path  string
}

var errSimSync = errors.New("simulated failure of a sync")

func newSimFS() *simFS {
	return &simFS{files: map[string]*simFile{}, sector: 512, calls: map[string]int{}, space: -1}
}

// allow counts an operation and asks fail. mu is held.
func (s *simFS) allow(op, path string) error {
	s.calls[op]++
	if s.fail != nil {
		return s.fail(op, path)
	}
	return nil
}

// did asks done. mu is held.
func (s *simFS) did(op, path string) error {
	if s.done != nil {
		return s.done(op, path)
	}
	return nil
}

func (s *simFS) Create(path string, size int64, _ func()) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allow("create", path); err != nil {
		return nil, err
	}
	if s.space >= 0 {
		if s.space < size {
			return nil, &fs.PathError{Op: "create", Path: path, Err: syscall.ENOSPC}
		}
		s.space -= size
	}
	if s.files[path] != nil {
		panic(fmt.Sprintf("BUG: %s exists", path))
	}
	f := &simFile{fs: s, disk: make([]byte, size), cache: map[int64][]byte{}, lost: map[int64][]byte{}, path: path}
	s.files[path] = f
	return f, s.did("create", path)
}

func (s *simFS) Open(path string) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allow("open", path); err != nil {
		return nil, err
	}
	f := s.files[path]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (s *simFS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allow("rename", from); err != nil {
		return err
	}
	f := s.files[from]
	if f == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if s.files[to] != nil {
		panic(fmt.Sprintf("BUG: rename over %s", to))
	}
	delete(s.files, from)
	s.files[to], f.path = f, to
	return s.did("rename", from)
}

func (s *simFS) Remove(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allow("remove", path); err != nil {
		return err
	}
	f := s.files[path]
	if f == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	delete(s.files, path)
	if s.space >= 0 {
		s.space += int64(len(f.disk))
	}
	return s.did("remove", path)
}

func (s *simFS) List(dir string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allow("list", dir); err != nil {
		return nil, err
	}
	var names []string
	for path := range s.files {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// crash loses what was not synced, but for what r keeps of it, and returns the file system as the next start finds it. The old
// one must not be used any more: its operations fail.
func (s *simFS) crash(r *rand.Rand) *simFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashLocked(r)
}

func (s *simFS) crashLocked(r *rand.Rand) *simFS {
	next := newSimFS()
	next.sector, next.space = s.sector, s.space
	for path, f := range s.files {
		g := &simFile{fs: next, disk: slices.Clone(f.disk), cache: map[int64][]byte{}, lost: map[int64][]byte{}, path: path}
		mode := r.IntN(3)
		kept, gone := false, false
		for _, dirty := range []map[int64][]byte{f.lost, f.cache} {
			for _, at := range sortedKeys(dirty) {
				if mode == 0 || mode == 1 && r.IntN(2) == 0 {
					gone = true
					continue
				}
				kept = true
				copy(g.disk[at:], dirty[at])
			}
		}
		next.torn = next.torn || kept && gone
		next.files[path] = g
	}
	s.fail = func(string, string) error { return errors.New("the machine is off") }
	return next
}

// kill loses no write: the process ended, the machine did not. Pages whose sync failed can still be read.
func (s *simFS) kill() *simFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killLocked()
}

func (s *simFS) killLocked() *simFS {
	next := newSimFS()
	next.sector, next.space = s.sector, s.space
	for path, f := range s.files {
		next.files[path] = &simFile{fs: next, disk: slices.Clone(f.disk), cache: cloneSectors(f.cache), lost: cloneSectors(f.lost), path: path}
	}
	s.fail = func(string, string) error { return errors.New("the process is gone") }
	return next
}

func cloneSectors(m map[int64][]byte) map[int64][]byte {
	out := make(map[int64][]byte, len(m))
	for at, b := range m {
		out[at] = slices.Clone(b)
	}
	return out
}

func sortedKeys(m map[int64][]byte) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// flip damages one byte on the disk.
func (s *simFS) flip(path string, off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path].disk[off] ^= 0x40
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.allow("read", f.path); err != nil {
		return 0, err
	}
	if off >= int64(len(f.disk)) {
		return 0, io.EOF
	}
	n := copy(p, f.disk[off:])
	size := int64(f.fs.sector)
	for _, layer := range []map[int64][]byte{f.lost, f.cache} {
		for at := off / size * size; at < off+int64(n); at += size {
			if b, ok := layer[at]; ok {
				from := max(at, off)
				copy(p[from-off:n], b[from-at:])
			}
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	size := int64(f.fs.sector)
	if off%size != 0 || int64(len(p))%size != 0 || off+int64(len(p)) > int64(len(f.disk)) {
		return 0, fmt.Errorf("BUG: write of %d bytes at %d of %d: not whole sectors of the file", len(p), off, len(f.disk))
	}
	if err := f.fs.allow("write", f.path); err != nil {
		return 0, err
	}
	for i := int64(0); i < int64(len(p)); i += size {
		f.cache[off+i] = slices.Clone(p[i : i+size])
		delete(f.lost, off+i)
	}
	if err := f.fs.did("write", f.path); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *simFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.allow("sync", f.path); err != nil {
		maps.Copy(f.lost, f.cache)
		clear(f.cache)
		return err
	}
	for at, b := range f.cache {
		copy(f.disk[at:], b)
	}
	clear(f.cache)
	return f.fs.did("sync", f.path)
}

// rebase moves all files to another folder, as if the disk were mounted there.
func (s *simFS) rebase(dir string) {
	files := map[string]*simFile{}
	for path, f := range s.files {
		f.path = filepath.Join(dir, filepath.Base(path))
		files[f.path] = f
	}
	s.files = files
}

func (f *simFile) Size() (int64, error) { return int64(len(f.disk)), nil }

func (f *simFile) Close() error { return nil }
