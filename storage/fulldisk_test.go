package storage

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// quota is a disk of so many bytes under everything but the journal: what is written beside it fails when that is used up.
type quota struct {
	dir   string
	bytes atomic.Int64
	use   atomic.Pointer[diskUse] // that counts, with what is unlinked and open; nil: without
}

// fault is Options.faults.
func (q *quota) fault(point string) error {
	if !strings.HasPrefix(point, "before") {
		return nil
	}
	d := q.use.Load()
	if d == nil {
		d = &diskUse{dir: q.dir, now: func() (t time.Time) { return t }}
	}
	if total, _, _, err := d.measure(); err != nil {
		return err
	} else if total > q.bytes.Load() {
		return syscall.ENOSPC
	}
	return nil
}

// A disk that is full at the seal, at a new log file or at the checkpoint refuses records and loses none that was acknowledged; it
// takes them again by itself when there is room.
func TestFullDiskRefuses(t *testing.T) {
	o := testOptions(t, smallBudget(Options{Dir: t.TempDir(), FS: newSimFS()}))
	q := &quota{dir: o.Dir}
	q.bytes.Store(4 << 20)
	o.MaxBytes, o.faults = 0, q.fault
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetHold(nil)
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	fill := func() (acknowledged int64) {
		for range 1000 {
			err := s.Do(context.Background(), f.append(p, 16, 1024))
			if errors.Is(err, ErrFull) {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("refused for %v", err)
				}
				return acknowledged
			}
			if err != nil {
				t.Fatal(err)
			}
			acknowledged += 16
		}
		t.Fatal("a full disk took 16 MiB")
		return 0
	}
	want := int64(0)
	for range 3 {
		want += fill()
		if start, _, high := p.Offsets(); start != 0 || high != want {
			t.Fatalf("offsets %d to %d, want %d records", start, high, want)
		}
		if n := int64(len(valuesOf(t, p, 0))); n != want { // reads go on
			t.Fatalf("%d records can be read, %d were acknowledged", n, want)
		}
		doTest(t, s, &Commit{Urgent: true, Puts: []Put{{Space: "x", Key: "k", Value: []byte("v")}}})
		q.bytes.Add(4 << 20)
		until(t, "records are taken again", func() bool {
			err := s.Do(context.Background(), f.append(p, 1, 1024))
			if err == nil {
				want++
			}
			return err == nil
		})
	}
	closeTest(t, s)
	o.faults = nil
	s = openTest(t, o)
	defer closeTest(t, s)
	again, _ := s.Topic("t")
	if n := int64(len(valuesOf(t, again.Partitions[0], 0))); n != want {
		t.Errorf("%d records after a restart, %d were acknowledged", n, want)
	}
}

// A store that was told to drops its oldest records for a full disk, of which it knows no bound, and goes on.
func TestFullDiskDropsOldest(t *testing.T) {
	o := testOptions(t, smallBudget(Options{Dir: t.TempDir(), FS: newSimFS(), WhenFull: DropOldest}))
	q := &quota{dir: o.Dir}
	q.bytes.Store(6 << 20)
	o.MaxBytes, o.faults = 0, q.fault
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		q.bytes.Store(1 << 40) // the end seals all that is in memory, which needs room
		closeTest(t, s)
	}()
	s.SetHold(nil)
	p := createTest(t, s, "t", 1).Partitions[0]
	f := newFiller()
	for taken := 0; taken < 16<<20; {
		err := s.Do(context.Background(), f.append(p, 16, 1024))
		switch {
		case err == nil:
			taken += 16 << 10
		case !errors.Is(err, ErrFull): // which ends by itself
			t.Fatal(err)
		}
	}
	q.bytes.Store(1 << 40)
	s.onSealer(func() {}) // from here on nothing more is dropped
	start, _, high := p.Offsets()
	if start == 0 || high < 16<<10 {
		t.Errorf("offsets %d to %d", start, high)
	}
	if n := int64(len(valuesOf(t, p, start))); n != high-start {
		t.Errorf("%d records can be read from %d to %d", n, start, high)
	}
}
