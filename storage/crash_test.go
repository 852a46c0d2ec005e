package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// smallOptions makes everything happen soon: files of 64 KiB, tails of 128 KiB.
func smallOptions(t testing.TB, dir string, fs FS) Options {
	return testOptions(t, Options{Dir: dir, FS: fs, JournalBytes: 64 << 10, TailBytes: 128 << 10, LogFileBytes: 1 << 20})
}

// acked is what a client was told.
type acked struct {
	mu      sync.Mutex
	records map[string]map[int64]string // topic/partition → offset → value
	keys    map[string]string
}

func (a *acked) stored(c *Commit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ap := range c.Appends {
		name := fmt.Sprintf("%s/%d", ap.Partition.Topic(), ap.Partition.Index)
		if a.records[name] == nil {
			a.records[name] = map[int64]string{}
		}
		for i, r := range ap.Records {
			a.records[name][ap.Base+int64(i)] = string(r.Payload.Value())
		}
	}
	for _, p := range c.Puts {
		a.keys[p.Key] = string(p.Value)
	}
}

// check compares what was acknowledged with what is there, and that nothing is there twice.
func (a *acked) check(t *testing.T, s *Store) {
	t.Helper()
	for _, tp := range s.Topics() {
		for _, p := range tp.Partitions {
			start, _, high := p.Offsets()
			if start != 0 {
				t.Fatalf("%s/%d starts at %d", tp.Name, p.Index, start)
			}
			got := valuesOf(t, p, start)
			if int64(len(got)) != high {
				t.Fatalf("%s/%d: %d records, high watermark %d", tp.Name, p.Index, len(got), high)
			}
			seen := map[string]int64{}
			for off, v := range got {
				if other, twice := seen[v]; twice {
					t.Fatalf("%s/%d: %q at %d and %d", tp.Name, p.Index, v, off, other)
				}
				seen[v] = off
			}
			for off, v := range a.records[fmt.Sprintf("%s/%d", tp.Name, p.Index)] {
				if got[off] != v {
					t.Fatalf("%s/%d offset %d: got %q, acknowledged %q", tp.Name, p.Index, off, got[off], v)
				}
			}
		}
	}
	for k, want := range a.keys {
		// A later change may be there without having been acknowledged; an older one may not.
		if got, err := s.Get("test", k); err != nil || string(got) < want {
			t.Fatalf("%s: got %q, acknowledged %q, %v", k, got, want, err)
		}
	}
}

// TestCrashAnywhere turns the machine off after any number of the journal's operations, many times over.
func TestCrashAnywhere(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			disk := newSimFS()
			all := &acked{records: map[string]map[int64]string{}, keys: map[string]string{}}
			n := 0
			sealed := uint64(0)
			for round := range 12 {
				off := errors.New("the machine is off")
				var left atomic.Int64
				left.Store(int64(20 + r.IntN(400)))
				disk.mu.Lock()
				disk.fail = func(op, _ string) error {
					if (op == "write" || op == "sync" || op == "rename" || op == "create") && left.Add(-1) < 0 {
						return off
					}
					return nil
				}
				disk.mu.Unlock()
				o := smallOptions(t, dir, disk)
				o.faults = func(string) error {
					if left.Add(-1) < 0 {
						return off
					}
					return nil
				}
				s, err := Open(context.Background(), o)
				if err == nil {
					all.check(t, s)
					if len(s.Problems()) > 0 {
						t.Fatalf("round %d: %v", round, s.Problems())
					}
					n = work(t, s, r, all, n)
					sealed += s.Stats().SealedBytes
					if round%4 == 3 {
						_ = s.Close() // it may fail: the journal may be gone
					} else if err := kill(s); err != nil {
						t.Fatal(err)
					}
				}
				if r.IntN(3) == 0 {
					disk = disk.kill()
				} else {
					disk = disk.crash(r)
				}
			}
			s, err := Open(context.Background(), smallOptions(t, dir, disk))
			if err != nil {
				t.Fatal(err)
			}
			all.check(t, s)
			total := 0
			for _, p := range all.records {
				total += len(p)
			}
			t.Logf("%d records acknowledged, %d bytes sealed", total, sealed)
			if total == 0 || sealed == 0 {
				t.Fatal("nothing was acknowledged")
			}
			closeTest(t, s)
		})
	}
}

// kill ends a store as the end of its process does: nothing more is written.
func kill(s *Store) error {
	s.stop()
	return s.release()
}

// work commits random things until the store fails, at most for a while, and returns the number of the next value.
func work(t *testing.T, s *Store, r *rand.Rand, all *acked, n int) int {
	ctx := context.Background()
	tp, ok := s.Topic("t")
	if !ok {
		var err error
		if tp, err = s.CreateTopic(ctx, "t", 4, nil); err != nil {
			return n
		}
	}
	inFlight := make(chan struct{}, 16)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 60 + r.IntN(200) {
		c := &Commit{}
		for range r.IntN(4) {
			a := Append{Partition: tp.Partitions[r.IntN(4)]}
			for range 1 + r.IntN(8) {
				a.Records = append(a.Records, record(int64(n), fmt.Sprintf("%08d-%s", n, strings.Repeat("x", r.IntN(600)))))
				n++
			}
			c.Appends = append(c.Appends, a)
		}
		for range r.IntN(3) {
			c.Puts = append(c.Puts, Put{"test", fmt.Sprintf("key-%02d", r.IntN(30)), fmt.Appendf(nil, "%08d", n)})
			n++
		}
		inFlight <- struct{}{}
		wg.Add(1)
		c.Done = func(c *Commit) {
			if c.Err == nil {
				all.stored(c)
			}
			<-inFlight
			wg.Done()
		}
		if err := s.Submit(ctx, c); err != nil {
			<-inFlight
			wg.Done()
			return n
		}
	}
	return n
}
