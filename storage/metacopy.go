package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// metaCopy is meta.copy.db: a second meta.db, written by the same checkpoints, one after the other. A gateway must start although a
// page of meta.db went bad, and it must not start without its topics: their records would count as those of deleted ones. A
// checkpoint is rare, a few pages, and nothing waits for it, so that writing it twice costs next to nothing.
//
// The copy may be behind when it could not be written; then it is made anew from meta.db, whole, by the next checkpoint that can.
type metaCopy struct {
	path string

	mu    sync.RWMutex // guards what follows
	db    *bolt.DB     // nil: to be made anew
	seq   uint64
	stale bool // its pages are damaged, or it missed a checkpoint
}

const metaCopyName = "meta.copy.db"

// open opens the copy if it stands at frame seq; otherwise the next checkpoint makes it anew.
func (c *metaCopy) open(seq uint64) {
	if _, err := os.Stat(c.path); err != nil {
		return // bbolt would make an empty one
	}
	db, err := openBolt(c.path, metaOptions())
	if err != nil {
		return
	}
	copied := &metaDB{path: c.path, db: db, versioned: true}
	err = copied.readSeq()
	c.db, c.seq, c.stale = db, copied.seq, err != nil || copied.seq != seq
}

// view is viewBolt on the copy, as long as it stands where meta.db does.
func (c *metaCopy) view(fn func(tx *bolt.Tx) error) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.db == nil || c.stale {
		return errNoCopy
	}
	return viewBolt(c.db, fn)
}

var errNoCopy = errors.New("there is no second copy")

func (c *metaCopy) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	db := c.db
	c.db = nil
	if db == nil {
		return nil
	}
	return db.Close()
}

// spoil says that the copy is of no use until it is made anew.
func (c *metaCopy) spoil() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}

// follow brings the copy from frame before to seq. Its failure is not the checkpoint's.
func (m *metaDB) follow(before, seq uint64, puts []Put) {
	c := &m.copy
	c.mu.RLock()
	db, ok := c.db, c.db != nil && !c.stale && c.seq == before
	c.mu.RUnlock()
	var err error
	if ok {
		err = m.commitTo(db, seq, puts, pointCopyBefore, pointCopyAfter)
	}
	if !ok || err != nil {
		c.spoil()
		if err = m.recopy(); err != nil {
			if !m.copyless {
				m.log.Warn("meta.db has no second copy for now", "err", err)
			}
			m.copyless = true
			return
		}
	}
	m.copyless = false
	c.mu.Lock()
	c.seq = seq
	c.mu.Unlock()
}

// recopy makes the copy anew from meta.db.
func (m *metaDB) recopy() error {
	c := &m.copy
	if err := c.close(); err != nil {
		m.log.Debug("close the copy of meta.db", "err", err)
	}
	if err := m.faults(pointCopyBefore); err != nil {
		return err
	}
	m.mu.RLock()
	err := copyBolt(m.db, c.path)
	m.mu.RUnlock()
	if err != nil {
		return errors.Join(err, m.faults(pointCopyAfter))
	}
	if info, err := os.Stat(c.path); err == nil {
		m.written.Add(uint64(info.Size()))
	}
	db, err := openBolt(c.path, metaOptions())
	if err != nil {
		return errors.Join(err, m.faults(pointCopyAfter))
	}
	c.mu.Lock()
	c.db, c.stale = db, false
	c.mu.Unlock()
	return m.faults(pointCopyAfter)
}

