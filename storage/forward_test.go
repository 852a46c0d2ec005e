package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// forwarded runs one pass of copying forward, now.
func forwarded(t testing.TB, s *Store) {
	t.Helper()
	if !s.onSealer(func() {
		s.forwardAt = 0
		s.forward()
	}) {
		t.Fatal("the store is closed")
	}
}

// A partition that got one record a minute for a month, each hour sealed, reads and compresses as if all of it had come
// at once, within 15 %, and each byte of it was rewritten a few times only.
func TestTrickleOfAMonth(t *testing.T) {
	clock := newTestClock()
	s := openTest(t, Options{Now: clock.now})
	slow := topicWith(t, s, "slow", 1, "retention.ms", hours(90*24)).Partitions[0]
	at := topicWith(t, s, "at-once", 1, "retention.ms", hours(90*24), "rivulet.priority", "1").Partitions[0]
	records := telemetry(30 * 24 * 60)
	// Five minutes to a commit, so that the test is short.
	for i := 0; i < len(records); i += 5 {
		clock.step(5 * time.Minute)
		doTest(t, s, &Commit{Appends: []Append{{Partition: slow, Records: records[i : i+5]}}})
		if i%60 == 55 {
			sealNow(t, s)
			forwarded(t, s)
		}
	}
	sealNow(t, s)
	passed := s.Stats()
	doTest(t, s, &Commit{Appends: []Append{{Partition: at, Records: records}}})
	sealNow(t, s)
	read := func(p *Partition) (batches int, took time.Duration) {
		begun := time.Now()
		for from, _, high := p.Offsets(); from < high; {
			got, err := p.Read(from, high, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range got {
				recs, next, err := readBatchOf(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					if want := string(records[r.offset].Payload.Value()); r.value != want {
						t.Fatalf("offset %d is %q, want %q", r.offset, r.value, want)
					}
				}
				from = next
				batches++
			}
		}
		return batches, time.Since(begun)
	}
	_, slowStored := slow.Size()
	_, atStored := at.Size()
	slowBatches, slowTook := read(slow)
	atBatches, atTook := read(at)
	raw := rawSize(records)
	t.Logf("%d records, %d bytes: a minute each %d bytes in %d batches, read in %v; at once %d in %d, %v; sealing wrote %d, copying %d",
		len(records), raw, slowStored, slowBatches, slowTook, atStored, atBatches, atTook, passed.SealedBytes, passed.CopiedBytes)
	if slowStored*100 > atStored*115 {
		t.Errorf("%d bytes stored, at once %d", slowStored, atStored)
	}
	if slowBatches > raw/(mergeAim/2)+forwardGroups { // the last ones are not merged yet
		t.Errorf("%d batches", slowBatches)
	}
	if passed.CopiedBytes > 6*uint64(atStored) {
		t.Errorf("copying wrote %d bytes for %d", passed.CopiedBytes, atStored)
	}
	if files, _ := filepath.Glob(filepath.Join(s.o.Dir, "log", "*", "*.db")); len(files) > 16 {
		t.Errorf("%d files", len(files))
	}
	closeTest(t, s)
}

// A merged batch spans an eighth of retention.ms at most, so that it does not keep its oldest records much too long.
func TestMergesDoNotSpanTooMuch(t *testing.T) {
	clock := newTestClock()
	s := openTest(t, Options{Now: clock.now})
	p := topicWith(t, s, "t", 1, "retention.ms", hours(16)).Partitions[0]
	for range 300 {
		clock.step(time.Minute)
		put(t, s, p, "x")
		sealNow(t, s)
	}
	forwarded(t, s) // ends the file
	forwarded(t, s)
	entries := s.sealed.index(p.ID)
	if len(entries) > 80 || len(entries) < 3 { // the last ones are not worth it yet
		t.Fatalf("%d batches", len(entries))
	}
	for _, e := range entries {
		if e.age > 2*3600 {
			t.Fatalf("a batch spans %d s", e.age)
		}
	}
	closeTest(t, s)
}

// Files that are less than half live give back what is past; a pass that has nothing to do does nothing.
func TestForwardGivesBack(t *testing.T) {
	clock := newTestClock()
	o := Options{Dir: t.TempDir(), Now: clock.now, LogFileBytes: 1 << 20}
	s := openTest(t, o)
	// One class, so one row of files; what differs is by hand.
	kept := topicWith(t, s, "kept", 1).Partitions[0]
	going := topicWith(t, s, "going", 3).Partitions
	n := 0
	for range 40 {
		c := &Commit{}
		for _, p := range append(going, kept) {
			n++
			c.Appends = append(c.Appends, Append{Partition: p, Records: []batch.Record{record(int64(n), fmt.Sprint(n, noise(n, 30_000)))}})
		}
		doTest(t, s, c)
		if n%16 == 0 {
			sealNow(t, s)
		}
	}
	sealNow(t, s)
	want := valuesOf(t, kept, 0)
	forwarded(t, s)
	if copied := s.Stats().CopiedBytes; copied > 0 {
		t.Fatalf("%d bytes copied with nothing past", copied)
	}
	before := used(t, o.Dir)
	for _, p := range going {
		if err := s.Trim(t.Context(), []Start{{Partition: p, Offset: 38}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 12 {
		forwarded(t, s)
	}
	after := used(t, o.Dir)
	if after > before/2 {
		t.Fatalf("%d bytes of %d are still there", after, before)
	}
	copied := s.Stats().CopiedBytes
	forwarded(t, s)
	if again := s.Stats().CopiedBytes; again > copied {
		t.Fatalf("%d bytes copied with nothing to do", again-copied)
	}
	check := func() {
		t.Helper()
		if got := valuesOf(t, kept, 0); len(got) != len(want) || got[7] != want[7] {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
	}
	check()
	for _, end := range []func(*Store) error{kill, (*Store).Close} {
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, o)
		kept = must(s.Topic("kept")).Partitions[0]
		check()
	}
	closeTest(t, s)
	if problems, err := Verify(t.Context(), o.Dir); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// noise is text that does not compress.
func noise(seed, n int) string {
	b := make([]byte, n)
	x := uint64(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

// used is what the log files take.
func used(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += allocated(info)
	}
	return n
}

// The same beside a topic that gets much more, and is sealed with it: what it stores is not copied for the little ones' sake.
func TestTrickleBesideBulk(t *testing.T) {
	clock := newTestClock()
	s := openTest(t, Options{Now: clock.now, LogFileBytes: 4 << 20, FS: newSimFS()})
	slow := topicWith(t, s, "slow", 8, "retention.ms", hours(90*24)).Partitions
	bulk := topicWith(t, s, "bulk", 2, "retention.ms", hours(90*24)).Partitions
	at := topicWith(t, s, "at-once", 1, "retention.ms", hours(90*24), "rivulet.priority", "9").Partitions[0]
	const days = 5
	records, much := telemetry(days*24*60), telemetry(2500)
	for i := 0; i < len(records); i += 30 {
		clock.step(30 * time.Minute)
		c := &Commit{Appends: []Append{{Partition: bulk[0], Records: much}, {Partition: bulk[1], Records: much}}}
		for _, p := range slow {
			c.Appends = append(c.Appends, Append{Partition: p, Records: records[i : i+30]})
		}
		doTest(t, s, c)
		sealNow(t, s)
		forwarded(t, s)
	}
	passed := s.Stats()
	doTest(t, s, &Commit{Appends: []Append{{Partition: at, Records: records}}})
	sealNow(t, s)
	_, atStored := at.Size()
	_, bulkStored := bulk[0].Size()
	for _, p := range slow {
		_, stored := p.Size()
		batches := len(s.sealed.index(p.ID))
		t.Logf("%d records: half an hour each %d bytes in %d batches; at once %d in %d; sealing wrote %d, copying %d; a bulk partition holds %d",
			len(records), stored, batches, atStored, len(s.sealed.index(at.ID)), passed.SealedBytes, passed.CopiedBytes, bulkStored)
		if stored*100 > atStored*115 {
			t.Errorf("%d bytes stored, at once %d", stored, atStored)
		}
		if got := len(valuesOf(t, p, 0)); got != len(records) {
			t.Errorf("%d records of %d", got, len(records))
		}
	}
	if most := 8 * uint64(atStored) * uint64(len(slow)); passed.CopiedBytes > most {
		t.Errorf("copying wrote %d bytes for what takes %d", passed.CopiedBytes, int64(len(slow))*atStored)
	}
	closeTest(t, s)
}
