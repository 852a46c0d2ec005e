package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// logFile is one file of sealed groups. What is below the line belongs to handles.mu.
type logFile struct {
	path   string
	class  string
	number uint32
	used   int64 // bytes of pages in use, as of the last commit
	groups int
	key    uint64 // of the last group
	// What it was rewritten from: if those files are still there, they do not count.
	replaces  []uint32
	rewritten bool
	unread    bool   // something in it cannot be read: it stays as it is
	sealed    uint64 // the largest of its groups'
	// Guarded by sealedLog.mu; live and liveBytes are the index entries that lie in it, and their bytes.
	live      int
	liveBytes int64
	bytes     int64 // of all entries that it ever held
	moved     bool  // another file holds what counts; it is unlinked next

	db       *bolt.DB
	writable bool
	refs     int
	tick     uint64 // of the last use
	gone     bool   // to be closed and unlinked by the last user
	broken   error  // bbolt cannot be asked any more
}

// Buckets and keys of a log file: bucket "groups" holds a bucket for each chunk, which holds the chunk under "v". A value in
// a bucket of its own has its pages written once; in a common leaf, bbolt would write it again with each neighbour.
var (
	groupsBucket = []byte("groups")
	metaBucket   = []byte("meta")
	formatKey    = []byte("format")
	classKey     = []byte("class")
	chunkValue   = []byte("v")
	replacesKey  = []byte("replaces")
)

const (
	logFormat = 1
	// chunkBytes leaves room for bbolt's page header, so that a chunk fills its pages.
	chunkBytes = 1<<20 - 64
)

// Kinds of chunk.
const (
	chunkDir  = 0
	chunkData = 1
)

// chunkKey is group, kind, number, so that a group's directory comes first.
func chunkKey(group uint64, kind byte, n int) []byte {
	key := make([]byte, 0, 13)
	key = binary.BigEndian.AppendUint64(key, group)
	key = append(key, kind)
	return binary.BigEndian.AppendUint32(key, uint32(n))
}

// openLog opens a log file. Its freelist is not kept: nothing is ever deleted from it, and a bounded file is read soon.
func openLog(path string, readOnly bool, mapped int64) (*bolt.DB, error) {
	o := &bolt.Options{NoFreelistSync: true, ReadOnly: readOnly}
	if !readOnly && runtime.GOOS != "windows" {
		o.InitialMmapSize = int(mapped) // so that it never remaps, which waits for readers
	}
	if info, err := os.Stat(path); err == nil && info.Size() > 0 && !readOnly {
		if err := walkFile(path); err != nil {
			return nil, err
		}
	}
	db, err := openBolt(path, o)
	if err != nil {
		return nil, err
	}
	db.AllocSize = 4 << 20
	return db, nil
}

