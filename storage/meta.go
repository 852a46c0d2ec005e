package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

// metaDB is meta.db: the checkpoint of the key-value space. Only the checkpointer writes; reads come from anywhere.
//
// A space is a bucket. A value is followed by its CRC32C. Large values lie in a bucket of their own, so that a commit does
// not write them again with their neighbours.
type metaDB struct {
	path    string
	ballast ballast
	log     *slog.Logger
	faults  func(point string) error

	// mu guards the handle: replacing the file waits for reads, which are short.
	mu  sync.RWMutex
	db  *bolt.DB
	seq uint64

	written atomic.Uint64
	applies atomic.Uint64 // grows when a checkpoint begins and when both files have it: an odd number is one under way

	copy metaCopy
	// versioned is Options.versioned.
	versioned bool
	copyless  bool         // the copy could not be written; the checkpointer's
	hurt      atomic.Bool  // damage was met that the copy does not have
	skipped   atomic.Int64 // topics whose values are damaged in both
}

// Buckets and keys of meta.db.
var (
	spacesBucket = []byte("spaces")
	seqKey       = []byte("applied_seq")
)

const (
	metaFormat = 1
	ownBucket  = 2 << 10 // values from here on get a bucket of their own
	crcBytes   = 4

	// What bbolt can hold as a key. An empty one would make every checkpoint fail for ever, so the committer refuses both.
	maxKeyBytes = bolt.MaxKeySize
)

// openMeta opens or makes meta.db (created as .tmp, renamed, folder synced) and its copy. What is damaged is set aside and told;
// lost says that neither could be read, so that topics must be found elsewhere.
func openMeta(o Options) (m *metaDB, problems []Problem, lost bool, err error) {
	m = &metaDB{
		path: filepath.Join(o.Dir, "meta.db"),
		log:  o.Log, faults: o.faults, versioned: o.versioned,
		ballast: ballast{path: filepath.Join(o.Dir, "ballast")},
		copy:    metaCopy{path: filepath.Join(o.Dir, metaCopyName)},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.faults == nil {
		m.faults = func(string) error { return nil }
	}
	for _, path := range []string{m.path + tmpSuffix, m.copy.path + tmpSuffix, filepath.Join(o.Dir, metaBackupName)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, false, fmt.Errorf("remove unfinished meta.db: %w", err)
		}
	}
	if problems, lost, err = m.choose(o); err != nil {
		return nil, problems, false, fmt.Errorf("open meta.db: %w", err)
	}
	if err := m.open(); err != nil {
		return nil, problems, false, err
	}
	m.copy.open(m.seq)
	if err := m.ballast.restore(); err != nil {
		m.log.Warn("keep ballast", "file", m.ballast.path, "error", err)
	}
	return m, problems, lost, nil
}

// metaOptions: the freelist is kept in the file, other than in log files, since keys are deleted here.
func metaOptions() *bolt.Options {
	o := &bolt.Options{}
	if runtime.GOOS != "windows" {
		o.InitialMmapSize = 16 << 20
	}
	return o
}

func (m *metaDB) create() error {
	tmp := m.path + tmpSuffix
	db, err := openBolt(tmp, metaOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey, []byte{metaFormat}); err != nil {
			return err
		}
		if err := meta.Put(seqKey, make([]byte, 8)); err != nil {
			return err
		}
		_, err = tx.CreateBucket(spacesBucket)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return m.install(tmp)
}

// install puts a finished file in meta.db's place.
func (m *metaDB) install(tmp string) error {
	if err := os.Rename(tmp, m.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.path))
}

// open opens the file and reads what it was applied up to.
func (m *metaDB) open() error {
	db, err := openBolt(m.path, metaOptions())
	if err != nil {
		return err
	}
	m.db = db
	if err := m.readSeq(); err != nil {
		m.db = nil
		return errors.Join(fmt.Errorf("open %s: %w", m.path, err), db.Close())
	}
	return nil
}

func (m *metaDB) readSeq() error {
	return viewBolt(m.db, func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil || tx.Bucket(spacesBucket) == nil {
			return fmt.Errorf("%w: no meta", ErrCorrupt)
		}
		format, seq := meta.Get(formatKey), meta.Get(seqKey)
		if len(format) != 1 || len(seq) != 8 {
			return fmt.Errorf("%w: no format", ErrCorrupt)
		}
		if format[0] > metaFormat && m.versioned {
			return fmt.Errorf("%w: format %d", ErrCorrupt, format[0])
		}
		if format[0] > metaFormat {
			return ErrNewerFormat
		}
		m.seq = binary.BigEndian.Uint64(seq)
		return nil
	})
}

