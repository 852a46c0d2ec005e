package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// retained runs a retention pass, now.
func retained(t *testing.T, s *Store) {
	t.Helper()
	if !s.onSealer(func() {
		s.retained = -retainEvery
		s.retain()
		s.letGo()
	}) {
		t.Fatal("the store is closed")
	}
}

func wantStart(t *testing.T, p *Partition, want int64) {
	t.Helper()
	if start, _, high := p.Offsets(); start != want {
		t.Fatalf("log of %s from %d to %d, want it from %d", p.Topic(), start, high, want)
	}
}

func hours(n int) string { return strconv.Itoa(n * 3600_000) }

// Records go by the store's clock, whole batches at a time, from sealed batches and from tails; what is not to be deleted stays.
func TestRetentionByTime(t *testing.T) {
	clock := newTestClock()
	o := Options{Dir: t.TempDir(), Now: clock.now}
	s := openTest(t, o)
	short := topicWith(t, s, "short", 2, "retention.ms", hours(10)).Partitions
	forever := topicWith(t, s, "forever", 1, "retention.ms", "-1").Partitions[0]
	compacted := topicWith(t, s, "compacted", 1, "retention.ms", hours(1), "cleanup.policy", "compact").Partitions[0]
	write := func() {
		for _, p := range []*Partition{short[0], forever, compacted} {
			put(t, s, p, "a", "b")
		}
	}
	for range 4 { // at 0, 4, 8 and 12 hours
		write()
		sealNow(t, s)
		clock.pass(s, 4*time.Hour)
	}
	retained(t, s) // at 16: those of 0 and 4 are past
	wantStart(t, short[0], 4)
	write() // in the tail
	clock.pass(s, 9*time.Hour)
	retained(t, s) // at 25: all that is sealed is past, the tail is not
	wantStart(t, short[0], 8)
	clock.pass(s, 2*time.Hour)
	retained(t, s)
	wantStart(t, short[0], 10)
	wantStart(t, short[1], 0)
	wantStart(t, forever, 0)
	wantStart(t, compacted, 0)
	byTime := slices.DeleteFunc(s.Dropped(), func(d Dropped) bool { return d.Reason == DropCompacted }) // what has no key goes there
	if len(byTime) != 1 || byTime[0] != (Dropped{"short", DropTime, 10}) {
		t.Fatal(byTime)
	}
	if n := len(s.sealed.index(short[0].ID)); n > 0 {
		t.Fatalf("%d entries of what is past", n)
	}
	write()
	for _, end := range []func(*Store) error{kill, (*Store).Close} {
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, o)
		if p := s.Problems(); len(p) > 0 {
			t.Fatal(p)
		}
		p := must(s.Topic("short")).Partitions[0]
		wantStart(t, p, 10)
		if got := valuesOf(t, p, 10); len(got) != 2 {
			t.Fatal(got)
		}
	}
	closeTest(t, s)
	if problems, err := Verify(t.Context(), o.Dir); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// A gateway that starts in 1970 and is told the time, and records with old timestamps: neither makes anything go.
func TestRetentionDoesNotPurge(t *testing.T) {
	clock := newTestClock()
	clock.ms.Store(60_000) // 1970
	o := Options{Dir: t.TempDir(), Now: clock.now}
	s := openTest(t, o)
	p := topicWith(t, s, "t", 1, "retention.ms", hours(24)).Partitions[0]
	put(t, s, p, "in 1970")
	clock.step(56 * 365 * 24 * time.Hour)
	s.clock.tick(clock.now())
	old := batch.Record{Timestamp: 1000, Payload: batch.AppendPayload(nil, nil, []byte("back-filled"), nil)}
	doTest(t, s, &Commit{Appends: []Append{{Partition: p, Records: []batch.Record{old}}}})
	sealNow(t, s)
	retained(t, s)
	wantStart(t, p, 0)
	closeTest(t, s)
	clock.ms.Store(60_000) // and once more
	s = openTest(t, o)
	p = must(s.Topic("t")).Partitions[0]
	clock.step(56 * 365 * 24 * time.Hour)
	s.clock.tick(clock.now())
	retained(t, s)
	wantStart(t, p, 0)
	clock.pass(s, 25*time.Hour)
	retained(t, s)
	wantStart(t, p, 2)
	closeTest(t, s)
}

