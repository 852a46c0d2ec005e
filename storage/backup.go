package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Progress is told how much of a backup or a restore is done, in bytes of the store's files; total is 0 while it is not known.
type Progress func(done, total int64)

// Backup writes the store as it is after one commit, and returns what it wrote. Writing goes on meanwhile at full speed: the
// sealer brings everything up to that commit into files that never change again, opens them, and goes back to its work; retention
// may unlink what is being read. A store of W bytes takes no more memory than a small one. Restore reads it.
//
// A store that is read-only is backed up, too, as what its disk holds, with the journal: records that are not acknowledged may be
// in it, as after a crash.
//
// What is unlinked meanwhile takes its space until it was written to w. When the budget or the disk is full and dropping records makes no
// room, since the backup holds it, the backup is broken off. Errors: ErrClosed, ErrFull when the store's own disk is, or for that reason,
// those of w and of the disk.
func (s *Store) Backup(ctx context.Context, w io.Writer, progress Progress) (Manifest, error) {
	var point *backupPoint
	var err error
	if ran := s.onSealer(func() { point, err = s.pin() }); !ran {
		err = ErrClosed
	}
	if errors.Is(err, syscall.ENOSPC) {
		return Manifest{}, fmt.Errorf("back up: %w: %w; a backup seals and checkpoints first: make room on the disk", ErrFull, err)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("back up: %w", err)
	}
	s.disk.hold(point, true)
	defer func() {
		s.disk.hold(point, false) // before its files are closed
		point.close()
	}()
	if err := point.write(ctx, w, progress); err != nil {
		return point.manifest, fmt.Errorf("back up: %w", err)
	}
	return point.manifest, nil
}

// BackupClosed is Backup for a store that nobody has open: byte for byte, its journal too, and however damaged it is. It changes
// nothing. Errors: ErrLocked, ErrNoStore, ErrRestoring.
func BackupClosed(ctx context.Context, dir string, w io.Writer, progress Progress) (m Manifest, err error) {
	if err := storeIn(dir); err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	point := &backupPoint{manifest: Manifest{Created: time.Now().UTC()}}
	defer point.close()
	version, err := readVersion(dir)
	if versionLost(err) {
		version, err = formatVersion, nil // what a start would make of it
	}
	if err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	point.manifest.Format = version
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if name = filepath.ToSlash(name); err == nil && backupName(name) {
			err = point.open(name, path, -1)
		}
		return err
	})
	if err == nil {
		err = point.write(ctx, w, progress)
	}
	if err != nil {
		return m, fmt.Errorf("back up %s: %w", dir, err)
	}
	return point.manifest, nil
}

// onSealer runs fn between two rounds of the sealer; false when that has ended.
func (s *Store) onSealer(fn func()) bool {
	ran := make(chan struct{})
	select {
	case s.sealControl <- func() { defer close(ran); fn() }:
		<-ran
		return true
	case <-s.sealDone:
		return false
	}
}

// backupPoint is a store at one moment: files that do not change, held open so that they may be unlinked.
type backupPoint struct {
	manifest Manifest
	files    []backupSource
	scratch  string      // removed at the end where an open file cannot be
	gaveUp   atomic.Bool // its files were closed, for their space
}

type backupSource struct {
	name string
	file backupFile
	size int64
}

// backupFile is an os.File or one of the journal's.
type backupFile interface {
	io.ReaderAt
	io.Closer
}

const metaBackupName = "meta.db.backup" + tmpSuffix

// pin makes the store's files say what is true after one commit: it freezes the state of everything but records, seals the
// records up to the same frame, and checkpoints. The sealer runs it.
func (s *Store) pin() (_ *backupPoint, err error) {
	if s.frozen != nil { // of a checkpoint that failed
		if err := s.checkpoint(); err != nil {
			return nil, err
		}
	}
	s.onCommitter(func() {
		if !s.readOnly.Load() {
			s.frozen = s.freeze(s.sealedTo, s.sealed.number)
		}
	})
	if s.frozen == nil {
		return s.pinReadOnly()
	}
	f := s.frozen
	f.puts = append(s.kv.frozenPuts(), f.own...)
	if err := s.sealTo(f.seq, true); err != nil {
		return nil, err
	}
	// Now this is true, and without a journal behind it a start must know.
	f.puts = append(f.puts, sealedToPut(f.seq))
	f.sealedTo = f.seq
	if err := s.checkpoint(); err != nil {
		return nil, err
	}
	s.journal.recycle(min(s.sealedKnown, s.applied))
	return s.openPoint(f.seq)
}