// appliedSeq is the frame up to which the file holds everything.
func (m *metaDB) appliedSeq() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.seq
}

// apply writes puts and seq in one transaction. On an error nothing may be assumed; call again, with all of the puts.
//
// On a full disk the ballast is given up, so that the checkpoint, which lets journal files go, gets through. After any other
// failure the file is replaced by a copy: bbolt may stand on a commit that never reached the disk, and would overwrite the
// pages that a crash falls back on.
func (m *metaDB) apply(seq uint64, puts []Put) error {
	m.applies.Add(1)
	defer m.applies.Add(1)
	if m.hurt.Load() {
		if err := m.mend(); err != nil {
			m.log.Error("meta.db is damaged and cannot be replaced by its copy", "err", err)
		} else {
			m.log.Warn("meta.db was damaged and is replaced by its copy; the old file is kept")
		}
		m.hurt.Store(false)
	}
	m.mu.RLock()
	db := m.db
	m.mu.RUnlock()
	if db == nil {
		if err := m.reopen(); err != nil {
			return fmt.Errorf("reopen meta.db: %w", err)
		}
		db = m.db
	}
	before := m.seq
	err := m.commit(db, seq, puts)
	if errors.Is(err, syscall.ENOSPC) && m.ballast.release() {
		m.log.Warn("disk is full: ballast released for the checkpoint", "seq", seq)
		err = m.commit(db, seq, puts)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		m.log.Warn("checkpoint failed, replacing meta.db by a copy", "seq", seq, "error", err)
		again := errNoCopy
		if errors.Is(err, ErrCorrupt) {
			again = m.mend()
		}
		if again != nil {
			again = m.replace()
		}
		if again != nil {
			return fmt.Errorf("checkpoint up to %d: %w", seq, errors.Join(again, err))
		}
		err = m.commit(m.db, seq, puts)
	}
	if err != nil {
		return fmt.Errorf("checkpoint up to %d: %w", seq, err)
	}
	m.mu.Lock()
	m.seq = seq
	m.mu.Unlock()
	m.follow(before, seq, puts)
	if err := m.ballast.restore(); err != nil {
		m.log.Debug("keep ballast", "file", m.ballast.path, "error", err)
	}
	return nil
}

func (m *metaDB) commit(db *bolt.DB, seq uint64, puts []Put) error {
	return m.commitTo(db, seq, puts, pointApplyBefore, pointApplyAfter)
}

func (m *metaDB) commitTo(db *bolt.DB, seq uint64, puts []Put, before, after string) error {
	if err := m.faults(before); err != nil {
		return err
	}
	err := updateBolt(db, func(tx *bolt.Tx) error {
		spaces := tx.Bucket(spacesBucket)
		for i := range puts {
			if err := putValue(spaces, &puts[i]); err != nil {
				return fmt.Errorf("put %s/%s: %w", puts[i].Space, puts[i].Key, err)
			}
		}
		tx.OnCommit(func() {
			stats := tx.Stats() // outlive the transaction
			m.written.Add(uint64(stats.GetPageAlloc()) + pageSize)
		})
		return tx.Bucket(metaBucket).Put(seqKey, binary.BigEndian.AppendUint64(nil, seq))
	})
	if err != nil {
		return err
	}
	return m.faults(after)
}

// bytesWritten counts the bytes of all pages that checkpoints wrote since the file was opened.
func (m *metaDB) bytesWritten() uint64 { return m.written.Load() }

func putValue(spaces *bolt.Bucket, p *Put) error {
	space, key := []byte(p.Space), []byte(p.Key)
	if p.Value == nil && spaces.Bucket(space) == nil {
		return nil
	}
	b, err := spaces.CreateBucketIfNotExists(space)
	if err != nil {
		return err
	}
	own := b.Bucket(key)
	large := len(p.Value) >= ownBucket
	if own != nil && !large {
		if err := b.DeleteBucket(key); err != nil {
			return err
		}
	}
	if p.Value == nil {
		return b.Delete(key)
	}
	value := make([]byte, 0, len(p.Value)+crcBytes)
	value = append(value, p.Value...)
	value = binary.BigEndian.AppendUint32(value, crc32.Checksum(p.Value, castagnoli))
	if !large {
		return b.Put(key, value)
	}
	if own == nil {
		if err := b.Delete(key); err != nil {
			return err
		}
		if own, err = b.CreateBucket(key); err != nil {
			return err
		}
	}
	return own.Put(chunkValue, value)
}

