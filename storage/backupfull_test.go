package storage

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fullWriter is a file on a disk that has room for so many bytes.
type fullWriter struct {
	bytes.Buffer
	room int
}

func (w *fullWriter) Write(p []byte) (int, error) {
	n, _ := w.Buffer.Write(p[:min(len(p), w.room)])
	w.room -= n
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// leftovers lists files of a data directory that are neither the store's nor the journal's.
func leftovers(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, tmpSuffix) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A disk that is full where the backup goes: an error that says so, half a backup that nobody takes for a whole one, and a store that
// goes on.
func TestBackupToAFullDisk(t *testing.T) {
	s := openTest(t, smallBudget(Options{Dir: t.TempDir()}))
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	for range 20 {
		doTest(t, s, f.append(p, 32, 1024))
	}
	var whole bytes.Buffer
	if _, err := s.Backup(t.Context(), &whole, nil); err != nil {
		t.Fatal(err)
	}
	for room := 0; room < whole.Len(); room += 1 + whole.Len()/12 {
		w := &fullWriter{room: room}
		if _, err := s.Backup(t.Context(), w, nil); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrFull) {
			t.Fatalf("room for %d of %d bytes: %v", room, whole.Len(), err)
		}
		if _, err := VerifyBackup(bytes.NewReader(w.Bytes()), nil); !errors.Is(err, ErrBackup) {
			t.Fatalf("%d of %d bytes pass for a backup: %v", room, whole.Len(), err)
		}
		dir := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), bytes.NewReader(w.Bytes()), dir, RestoreOptions{}); !errors.Is(err, ErrBackup) {
			t.Fatalf("%d of %d bytes are restored: %v", room, whole.Len(), err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("a restore that was refused left %s: %v", dir, err)
		}
		doTest(t, s, f.append(p, 1, 10))
	}
	if left := leftovers(t, s.o.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A store whose own disk is full cannot seal for a backup: it says so, loses nothing, and is backed up when there is room.
func TestBackupOnAFullDisk(t *testing.T) {
	o := testOptions(t, smallBudget(Options{Dir: t.TempDir(), FS: newSimFS()}))
	q := &quota{dir: o.Dir}
	q.bytes.Store(1 << 40)
	o.MaxBytes, o.faults = 0, q.fault
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	doTest(t, s, f.append(p, 100, 1024))
	q.bytes.Store(0)
	for range 3 {
		var w bytes.Buffer
		_, err := s.Backup(t.Context(), &w, nil)
		if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room on the disk") || w.Len() > 0 {
			t.Fatalf("%d bytes, %v", w.Len(), err)
		}
	}
	if n := len(valuesOf(t, p, 0)); n != 100 {
		t.Fatalf("%d records, want 100", n)
	}
	q.bytes.Store(1 << 40)
	var w bytes.Buffer
	if _, err := s.Backup(t.Context(), &w, nil); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, o.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	sameRestored(t, &w, 100)
}

// sameRestored restores a backup and counts what is in its only partition.
func sameRestored(t *testing.T, backup *bytes.Buffer, records int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), backup, dir, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, Options{Dir: dir})
	defer closeTest(t, s)
	if n := len(valuesOf(t, must(s.Topic("t")).Partitions[0], 0)); n != records {
		t.Errorf("%d records were restored, want %d", n, records)
	}
}

// A store that cannot sync its journal any more is the one of which somebody wants a backup.
func TestBackupOfAReadOnlyStore(t *testing.T) {
	disk := newSimFS()
	s := openTest(t, smallBudget(Options{Dir: t.TempDir(), FS: disk}))
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	doTest(t, s, f.append(p, 20, 1024))
	sealNow(t, s)
	doTest(t, s, f.append(p, 30, 1024)) // only the journal has these
	disk.mu.Lock()
	disk.fail = func(op, _ string) error {
		if op == "sync" {
			return errSimSync
		}
		return nil
	}
	disk.mu.Unlock()
	if err := s.Do(t.Context(), &Commit{Puts: []Put{{Space: "x", Key: "k", Value: []byte("v")}}}); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
	for range 2 {
		var w bytes.Buffer
		if _, err := s.Backup(t.Context(), &w, nil); err != nil {
			t.Fatal(err)
		}
		sameRestored(t, &w, 50)
	}
	_ = s.Close()
}