// A partition keeps the newest of its stored bytes, at least as many as retention.bytes says.
func TestRetentionByBytes(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := openTest(t, o)
	p := topicWith(t, s, "t", 1, "retention.bytes", "1000", "retention.ms", "-1").Partitions[0]
	for i := range 20 {
		put(t, s, p, fmt.Sprintf("%d %0200d", i, i*i))
		sealNow(t, s)
	}
	retained(t, s)
	entries := s.sealed.index(p.ID)
	_, stored := p.Size()
	if stored < 1000 || stored-int64(entries[0].size) >= 1000 {
		t.Fatalf("%d bytes are stored, the oldest batch is %d", stored, entries[0].size)
	}
	start, _, _ := p.Offsets()
	if got := s.Dropped(); len(got) != 1 || got[0] != (Dropped{"t", DropBytes, uint64(start)}) || start == 0 {
		t.Fatal(got, start)
	}
	// An altered configuration counts at once.
	if _, err := s.AlterTopic(t.Context(), "t", map[string]string{"retention.bytes": "0", "retention.ms": "-1"}); err != nil {
		t.Fatal(err)
	}
	s.onSealer(func() { s.retain() })
	wantStart(t, p, 20)
	closeTest(t, s)
}

// Nothing goes that an open transaction still holds back; aborted transactions of the past are forgotten.
func TestRetentionAndTransactions(t *testing.T) {
	clock := newTestClock()
	o := Options{Dir: t.TempDir(), Now: clock.now}
	s := openTest(t, o)
	p := topicWith(t, s, "t", 1, "retention.ms", hours(1)).Partitions[0]
	doTest(t, s, produced(p, 5, 0, 0, true, "a"))
	doTest(t, s, marker(p, 5, 0, false))
	doTest(t, s, produced(p, 6, 0, 0, true, "b"))
	put(t, s, p, "c")
	sealNow(t, s)
	clock.pass(s, 3*time.Hour)
	retained(t, s)
	wantStart(t, p, 2)
	if got := p.Aborted(0, 10); len(got) > 0 {
		t.Fatalf("aborted transactions of the past: %v", got)
	}
	doTest(t, s, marker(p, 6, 0, true))
	sealNow(t, s)
	retained(t, s)
	wantStart(t, p, 4)
	closeTest(t, s)
	n := 0
	s = openTest(t, o)
	if err := s.meta.scan(spaceAborted, "", func(string, []byte) bool { n++; return true }); err != nil || n > 0 {
		t.Fatalf("%d aborted transactions in meta.db, %v", n, err)
	}
	closeTest(t, s)
}

// Files of which nothing is left are unlinked, numbers are not used again, and a start still knows where everything ends.
func TestRetentionUnlinks(t *testing.T) {
	clock := newTestClock()
	o := Options{Dir: t.TempDir(), Now: clock.now, LogFileBytes: 32 << 10}
	s := openTest(t, o)
	p := topicWith(t, s, "t", 1).Partitions[0]
	seen := map[string]bool{}
	n := 0
	for round := range 3 {
		for range 6 {
			for range 10 {
				put(t, s, p, fmt.Sprintf("%d %01000d", n, n))
				n++
			}
			sealNow(t, s)
		}
		names, err := filepath.Glob(filepath.Join(o.Dir, "log", "*", "*.db"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if seen[name] && round > 0 {
				t.Fatalf("%s is used again", name)
			}
			seen[name] = true
		}
		clock.pass(s, 8*24*time.Hour)
		retained(t, s)
		wantStart(t, p, int64(n))
		if round == 1 { // without a checkpoint
			if err := kill(s); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, o)
			if problems := s.Problems(); len(problems) > 0 {
				t.Fatal(problems)
			}
			p = must(s.Topic("t")).Partitions[0]
			wantStart(t, p, int64(n))
		}
		s.onSealer(func() {
			if err := s.sealRound(true); err != nil {
				t.Error(err)
			}
		})
		if left, _ := filepath.Glob(filepath.Join(o.Dir, "log", "*", "*.db")); len(left) > 0 {
			t.Fatalf("round %d: %v", round, left)
		}
	}
	closeTest(t, s)
	s = openTest(t, o)
	if base := put(t, s, must(s.Topic("t")).Partitions[0], "next"); base != int64(n) {
		t.Fatalf("next offset is %d, want %d", base, n)
	}
	closeTest(t, s)
	if _, err := os.Stat(o.Dir); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkRetain looks at 10,000 partitions of which nothing is past.
func BenchmarkRetain(b *testing.B) {
	s := openTest(b, Options{})
	defer closeTest(b, s)
	tp := createTest(b, s, "t", 10_000)
	c := &Commit{}
	for _, p := range tp.Partitions {
		c.Appends = append(c.Appends, Append{Partition: p, Records: []batch.Record{record(1, "x")}})
	}
	doTest(b, s, c)
	sealNow(b, s)
	b.ReportAllocs()
	for b.Loop() {
		s.onSealer(func() {
			s.retained = -retainEvery
			s.retain()
		})
	}
}