// openPoint opens all but the journal.
func (s *Store) openPoint(seq uint64) (_ *backupPoint, err error) {
	p := &backupPoint{manifest: Manifest{Format: formatVersion, Created: s.o.Now().UTC(), Generation: s.Generation().ID, Seq: seq}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.open(versionFile, filepath.Join(s.o.Dir, versionFile), -1); err != nil {
		return nil, err
	}
	if err := p.openMeta(s); err != nil {
		return nil, err
	}
	if err := p.openLog(s.sealed); err != nil {
		return nil, err
	}
	return p, p.openPlugins(s.o.Dir)
}

// pinReadOnly is pin for a store that cannot sync its journal any more. Nothing checkpoints, so what the journal alone holds goes with
// it: the files that are still needed, which nobody uses again while checkpoints stand still.
func (s *Store) pinReadOnly() (_ *backupPoint, err error) {
	p, err := s.openPoint(s.lastSeq.Load())
	if err != nil {
		return nil, err
	}
	var files []*walFile
	s.onCommitter(func() { files = s.journal.needed() })
	for _, f := range files {
		if err := p.openJournal(s.journal, f); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// openJournal opens one of the journal's files anew, which may be that of another file system than the rest (Options.FS).
func (p *backupPoint) openJournal(j *journal, f *walFile) error {
	file, err := j.fs.Open(j.path(f.no))
	if err != nil {
		return err
	}
	p.files = append(p.files, backupSource{"journal/" + filepath.Base(j.path(f.no)), file, f.size})
	p.manifest.Files++
	p.manifest.Bytes += f.size
	return nil
}

// openMeta copies meta.db: the next checkpoint changes it, and a transaction held open for as long as a backup takes would make
// it grow without bound.
func (p *backupPoint) openMeta(s *Store) error {
	tmp := filepath.Join(s.o.Dir, metaBackupName)
	err := s.meta.viewAny(func(tx *bolt.Tx) error { return tx.CopyFile(tmp, 0o600) })
	if err == nil {
		err = p.open("meta.db", tmp, -1)
	}
	if os.Remove(tmp) != nil {
		p.scratch = tmp // where an open file cannot be removed
	}
	return err
}

// openLog opens all log files, after the ones that still take groups were ended: what comes goes to new ones.
func (p *backupPoint) openLog(l *sealedLog) error {
	l.mu.RLock()
	var classes []string
	for class := range l.active {
		classes = append(classes, class)
	}
	l.mu.RUnlock()
	for _, class := range classes {
		if err := l.retire(class); err != nil {
			return err
		}
	}
	l.mu.RLock()
	var files []*logFile
	for _, list := range l.files {
		files = append(files, list...)
	}
	l.mu.RUnlock()
	slices.SortFunc(files, func(a, b *logFile) int { return strings.Compare(a.path, b.path) })
	for _, f := range files {
		if err := p.open("log/"+f.class+"/"+filepath.Base(f.path), f.path, f.used); err != nil {
			return err
		}
	}
	return nil
}

// openPlugins opens the modules; what was compiled from them is made again.
func (p *backupPoint) openPlugins(dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "plugins"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name := "plugins/" + e.Name(); e.Type().IsRegular() && backupName(name) && !strings.HasSuffix(name, tmpSuffix) {
			if err := p.open(name, filepath.Join(dir, "plugins", e.Name()), -1); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return err
}

// open adds a file, of which size bytes count; -1: all.
func (p *backupPoint) open(name, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if size <= 0 || size > info.Size() {
		size = info.Size()
	}
	p.files = append(p.files, backupSource{name, f, size})
	p.manifest.Files++
	p.manifest.Bytes += size
	return nil
}

func (p *backupPoint) close() {
	for _, f := range p.files {
		_ = f.file.Close() // only read
	}
	if p.scratch != "" {
		_ = os.Remove(p.scratch) // the next start does it, too
	}
}

func (p *backupPoint) write(ctx context.Context, w io.Writer, progress Progress) error {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	b, err := newBackupWriter(w, p.manifest)
	if err != nil {
		return err
	}
	buf := make([]byte, backupChunk)
	for _, f := range p.files {
		if err := b.begin(f.name, f.size); err != nil {
			return err
		}
		for at := int64(0); at < f.size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := io.ReadFull(io.NewSectionReader(f.file, at, f.size-at), buf[:min(int64(len(buf)), f.size-at)])
			if p.gaveUp.Load() {
				return fmt.Errorf("%w: records need the space of what was unlinked since it began: fetch it faster, or give the store more room", ErrFull)
			}
			if err != nil {
				return fmt.Errorf("read %s at byte %d: %w", f.name, at, err)
			}
			if err := b.data(buf[:n]); err != nil {
				return err
			}
			at += int64(n)
			progress(int64(b.bytes), p.manifest.Bytes)
		}
		_ = f.file.Close() // only read: if it was unlinked since, its blocks come back now
	}
	return b.end()
}
