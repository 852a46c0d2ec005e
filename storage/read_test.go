package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rivulet/storage/batch"
)

// sealNow seals and checkpoints while the store runs, as full tails would make it do.
func sealNow(t testing.TB, s *Store) {
	t.Helper()
	s.pressed.Store(true)
	s.wakeSealer()
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	for s.tailBytes.Load() > 0 {
		s.room.Wait()
	}
}

// everyAge runs check while records are in the tail, when they are sealed, when some are, and after a restart.
func everyAge(t *testing.T, build func(s *Store, p *Partition, half int), check func(t *testing.T, s *Store, p *Partition)) {
	for _, age := range []string{"tail", "sealed", "both", "reopened"} {
		t.Run(age, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, Options{Dir: dir})
			p := createTest(t, s, "t", 2).Partitions[0]
			build(s, p, 0)
			if age == "both" {
				sealNow(t, s)
			}
			build(s, p, 1)
			if age == "sealed" {
				sealNow(t, s)
			}
			if age == "reopened" {
				closeTest(t, s)
				s = openTest(t, Options{Dir: dir})
				p = must(s.Topic("t")).Partitions[0]
			}
			check(t, s, p)
			closeTest(t, s)
		})
	}
}

func TestRead(t *testing.T) {
	build := func(s *Store, p *Partition, half int) {
		for i := range 10 {
			put(t, s, p, fmt.Sprint(half*20+2*i), fmt.Sprint(half*20+2*i+1))
		}
	}
	everyAge(t, build, func(t *testing.T, s *Store, p *Partition) {
		for from := range int64(40) {
			got := valuesOf(t, p, from)
			if int64(len(got)) != 40-from || got[from] != fmt.Sprint(from) || got[39] != "39" {
				t.Fatalf("from %d: %d records", from, len(got))
			}
		}
		if bs, err := p.Read(40, 40, 1<<20); len(bs) != 0 || err != nil {
			t.Fatal(len(bs), err)
		}
		if _, err := p.Read(41, 100, 1<<20); !errors.Is(err, ErrOffsetRange) {
			t.Fatal(err)
		}
		if _, err := p.Read(-1, 100, 1<<20); !errors.Is(err, ErrOffsetRange) {
			t.Fatal(err)
		}
		if bs, err := p.Read(0, 40, 1); len(bs) != 1 || err != nil {
			t.Fatal(len(bs), err)
		}
		bs, err := p.Read(0, 40, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		h, err := batch.ParseHeader(bs[len(bs)-1])
		if err != nil || h.NextOffset() != 40 {
			t.Fatalf("one read gives up to %d", h.NextOffset())
		}
	})
}

func TestOffsetForTime(t *testing.T) {
	build := func(s *Store, p *Partition, half int) {
		for i := range 5 {
			at := int64(1000 * (half*5 + i + 1))
			doTest(t, s, &Commit{Appends: []Append{{Partition: p, Records: []batch.Record{record(at, "a"), record(at+500, "b")}}}})
		}
	}
	everyAge(t, build, func(t *testing.T, s *Store, p *Partition) {
		for _, c := range []struct{ ms, offset, ts int64 }{{0, 0, 1000}, {1000, 0, 1000}, {1001, 1, 1500}, {9500, 17, 9500}, {10500, 19, 10500}} {
			offset, ts, ok, err := p.OffsetForTime(c.ms)
			if err != nil || !ok || offset != c.offset || ts != c.ts {
				t.Fatalf("at %d: offset %d, %d, %v, %v", c.ms, offset, ts, ok, err)
			}
		}
		if _, _, ok, err := p.OffsetForTime(10501); ok || err != nil {
			t.Fatal(ok, err)
		}
		if offset, ts, err := p.MaxTimestamp(); offset != 19 || ts != 10500 || err != nil {
			t.Fatal(offset, ts, err)
		}
		other := must(s.Topic("t")).Partitions[1]
		if offset, ts, err := other.MaxTimestamp(); offset != -1 || ts != -1 || err != nil {
			t.Fatal(offset, ts, err)
		}
	})
}

func TestFrames(t *testing.T) {
	build := func(s *Store, p *Partition, half int) {
		other := must(s.Topic("t")).Partitions[1]
		for i := range 5 {
			c := appendOf(p, fmt.Sprint(half*5+i))
			c.Appends = append(c.Appends, Append{Partition: other, Records: []batch.Record{record(1, fmt.Sprint("other ", half*5+i))}})
			doTest(t, s, c)
			doTest(t, s, &Commit{Puts: []Put{{"test", "k", []byte("a frame without batches")}}})
		}
	}
	everyAge(t, build, func(t *testing.T, s *Store, p *Partition) {
		for _, size := range []int{1, 300, 1 << 20} {
			after, n := uint64(0), 0
			for {
				frames, err := s.Frames(after, size)
				if err != nil {
					t.Fatal(err)
				}
				if len(frames) == 0 {
					break
				}
				for _, f := range frames {
					if f.Seq <= after || len(f.Batches) != 2 {
						t.Fatalf("frame %d behind %d, %d batches", f.Seq, after, len(f.Batches))
					}
					after = f.Seq
					for _, b := range f.Batches {
						want := fmt.Sprint(n)
						if b.Partition != p {
							want = "other " + want
						}
						var d batch.Decoder
						if err := d.Reset(b.Data, 0); err != nil {
							t.Fatal(err)
						}
						if r, ok := d.Next(); !ok || string(r.Payload.Value()) != want || r.Offset != int64(n) {
							t.Fatalf("frame %d: %q at %d, want %q", f.Seq, r.Payload.Value(), r.Offset, want)
						}
					}
					n++
				}
			}
			if n != 10 {
				t.Fatalf("%d frames", n)
			}
		}
		if frames, err := s.Frames(s.LastSeq(), 1<<20); len(frames) != 0 || err != nil {
			t.Fatal(len(frames), err)
		}
	})
}

// Readers of both kinds see every record once while tails are sealed under them.
func TestReadWhileSealing(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer func() { closeTest(t, s) }()
	const n = 2000
	done := make(chan error, 3)
	go func() {
		for i := range n {
			if err := s.Do(context.Background(), appendOf(p, fmt.Sprintf("%06d%s", i, strings.Repeat("z", 300)))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		done <- func() error {
			w := NewWaiter()
			p.Watch(w)
			defer p.Unwatch(w)
			for next := int64(0); next < n; {
				_, _, high := p.Offsets()
				if next == high {
					<-w.C
					continue
				}
				bs, err := p.Read(next, high, 4096)
				if err != nil || len(bs) == 0 {
					return fmt.Errorf("read %d of %d: %d batches, %w", next, high, len(bs), err)
				}
				if next, err = follows(bs, next); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	go func() {
		done <- func() error {
			w := NewWaiter()
			s.WatchAll(w)
			defer s.UnwatchAll(w)
			after := uint64(0)
			for next := int64(0); next < n; {
				frames, err := s.Frames(after, 4096)
				if err != nil {
					return err
				}
				if len(frames) == 0 {
					<-w.C
				}
				for _, f := range frames {
					after = f.Seq
					for _, b := range f.Batches {
						if next, err = follows([][]byte{b.Data}, next); err != nil {
							return err
						}
					}
				}
			}
			return nil
		}()
	}()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if s.Stats().SealedBytes == 0 {
		t.Fatal("nothing was sealed")
	}
}

// follows checks that batches continue at offset next with the value that belongs there.
func follows(bs [][]byte, next int64) (int64, error) {
	for _, b := range bs {
		var d batch.Decoder
		if err := d.Reset(b, 0); err != nil {
			return next, err
		}
		for {
			r, ok := d.Next()
			if !ok {
				break
			}
			if r.Offset < next {
				continue
			}
			if r.Offset != next || string(r.Payload.Value()[:6]) != fmt.Sprintf("%06d", next) {
				return next, fmt.Errorf("%q at offset %d, want %d", r.Payload.Value()[:6], r.Offset, next)
			}
			next++
		}
	}
	return next, nil
}

// A reader whose tail is sealed, and merged with what was sealed before it, between its look at the tail and its look at the log gets each
// record once all the same.
func TestReadWhileTheTailIsSealedAndMerged(t *testing.T) {
	s := openTest(t, Options{ScrubRate: -1})
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	put(t, s, p, "0", "1")
	sealNow(t, s)
	put(t, s, p, "2", "3")
	v, err := p.view()
	if err != nil || len(v.tail) != 1 {
		t.Fatalf("%d batches in the tail, %v", len(v.tail), err)
	}
	sealNow(t, s)
	if !s.onSealer(func() {
		if err := s.sealed.retire(defaultClass); err != nil {
			t.Error(err)
		}
		if err := s.sealed.rewrite(s.sealed.rewritable(defaultClass), rewriting{}); err != nil {
			t.Error(err)
		}
	}) {
		t.Fatal("the store is closed")
	}
	put(t, s, p, "4")
	for from := range v.high {
		set, err := p.readView(v, from, v.high, 1<<20)
		if err != nil || len(set) != 1 {
			t.Fatalf("%d batches at %d, %v", len(set), from, err)
		}
		if recs, next, err := readRecords(set[0]); err != nil || next != 4 || from < 2 && len(recs) != 4 {
			t.Fatalf("read %d up to %d: %v, %v", from, next, recs, err)
		}
	}
}

// A lookup by time that is led to a batch which retention takes before it is read looks again.
func TestLookupWhileTheLogIsTrimmed(t *testing.T) {
	s := openTest(t, Options{ScrubRate: -1})
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	put(t, s, p, "0", "1")
	sealNow(t, s)
	if err := s.Trim(t.Context(), []Start{{Partition: p, Offset: 2}}); err != nil {
		t.Fatal(err)
	}
	if !s.onSealer(s.letGo) {
		t.Fatal("the store is closed")
	}
	if b, err := p.sealedBatch(0); !errors.Is(err, errGone) {
		t.Fatalf("a batch of %d bytes, %v", len(b), err)
	}
	if _, _, ok, err := p.OffsetForTime(0); ok || err != nil {
		t.Fatalf("found %v, %v", ok, err)
	}
	if offset, _, err := p.MaxTimestamp(); offset != -1 || err != nil {
		t.Fatalf("newest at %d, %v", offset, err)
	}
}