// copyBolt writes all that a database holds, every value checked, to path, in place of what was there.
func copyBolt(db *bolt.DB, path string) error {
	tmp := path + tmpSuffix
	err := writeCopy(db, tmp)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("copy to %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// writeCopy writes all that a database holds, every value checked, to path, and syncs that file.
func writeCopy(db *bolt.DB, path string) error {
	err := viewBolt(db, func(tx *bolt.Tx) error {
		if _, err := checkValues(context.Background(), tx); err != nil {
			return err
		}
		return tx.CopyFile(path, 0o600)
	})
	if err != nil {
		return err
	}
	return syncFile(path)
}

// metaSum is what two copies of a meta.db agree on.
type metaSum struct {
	whole bool // all of it was read
	seq   uint64
	keys  int
	bytes int64
	crc   uint32 // of all spaces, keys and values, in order
}

// checkValues reads every value of a meta.db, and sees that keys are in order.
func checkValues(ctx context.Context, tx *bolt.Tx) (sum metaSum, err error) {
	spaces, meta := tx.Bucket(spacesBucket), tx.Bucket(metaBucket)
	if spaces == nil || meta == nil || len(meta.Get(seqKey)) != 8 {
		return sum, fmt.Errorf("%w: no spaces", ErrCorrupt)
	}
	sum.whole, sum.seq = true, binary.BigEndian.Uint64(meta.Get(seqKey))
	var lastSpace []byte
	err = spaces.ForEach(func(space, direct []byte) error {
		b := spaces.Bucket(space)
		if b == nil || direct != nil || lastSpace != nil && bytes.Compare(lastSpace, space) >= 0 {
			return fmt.Errorf("%w: space %q", ErrCorrupt, space)
		}
		lastSpace = append(lastSpace[:0], space...)
		sum.crc = crc32.Update(sum.crc, castagnoli, space)
		var last []byte
		return b.ForEach(func(k, raw []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			v, err := value(b, k, raw)
			if err != nil {
				return fmt.Errorf("%s/%q: %w", space, k, err)
			}
			if last != nil && bytes.Compare(last, k) >= 0 {
				return fmt.Errorf("%w: %s/%q out of order", ErrCorrupt, space, k)
			}
			last = append(last[:0], k...)
			sum.keys++
			sum.bytes += int64(len(k) + len(v))
			sum.crc = crc32.Update(crc32.Update(sum.crc, castagnoli, k), castagnoli, v)
			return nil
		})
	})
	return sum, err
}

// viewAny is view, on the copy where meta.db's own pages or values are damaged.
func (m *metaDB) viewAny(fn func(tx *bolt.Tx) error) error {
	err := m.view(fn)
	if err == nil || !unreadable(err) {
		return err
	}
	if m.copy.view(fn) != nil {
		return err
	}
	if m.hurt.CompareAndSwap(false, true) {
		m.log.Error("meta.db is damaged; its copy answers until the next checkpoint replaces it", "err", err)
	}
	return nil
}

// scrub reads every value of meta.db and of its copy, and holds them against each other. What is found in one of them is mended by
// the next checkpoint; an error says what is in neither. No transaction stays open for longer than a read of all takes.
func (m *metaDB) scrub(ctx context.Context) (n int64, err error) {
	check := func(sum *metaSum) func(tx *bolt.Tx) error {
		return func(tx *bolt.Tx) (err error) {
			*sum, err = checkValues(ctx, tx)
			n += sum.bytes
			return err
		}
	}
	var first, second metaSum
	applies := m.applies.Load()
	err = m.view(check(&first))
	copied := m.copy.view(check(&second))
	// A checkpoint may come between, and need not have another frame than the one before.
	still := applies%2 == 0 && applies == m.applies.Load()
	if err == nil && copied == nil && still && first.seq == second.seq && first != second { // a page that lost some of its keys is in order
		if differ := fmt.Errorf("%w: the copies hold %d and %d keys", ErrCorrupt, first.keys, second.keys); first.keys >= second.keys {
			copied = differ
		} else {
			err = differ
		}
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, ErrClosed):
		return n, nil
	case err == nil && copied != nil && !errors.Is(copied, errNoCopy):
		m.copy.spoil()
		m.log.Error("the copy of meta.db is damaged; the next checkpoint makes it anew", "err", copied)
	case err != nil && copied == nil:
		m.hurt.Store(true)
		m.log.Error("meta.db is damaged; the next checkpoint replaces it by its copy", "err", err)
	case err != nil:
		return n, fmt.Errorf("damaged in both copies: %w", err)
	}
	return n, nil
}

// mend puts a copy of the copy in meta.db's place, and keeps the damaged file. Until the new one is on the disk, meta.db stays as it is: half
// of it is better than none, and the disk may be full.
func (m *metaDB) mend() error {
	m.copy.mu.RLock()
	defer m.copy.mu.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.copy.db == nil || m.copy.stale || m.copy.seq != m.seq {
		return errNoCopy
	}
	tmp := m.path + tmpSuffix
	err := m.faults(pointCopyBefore)
	if err == nil {
		err = writeCopy(m.copy.db, tmp)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("copy %s: %w", m.copy.path, err)
	}
	db := m.db
	m.db = nil
	if db != nil {
		_ = db.Close() // it is damaged: nothing that it says matters
	}
	if _, err := setAsideFile(m.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := m.install(tmp); err != nil {
		return err
	}
	return m.open()
}

// setAsideFile renames a damaged file to a name that is free, and returns it.
func setAsideFile(path string) (string, error) {
	to := path + quarantineSuffix
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s.%d%s", path, n, quarantineSuffix)
	}
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	return to, syncDir(filepath.Dir(path))
}

// choose opens the better of meta.db and its copy, and brings the other one in line: a damaged file is set aside, and the other
// takes its place. lost is true when neither can be read although there was a store here.
func (m *metaDB) choose(o Options) (problems []Problem, lost bool, err error) {
	first, firstErr := m.look(m.path)
	if firstErr == nil {
		firstErr = m.writable()
	}
	second, secondErr := m.look(m.copy.path)
	for _, err := range []error{firstErr, secondErr} {
		if err != nil && !unreadable(err) {
			return nil, false, err
		}
	}
	report := func(path, format string, args ...any) {
		problems = append(problems, Problem{File: path, Where: "file", Detail: fmt.Sprintf(format, args...)})
		m.log.Error("meta.db", "file", path, "what", fmt.Sprintf(format, args...))
	}
	missing := errors.Is(firstErr, os.ErrNotExist)
	switch {
	case firstErr == nil && secondErr == nil && first.seq >= second.seq && (first.seq > second.seq || first.keys >= second.keys || !first.whole || !second.whole):
	case firstErr == nil && secondErr != nil:
		if errors.Is(secondErr, os.ErrNotExist) {
			break // of a store that was never checkpointed, or of an older version
		}
		kept, err := setAsideFile(m.copy.path)
		if err != nil {
			return nil, false, err
		}
		report(kept, "the second copy of meta.db is damaged and set aside; the next checkpoint makes a new one: %v", secondErr)
	case secondErr == nil:
		// Also where the first is older: one of its two meta pages is damaged, and bbolt stands on the commit before.
		why := fmt.Sprintf("it ends at frame %d with %d keys, its copy at %d with %d", first.seq, first.keys, second.seq, second.keys)
		if firstErr != nil {
			why = firstErr.Error()
		}
		kept := m.path
		if !missing {
			if kept, err = setAsideFile(m.path); err != nil {
				return nil, false, err
			}
		}
		if err := m.replaceBy(m.copy.path); err != nil {
			return nil, false, fmt.Errorf("rebuild meta.db from its copy: %w", err)
		}
		report(kept, "damaged or missing; rebuilt from its copy, as of frame %d: %s", second.seq, why)
	default:
		had, err := hasHistory(o)
		if err != nil {
			return nil, false, err
		}
		if missing && !had && errors.Is(secondErr, os.ErrNotExist) {
			return nil, false, m.create() // a new store
		}
		if !missing && first.seq > 0 && m.writable() == nil && walkFile(m.path) == nil {
			report(m.path, "values are damaged here and in the second copy, and are left out: %v", firstErr)
			return problems, false, nil
		}
		for _, path := range []string{m.path, m.copy.path} {
			kept, err := setAsideFile(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, false, err
			}
			if err == nil {
				report(kept, "damaged and set aside")
			}
		}
		report(m.path, "it cannot be read, nor can its copy: topics, sessions and committed offsets are those that the journal still holds; "+
			"the records of other topics are in topics named %sN; restore a backup to have them back (%v)", orphanPrefix, firstErr)
		return problems, true, m.create()
	}
	return problems, false, nil
}

// writable opens meta.db as the checkpointer does, which reads a page that readers do not: the freelist.
func (m *metaDB) writable() error {
	db, err := openBolt(m.path, metaOptions())
	if err != nil {
		return err
	}
	return db.Close()
}

// checkedAtStart bounds what a start reads of each copy to hold them against each other: a second from a slow card. The scrub reads
// all of them.
const checkedAtStart = 16 << 20

// look opens a file for reading and says up to which frame it was applied, and what else two copies agree on, if it is not too large
// for that.
func (m *metaDB) look(path string) (sum metaSum, err error) {
	if _, err := os.Stat(path); err != nil {
		return sum, err
	}
	probe := &metaDB{path: path, versioned: m.versioned}
	if probe.db, err = openBolt(path, &bolt.Options{ReadOnly: true}); err != nil {
		return sum, err
	}
	defer func() { _ = probe.db.Close() }() // only read
	if err := probe.readSeq(); err != nil {
		return sum, fmt.Errorf("open %s: %w", path, err)
	}
	sum.seq = probe.seq
	err = viewBolt(probe.db, func(tx *bolt.Tx) (err error) {
		if tx.Size() <= checkedAtStart {
			sum, err = checkValues(context.Background(), tx)
		}
		return err
	})
	sum.seq = probe.seq
	return sum, err
}

// replaceBy makes meta.db from another file.
func (m *metaDB) replaceBy(path string) error {
	db, err := openBolt(path, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	tmp := m.path + tmpSuffix
	err = viewBolt(db, func(tx *bolt.Tx) error { return tx.CopyFile(tmp, 0o600) })
	if err = errors.Join(err, db.Close()); err == nil {
		err = syncFile(tmp)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return m.install(tmp)
}

// hasHistory reports whether there is a log or a journal: then a missing meta.db is a loss and not a beginning.
func hasHistory(o Options) (bool, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}
	names, err := o.FS.List(filepath.Join(o.Dir, "journal"))
	if err != nil {
		return false, fmt.Errorf("list journal: %w", err)
	}
	for _, name := range names {
		if _, ok := walNumber(name); ok {
			return true, nil
		}
	}
	logs, err := filepath.Glob(filepath.Join(o.Dir, "log", "*", "*"))
	if err != nil {
		return false, err
	}
	for _, name := range logs {
		if !strings.HasSuffix(name, tmpSuffix) {
			return true, nil
		}
	}
	return false, nil
}