// walkFile is walkPages for a file that nobody has open.
func walkFile(path string) error {
	db, err := openBolt(path, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	if err := errors.Join(walkPages(db), db.Close()); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// createLog makes a log file: under another name until it is whole and on disk.
func (l *sealedLog) createLog(class string) (*logFile, error) {
	number := l.nextNumber()
	path := filepath.Join(l.dir, class, fmt.Sprintf("%06d%s", number, logSuffix))
	tmp := path + tmpSuffix
	fail := func(err error) (*logFile, error) {
		os.Remove(tmp)
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := l.faults(pointLogBefore); err != nil {
		return nil, err
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return fail(err)
	}
	os.Remove(tmp) // of an attempt that was cut off here
	db, err := openLog(tmp, false, 0)
	if err != nil {
		return fail(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey, []byte{logFormat}); err != nil {
			return err
		}
		if err := meta.Put(classKey, []byte(class)); err != nil {
			return err
		}
		_, err = tx.CreateBucket(groupsBucket)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fail(err)
	}
	if err := l.faults(pointLogCreated); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fail(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("sync folder of %s: %w", path, err)
	}
	if err := l.faults(pointLogRenamed); err != nil {
		return nil, err
	}
	return &logFile{path: path, class: class, number: number}, nil
}

// makeFolder makes a folder and those above it, durably.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return syncDir(parent)
}

// handles keeps a bounded number of files open: each takes a descriptor and, on 32-bit machines, scarce address space.
type handles struct {
	bound int64

	mu     sync.Mutex
	closed bool
	max    int
	tick   uint64
	open   map[*logFile]struct{}
}

func (h *handles) init(bound int64) {
	h.bound, h.open = bound, make(map[*logFile]struct{})
	h.max = 64
	if bits.UintSize == 32 {
		h.max = 8 // 64 MiB are mapped as up to 128
	}
}

// acquire returns the file's open database, for reading unless it is the active one; release gives it back.
func (h *handles) acquire(f *logFile) (*bolt.DB, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if f.gone {
		return nil, errGone
	}
	if f.broken != nil {
		return nil, f.broken
	}
	if f.db == nil {
		if err := h.openLocked(f, true); err != nil {
			return nil, err
		}
	}
	return h.takeLocked(f), nil
}

func (h *handles) takeLocked(f *logFile) *bolt.DB {
	f.refs++
	h.tick++
	f.tick = h.tick
	return f.db
}

func (h *handles) openLocked(f *logFile, readOnly bool) error {
	db, err := openLog(f.path, readOnly, h.bound)
	if err != nil {
		return err
	}
	f.db, f.writable = db, !readOnly
	h.open[f] = struct{}{}
	for len(h.open) > h.max {
		var oldest *logFile
		for o := range h.open {
			// A file that is being filled is opened again by reading all of it, so it goes last.
			if o != f && o.refs == 0 && (oldest == nil || oldest.writable && !o.writable ||
				oldest.writable == o.writable && o.tick < oldest.tick) {
				oldest = o
			}
		}
		if oldest == nil {
			break
		}
		if err := h.closeLocked(oldest); err != nil {
			return err
		}
	}
	return nil
}

func (h *handles) closeLocked(f *logFile) error {
	db := f.db
	f.db, f.writable = nil, false
	delete(h.open, f)
	if db == nil || f.broken != nil { // bbolt's locks may be held for ever: leave it
		return nil
	}
	return db.Close()
}

func (h *handles) release(f *logFile) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.refs--
	if f.refs == 0 && f.gone {
		_ = h.closeLocked(f) // it is unlinked: nothing in it matters
	}
}

// write returns the file's database opened for writing; release gives it back. Only the sealer calls it; readers of the file go on with the
// database that they hold, so it waits for none of them: it closes what is open when the last has released it.
func (h *handles) write(f *logFile) (*bolt.DB, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.broken != nil { // a lock of bbolt's may be held for ever
		return nil, f.broken
	}
	if f.writable {
		return h.takeLocked(f), nil
	}
	if f.db != nil {
		if f.refs > 0 {
			return nil, errBusy
		}
		if err := h.closeLocked(f); err != nil {
			return nil, err
		}
	}
	if err := h.openLocked(f, false); err != nil {
		return nil, err
	}
	return h.takeLocked(f), nil
}

// errGone says that a file was unlinked: what it held is past, or in another file, and the index tells which.
var errGone = errors.New("log file was replaced")

// errBusy says that readers hold a file that was to be opened for writing; a new file is taken instead.
var errBusy = errors.New("log file is being read")

// retire closes the active file, which will be opened for reading when it is next needed.
func (h *handles) retire(f *logFile) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !f.writable || f.refs > 0 {
		// Readers are at work in it: it stays open as it is. Nobody writes to it any more.
		f.writable = false
		return nil
	}
	return h.closeLocked(f)
}

// remove unlinks a file and closes it behind its last reader.
func (h *handles) remove(f *logFile) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.gone = true
	if f.refs == 0 {
		if err := h.closeLocked(f); err != nil {
			return err
		}
	}
	return os.Remove(f.path)
}

func (h *handles) closeAll() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	var errs []error
	for f := range h.open {
		f.gone = true
		errs = append(errs, h.closeLocked(f))
	}
	return errors.Join(errs...)
}

// view calls fn with the groups of a file, in a read transaction. Nothing that fn gets may be kept. Damage that bbolt or
// the memory map meets is an error.
func (h *handles) view(f *logFile, fn func(groups *bolt.Bucket) error) (err error) {
	db, err := h.acquire(f)
	if err != nil {
		return err
	}
	defer h.release(f)
	var tx *bolt.Tx
	defer func() {
		r := recover()
		if tx != nil {
			_ = tx.Rollback() // of a read: there is nothing to undo
		}
		if r == nil {
			return
		}
		err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		if tx == nil { // it happened while bbolt held its locks
			h.mu.Lock()
			f.broken = err
			h.mu.Unlock()
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if tx, err = db.Begin(false); err != nil {
		return err
	}
	groups := tx.Bucket(groupsBucket)
	if groups == nil {
		return fmt.Errorf("%w: no groups", ErrCorrupt)
	}
	return fn(groups)
}

// copyChunks copies size bytes from position pos of a group's chunks of one kind.
func copyChunks(groups *bolt.Bucket, group uint64, kind byte, pos, size int64) ([]byte, error) {
	out := make([]byte, 0, size)
	for int64(len(out)) < size {
		at := pos + int64(len(out))
		v := chunk(groups, chunkKey(group, kind, int(at/chunkBytes)))
		from := at % chunkBytes
		if from >= int64(len(v)) {
			return nil, fmt.Errorf("%w: chunk %d of group %d is short", ErrCorrupt, at/chunkBytes, group)
		}
		v = v[from:]
		out = append(out, v[:min(int64(len(v)), size-int64(len(out)))]...)
	}
	return out, nil
}

// chunk returns a chunk's bytes, nil when there is none; they are valid for the transaction.
func chunk(groups *bolt.Bucket, key []byte) []byte {
	b := groups.Bucket(key)
	if b == nil {
		return nil
	}
	return b.Get(chunkValue)
}

// directory returns a copy of a group's directory.
func directory(groups *bolt.Bucket, group uint64) []byte {
	var dir []byte
	for n := 0; ; n++ {
		v := chunk(groups, chunkKey(group, chunkDir, n))
		dir = append(dir, v...)
		if len(v) < chunkBytes {
			return dir
		}
	}
}
