package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The count is that of blocks, not of lengths.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1, 0)
	d := diskUse{dir: dir, now: func() time.Time { return now }}
	before, _, _, err := d.measure()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "journal"), 0o700),
		os.WriteFile(filepath.Join(dir, "journal", "000001.wal"), make([]byte, 64<<10), 0o600),
		os.WriteFile(filepath.Join(dir, "hole"), nil, 0o600),
		os.Truncate(filepath.Join(dir, "hole"), 1<<30),
	); err != nil {
		t.Fatal(err)
	}
	if got := d.recent(); got != before {
		t.Errorf("%d bytes within a second, were %d", got, before)
	}
	now = now.Add(diskFresh)
	if got := d.recent() - before; got < 64<<10 || got > 1<<20 {
		t.Errorf("%d bytes more, want about 64 KiB", got)
	}
	if _, journal, _, err := d.measure(); err != nil || journal < 64<<10 {
		t.Errorf("journal takes %d, %v", journal, err)
	}
}

// gateWriter takes a first piece, and the others when it is told to.
type gateWriter struct {
	began, goOn chan struct{}
	once        sync.Once
}

func (w *gateWriter) Write(p []byte) (int, error) {
	w.once.Do(func() {
		close(w.began)
		<-w.goOn
	})
	return len(p), nil
}

// heldBackup begins a backup that has written its first piece, and goes on when goOn of what it returns is closed; done has its error.
func heldBackup(s *Store) (w *gateWriter, done <-chan error) {
	w = &gateWriter{began: make(chan struct{}), goOn: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Backup(context.Background(), w, nil)
		ended <- err
	}()
	<-w.began
	return w, ended
}

// What is unlinked while a backup reads it is counted until that is through.
func TestDiskUseCountsWhatBackupsHold(t *testing.T) {
	s := openTest(t, smallBudget(Options{}))
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	for range 40 {
		doTest(t, s, f.append(p, 32, 1024))
	}
	sealNow(t, s)
	w, done := heldBackup(s)
	_, _, high := p.Offsets()
	if err := s.Trim(t.Context(), []Start{{Partition: p, Offset: high}}); err != nil {
		t.Fatal(err)
	}
	s.onSealer(func() {
		if err := s.checkpoint(); err != nil { // some past files wait for it
			t.Error(err)
		}
		s.letGo()
		s.sealed.sweep()
	})
	held, _, _, err := s.disk.measure()
	if err != nil {
		t.Fatal(err)
	}
	close(w.goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	free, _, _, err := s.disk.measure()
	if err != nil {
		t.Fatal(err)
	}
	if held-free < 1<<20 {
		t.Errorf("%d bytes are taken while a backup holds the files, %d behind it: want 1 MiB more", held, free)
	}
}

// A client that fetches a backup slowly, or has stopped to, costs no records: when it holds what was dropped to make room, it is broken
// off.
func TestSlowBackupDoesNotEmptyTheStore(t *testing.T) {
	for _, full := range []string{"budget", "disk"} {
		t.Run(full, func(t *testing.T) {
			o := testOptions(t, smallBudget(Options{Dir: t.TempDir(), FS: newSimFS()}))
			q := &quota{dir: o.Dir}
			q.bytes.Store(1 << 40)
			o.faults = q.fault
			if full == "disk" {
				o.MaxBytes, o.WhenFull = 0, DropOldest
			}
			s := openTest(t, o)
			defer func() {
				q.bytes.Store(1 << 40) // the end seals all that is in memory, which needs room
				closeTest(t, s)
			}()
			s.SetHold(nil)
			p := topicWith(t, s, "t", 1).Partitions[0]
			high := topicWith(t, s, "high", 1, "rivulet.priority", "9").Partitions[0]
			f := newFiller()
			doTest(t, s, f.append(high, 64, 1024))
			fill := func(bytes int64) {
				for ; bytes > 0; bytes -= 64 << 10 {
					until(t, "records are taken", func() bool {
						err := s.Do(context.Background(), f.append(p, 64, 1024))
						if err != nil && !errors.Is(err, ErrFull) { // which ends by itself
							t.Fatal(err)
						}
						return err == nil
					})
				}
			}
			fill(8 << 20)
			if full == "disk" {
				sealNow(t, s)
				q.use.Store(&s.disk)
				total, _, _, err := s.disk.measure()
				if err != nil {
					t.Fatal(err)
				}
				q.bytes.Store(total + 2<<20)
			}
			w, done := heldBackup(s)
			fill(6 << 20)
			if start, _, _ := high.Offsets(); start > 0 {
				t.Errorf("%d records of the highest priority were dropped for a backup", start)
			}
			if start, _, end := p.Offsets(); end-start < 1<<10 {
				t.Errorf("%d records are left of %d", end-start, end)
			}
			close(w.goOn)
			if err := <-done; !errors.Is(err, ErrFull) {
				t.Errorf("the backup ended with %v", err)
			}
		})
	}
}