// value returns a copy of what is stored under key: v, or what lies in the key's own bucket.
func value(b *bolt.Bucket, key, v []byte) ([]byte, error) {
	if v == nil {
		own := b.Bucket(key)
		if own == nil {
			return nil, nil
		}
		if v = own.Get(chunkValue); v == nil {
			return nil, fmt.Errorf("%w: no value", ErrCorrupt)
		}
	}
	n := len(v) - crcBytes
	if n < 0 || crc32.Checksum(v[:n], castagnoli) != binary.BigEndian.Uint32(v[n:]) {
		return nil, fmt.Errorf("%w: value fails its CRC32C", ErrCorrupt)
	}
	return append(make([]byte, 0, n), v[:n]...), nil
}

// get returns a copy of a key's value, nil when there is none.
func (m *metaDB) get(space, key string) (out []byte, err error) {
	err = m.viewAny(func(tx *bolt.Tx) error {
		b := tx.Bucket(spacesBucket).Bucket([]byte(space))
		if b == nil || key == "" {
			return nil
		}
		out, err = value(b, []byte(key), b.Get([]byte(key)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s/%s: %w", space, key, err)
	}
	return out, nil
}

func (m *metaDB) view(fn func(tx *bolt.Tx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.db == nil {
		return ErrClosed
	}
	return viewBolt(m.db, fn)
}

// scanBytes is how much of a scan is copied out at a time.
const scanBytes = 256 << 10

// scan calls fn in key order for every key of space that begins with prefix, until fn returns false. fn may keep value and
// may call get. No transaction is open while it runs, so that a scan sees a checkpoint that is applied meanwhile in part.
func (m *metaDB) scan(space, prefix string, fn func(key string, value []byte) bool) error {
	from := []byte(prefix)
	for {
		var batch []Put
		var more, lenient bool
		next := from
		read := func(tx *bolt.Tx) error {
			batch, more, next = batch[:0], false, from
			b := tx.Bucket(spacesBucket).Bucket([]byte(space))
			if b == nil {
				return nil
			}
			total := 0
			c := b.Cursor()
			for k, v := c.Seek(from); k != nil && len(k) >= len(prefix) && string(k[:len(prefix)]) == prefix; k, v = c.Next() {
				if total >= scanBytes {
					next, more = append([]byte(nil), k...), true
					return nil
				}
				copied, err := value(b, k, v)
				if err != nil && lenient {
					if space == spaceTopics {
						m.skipped.Add(1)
					}
					m.log.Error("a value is damaged in both copies of meta.db and left out", "space", space, "key", string(k), "err", err)
					continue
				}
				if err != nil {
					return fmt.Errorf("key %s: %w", k, err)
				}
				total += len(k) + len(copied) + 64
				batch = append(batch, Put{Key: string(k), Value: copied})
			}
			return nil
		}
		err := m.viewAny(read)
		if unreadable(err) {
			lenient = true // one value must not cost all others
			err = m.viewAny(read)
		}
		if err != nil {
			return fmt.Errorf("scan %s: %w", space, err)
		}
		from = next
		for _, p := range batch {
			if !fn(p.Key, p.Value) {
				return nil
			}
		}
		if !more {
			return nil
		}
	}
}

// replace writes all that the file holds to a new one and puts that in its place.
func (m *metaDB) replace() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tmp := m.path + tmpSuffix
	err := viewBolt(m.db, func(tx *bolt.Tx) error { return tx.CopyFile(tmp, 0o600) })
	if err == nil {
		err = syncFile(tmp)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("copy meta.db: %w", err)
	}
	if err := m.db.Close(); err != nil {
		return err
	}
	m.db = nil
	if err := m.install(tmp); err != nil {
		return err
	}
	return m.open()
}

// reopen is for a replacement that failed half-way.
func (m *metaDB) reopen() error {
	if _, err := os.Stat(m.path); errors.Is(err, os.ErrNotExist) {
		return m.mend() // bbolt would make an empty one
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open()
}

func (m *metaDB) close() error {
	m.mu.Lock()
	db := m.db
	m.db = nil
	m.mu.Unlock()
	err := m.copy.close()
	if db != nil {
		err = errors.Join(err, db.Close())
	}
	return err
}
