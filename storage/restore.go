package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// restoring marks a data directory that a restore is filling. A start refuses it, so that half a store is never taken for one.
const restoring = "RESTORING"

// ErrRestoring says that a restore into the directory was cut off.
var ErrRestoring = errors.New("a restore into this directory was cut off: empty it and restore again")

// RestoreOptions of Restore. The zero value of each is its default.
type RestoreOptions struct {
	Progress Progress
	Rand     func() uint64
	Log      *slog.Logger
}

// Restore makes a store in dir, which must not exist or be empty, from what Backup wrote. The store begins a new generation: its
// parent is the backup's, its forks are where each partition ends, so that a mirror goes on where the two histories part. A
// backup that is damaged or cut off, or any other failure, leaves nothing behind. Durable when it returns.
// Errors: ErrBackup, ErrNewerFormat, those of r and of the disk.
func Restore(ctx context.Context, r io.Reader, dir string, o RestoreOptions) (m Manifest, err error) {
	made, err := emptyDir(dir)
	if err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	w := &restoreWriter{ctx: ctx, dir: dir, progress: o.Progress}
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(fmt.Errorf("restore into %s: %w", dir, err), w.undo())
		if made {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := writeFileSynced(filepath.Join(dir, restoring), []byte("a restore is under way\n")); err != nil {
		return m, err
	}
	if err := readBackup(r, w); err != nil {
		return m, err
	}
	if err := w.finish(); err != nil {
		return m, err
	}
	if w.m.Format > formatVersion {
		return m, fmt.Errorf("%w: format %d, this program knows %d", ErrNewerFormat, w.m.Format, formatVersion)
	}
	s, err := Open(ctx, Options{Dir: dir, Rand: o.Rand, Log: o.Log, ScrubRate: -1, JournalBytes: firstFile, restoring: true})
	if err != nil {
		return m, err
	}
	err = s.begin(ctx, s.Generation().ID)
	if err = errors.Join(err, s.Close()); err != nil {
		return m, err
	}
	if err := os.Remove(filepath.Join(dir, restoring)); err != nil {
		return m, err
	}
	return w.m, syncDir(dir)
}

// begin starts a new generation that forks from parent where the partitions end now.
func (s *Store) begin(ctx context.Context, parent string) error {
	fork := map[uint32]int64{}
	for _, p := range s.liveParts() {
		_, _, fork[p.ID] = p.Offsets()
	}
	put, err := s.newGeneration(parent, fork)
	if err != nil {
		return err
	}
	if err := s.Do(ctx, &Commit{Urgent: true, Puts: []Put{put}}); err != nil {
		return fmt.Errorf("begin generation: %w", err)
	}
	return nil
}

// emptyDir makes dir, or sees that it is empty; made says that it was not there.
func emptyDir(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, makeFolder(dir)
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" { // of a file system of its own
			return false, fmt.Errorf("%s is not empty: choose an empty or a new directory", dir)
		}
	}
	return false, nil
}

// restoreWriter is a backup's sink that writes a store's files.
type restoreWriter struct {
	ctx      context.Context
	dir      string
	progress Progress
	m        Manifest
	file     *os.File
	done     int64
}

func (w *restoreWriter) manifest(m Manifest) error {
	if m.Format > formatVersion {
		return fmt.Errorf("%w: format %d, this program knows %d", ErrNewerFormat, m.Format, formatVersion)
	}
	w.m = m
	return nil
}

func (w *restoreWriter) begin(name string, _ int64) error {
	if err := w.finish(); err != nil {
		return err
	}
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	var err error
	w.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

func (w *restoreWriter) data(p []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if _, err := w.file.Write(p); err != nil {
		return err
	}
	w.done += int64(len(p))
	if w.progress != nil {
		w.progress(w.done, w.m.Bytes)
	}
	return nil
}

// finish makes the last file durable.
func (w *restoreWriter) finish() error {
	f := w.file
	if f == nil {
		return nil
	}
	w.file = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.Name()))
}

// undo removes what was written; the mark goes last.
func (w *restoreWriter) undo() error {
	if w.file != nil {
		_ = w.file.Close() // it is removed
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != restoring && e.Name() != "lost+found" {
			errs = append(errs, os.RemoveAll(filepath.Join(w.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(w.dir, restoring)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
