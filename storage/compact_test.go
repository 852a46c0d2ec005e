package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// compactNow runs compaction to its end.
func compactNow(t testing.TB, s *Store) {
	t.Helper()
	if !s.onSealer(func() {
		s.compact.after = time.Time{}
		for s.compactStep() {
		}
		s.compact.after = never()
	}) {
		t.Fatal("the sealer has ended")
	}
}

// pauseCompaction leaves all of it to compactNow.
func pauseCompaction(s *Store) { s.onSealer(func() { s.compact.after = never() }) }

func never() time.Time { return time.UnixMilli(math.MaxInt64) }

// compactedTopic makes a compacted topic that is due at once.
func compactedTopic(t testing.TB, s *Store, config ...string) *Partition {
	t.Helper()
	pauseCompaction(s)
	c := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"}
	for i := 0; i < len(config); i += 2 {
		c[config[i]] = config[i+1]
	}
	tp, err := s.CreateTopic(context.Background(), "c", 1, c)
	if err != nil {
		t.Fatal(err)
	}
	return tp.Partitions[0]
}

// pair is a record "key=value"; "key" alone is a tombstone, "=value" has no key.
func pair(ts int64, kv string) batch.Record {
	key, value, ok := strings.Cut(kv, "=")
	var k, v []byte
	if key != "" {
		k = []byte(key)
	}
	if ok {
		v = []byte(value)
	}
	return batch.Record{Timestamp: ts, Payload: batch.AppendPayload(nil, k, v, nil)}
}

func putPairs(t testing.TB, s *Store, p *Partition, kvs ...string) {
	t.Helper()
	c := &Commit{Appends: []Append{{Partition: p}}}
	for i, kv := range kvs {
		c.Appends[0].Records = append(c.Appends[0].Records, pair(int64(1000+i), kv))
	}
	doTest(t, s, c)
}

// pairsOf reads a partition to its last stable offset as a reader of committed records does: "offset:key=value".
func pairsOf(t testing.TB, p *Partition) []string {
	t.Helper()
	list, err := readPairs(p, -1)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// readPairs is pairsOf from an offset, -1: the log's start. It checks that offsets ascend.
func readPairs(p *Partition, from int64) (out []string, err error) {
	start, stable, _ := p.Offsets()
	if from < 0 {
		from = start
	}
	last := int64(-1)
	for from < stable {
		set, err := p.Read(from, stable, 1<<12)
		if err != nil {
			return out, err
		}
		if len(set) == 0 {
			return out, fmt.Errorf("nothing at offset %d of %d", from, stable)
		}
		for _, b := range set {
			if err := batch.Check(b); err != nil {
				return out, err
			}
			var d batch.Decoder
			if err := d.Reset(b, 0); err != nil {
				return out, err
			}
			h := d.Header()
			for {
				r, ok := d.Next()
				if !ok {
					break
				}
				if r.Offset <= last {
					return out, fmt.Errorf("offset %d behind %d", r.Offset, last)
				}
				last = r.Offset
				if r.Offset < from || h.Control() || abortedAt(p, h, r.Offset) {
					continue
				}
				text := fmt.Sprintf("%d:%s", r.Offset, r.Payload.Key())
				if v := r.Payload.Value(); v != nil {
					text += "=" + string(v)
				}
				out = append(out, text)
			}
			if err := d.Err(); err != nil {
				return out, err
			}
			if h.NextOffset() <= from {
				return out, fmt.Errorf("batch up to %d for offset %d", h.NextOffset(), from)
			}
			from = h.NextOffset()
		}
	}
	return out, nil
}

func abortedAt(p *Partition, h batch.Header, offset int64) bool {
	return h.Transactional() && slices.ContainsFunc(p.Aborted(offset, offset+1), func(a Aborted) bool {
		return a.ProducerID == h.ProducerID && a.FirstOffset <= offset && offset <= a.LastOffset
	})
}

func wantPairs(t testing.TB, p *Partition, want ...string) {
	t.Helper()
	if got := pairsOf(t, p); !slices.Equal(got, want) {
		t.Fatalf("the log holds %v, want %v", got, want)
	}
}

// stepClock is a wall clock that tests move.
type stepClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *stepClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// pass moves it on, in steps that the store takes for time that passed.
func (c *stepClock) pass(s *Store, d time.Duration) {
	for ; d > 0; d -= clockStep {
		c.mu.Lock()
		c.at = c.at.Add(min(d, clockStep))
		c.mu.Unlock()
		s.onSealer(func() { s.clock.tick(c.now()) })
	}
}

func newStepClock() *stepClock { return &stepClock{at: time.UnixMilli(1_800_000_000_000)} }

func TestCompactionKeepsTheLastOfEachKey(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	p := compactedTopic(t, s)
	putPairs(t, s, p, "a=1", "b=1", "a=2")
	putPairs(t, s, p, "c=1", "a=3")
	sealNow(t, s)
	putPairs(t, s, p, "b=2", "d=1")
	sealNow(t, s)
	putPairs(t, s, p, "c=2") // in the tail
	compactNow(t, s)
	want := []string{"3:c=1", "4:a=3", "5:b=2", "6:d=1", "7:c=2"}
	wantPairs(t, p, want...)
	if got := s.Dropped(); len(got) != 1 || got[0] != (Dropped{"c", DropCompacted, 3}) {
		t.Errorf("counted are %v", got)
	}
	if start, stable, high := p.Offsets(); start != 0 || stable != 8 || high != 8 {
		t.Errorf("offsets %d %d %d", start, stable, high)
	}
	sealNow(t, s)
	compactNow(t, s)
	want = slices.Delete(want, 0, 1)
	wantPairs(t, p, want...)
	closeTest(t, s)
	s = openTest(t, Options{Dir: dir})
	wantPairs(t, must(s.Topic("c")).Partitions[0], want...)
	for from := range int64(8) { // every place is one to begin
		got, err := readPairs(must(s.Topic("c")).Partitions[0], from)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(want, func(w string) bool { return w >= fmt.Sprint(from) }); !slices.Equal(got, want[i:]) {
			t.Errorf("from %d: %v", from, got)
		}
	}
	closeTest(t, s)
}

func TestTombstones(t *testing.T) {
	clock := newStepClock()
	s := openTest(t, Options{Now: clock.now})
	p := compactedTopic(t, s, "delete.retention.ms", "60000")
	putPairs(t, s, p, "a=1", "b=1", "a")
	sealNow(t, s)
	clock.pass(s, time.Hour) // before it was ever compacted, its time does not run
	compactNow(t, s)
	wantPairs(t, p, "1:b=1", "2:a")
	putPairs(t, s, p, "x=1")
	sealNow(t, s)
	clock.pass(s, 59*time.Second)
	compactNow(t, s)
	wantPairs(t, p, "1:b=1", "2:a", "3:x=1")
	clock.pass(s, 2*time.Second)
	compactNow(t, s)
	wantPairs(t, p, "1:b=1", "3:x=1")
	// The last record stays whatever it is: a reader that waits for the end of the log must meet it.
	putPairs(t, s, p, "x")
	sealNow(t, s)
	compactNow(t, s)
	clock.pass(s, time.Hour)
	compactNow(t, s)
	wantPairs(t, p, "1:b=1", "4:x")
	closeTest(t, s)
}

func TestCompactionLag(t *testing.T) {
	clock := newStepClock()
	s := openTest(t, Options{Now: clock.now})
	p := compactedTopic(t, s, "min.compaction.lag.ms", "60000")
	putPairs(t, s, p, "a=1", "a=2")
	sealNow(t, s)
	clock.pass(s, 30*time.Second)
	putPairs(t, s, p, "a=3")
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "0:a=1", "1:a=2", "2:a=3")
	clock.pass(s, 31*time.Second)
	compactNow(t, s)
	wantPairs(t, p, "1:a=2", "2:a=3") // the newest is still left alone, so it supersedes nothing
	clock.pass(s, 30*time.Second)
	compactNow(t, s)
	wantPairs(t, p, "2:a=3")
	closeTest(t, s)
}

func TestDirtyRatio(t *testing.T) {
	s := openTest(t, Options{})
	p := compactedTopic(t, s, "min.cleanable.dirty.ratio", "0.5")
	for i := range 20 {
		putPairs(t, s, p, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", 500)))
	}
	sealNow(t, s)
	compactNow(t, s)
	putPairs(t, s, p, "k0=1")
	sealNow(t, s)
	compactNow(t, s)
	if got := pairsOf(t, p); len(got) != 21 {
		t.Errorf("%d records: a little that is new was compacted", len(got))
	}
	if _, err := s.AlterTopic(context.Background(), "c", map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001"}); err != nil {
		t.Fatal(err)
	}
	compactNow(t, s)
	if got := pairsOf(t, p); len(got) != 20 {
		t.Errorf("%d records, want 20", len(got))
	}
	closeTest(t, s)
}

// sendPairs commits key=value pairs of producer id as part of its transaction.
func sendPairs(t *testing.T, s *Store, p *Partition, id int64, seq int32, kvs ...string) {
	t.Helper()
	c := produced(p, id, 0, seq, true, kvs...)
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, kv := range kvs {
		w.Add(1000, pair(0, kv).Payload)
	}
	c.Appends[0].Batch = w.End(batch.AttrTransactional, id, 0, seq)
	doTest(t, s, c)
}

func TestCompactionOfTransactions(t *testing.T) {
	s := openTest(t, Options{})
	p := compactedTopic(t, s)
	send := func(id int64, seq int32, kvs ...string) {
		t.Helper()
		sendPairs(t, s, p, id, seq, kvs...)
	}
	putPairs(t, s, p, "a=0", "b=0", "c=0") // 0 to 2
	send(7, 0, "a=committed")              // 3
	doTest(t, s, marker(p, 7, 0, true))    // 4
	send(7, 1, "b=aborted", "n=aborted")   // 5, 6
	doTest(t, s, marker(p, 7, 0, false))   // 7
	send(8, 0, "c=open")                   // 8
	putPairs(t, s, p, "a=behind")          // 9
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "1:b=0", "2:c=0", "3:a=committed")
	doTest(t, s, marker(p, 8, 0, true)) // 10
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "1:b=0", "8:c=open", "9:a=behind")
	// The marker that commits at 4 is gone, the one that aborts stays: a client that was told of the transaction waits for it.
	var markers []int64
	set, err := p.Read(0, 11, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range set {
		if h, _ := batch.ParseHeader(b); h.Control() {
			markers = append(markers, h.BaseOffset)
		}
	}
	if !slices.Equal(markers, []int64{7, 10}) {
		t.Errorf("markers at %v, want 7, and 10, the last of the log", markers)
	}
	closeTest(t, s)
}

// Batches keep their first and last offset, whatever goes from their edges.
func TestCompactedBatchesKeepTheirOffsets(t *testing.T) {
	s := openTest(t, Options{})
	p := compactedTopic(t, s)
	putPairs(t, s, p, "a=1", "k=1", "b=1")
	sealNow(t, s)
	putPairs(t, s, p, "g=1", "h=1")
	sealNow(t, s)
	putPairs(t, s, p, "a=2", "b=2", "g=2", "h=2", "x=1")
	sealNow(t, s)
	compactNow(t, s)
	for from := range int64(10) { // every offset is in a batch, and what is left of all is one
		set, err := p.Read(from, from+1, 1<<20)
		if err != nil || len(set) != 1 {
			t.Fatal(len(set), err)
		}
		if h, _ := batch.ParseHeader(set[0]); h.BaseOffset != 0 || h.NextOffset() != 10 || h.NumRecords != 6 {
			t.Errorf("from %d: header %+v", from, h)
		}
	}
	frames, err := s.Frames(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, f := range frames {
		for _, b := range f.Batches {
			h, err := batch.ParseHeader(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			records += int(h.NumRecords)
		}
	}
	if records != 6 {
		t.Errorf("frames hold %d records, want 6", records)
	}
	closeTest(t, s)
}

// What is left before an open transaction must not be read as a part of it: a reader of committed records stops between them.
func TestGapBeforeAnOpenTransaction(t *testing.T) {
	s := openTest(t, Options{})
	p := compactedTopic(t, s)
	putPairs(t, s, p, "a=1")
	sealNow(t, s)
	putPairs(t, s, p, "b=1", "b=2") // 1, 2
	doTest(t, s, produced(p, 7, 0, 0, true, "x"))
	putPairs(t, s, p, "c=1")
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "0:a=1", "2:b=2")
	doTest(t, s, produced(p, 8, 0, 0, true, "y")) // 5
	doTest(t, s, marker(p, 7, 0, false))          // 6
	putPairs(t, s, p, "a=2", "b=3", "c=2")        // behind the open one of producer 8
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "0:a=1", "2:b=2", "4:c=1")
	set, err := p.Read(3, 5, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range set {
		if h, _ := batch.ParseHeader(b); h.NextOffset() > 5 {
			t.Errorf("a reader that stops at 5 gets %+v", h)
		}
	}
	closeTest(t, s)
}

// A table that holds few keys needs several compactions; in the end the log is as clean.
func TestCompactionWithASmallTable(t *testing.T) {
	s := openTest(t, Options{CompactBytes: 100 * keySlotBytes}) // 90 keys
	p := compactedTopic(t, s)
	want := map[string]string{}
	for i := range 60 {
		var kvs []string
		for k := range 20 {
			key, value := fmt.Sprintf("k%03d", (i*7+k*13)%400), fmt.Sprint(i)
			want[key] = value
			kvs = append(kvs, key+"="+value)
		}
		putPairs(t, s, p, kvs...)
		sealNow(t, s)
	}
	compactNow(t, s)
	got := map[string]string{}
	for _, r := range pairsOf(t, p) {
		_, kv, _ := strings.Cut(r, ":")
		key, value, _ := strings.Cut(kv, "=")
		if _, twice := got[key]; twice {
			t.Errorf("%s stands twice", key)
		}
		got[key] = value
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	// A batch with more keys than the table has room.
	var kvs []string
	for i := range 500 {
		kvs = append(kvs, fmt.Sprintf("k%03d=last", i))
	}
	putPairs(t, s, p, kvs...)
	sealNow(t, s)
	compactNow(t, s)
	if got := pairsOf(t, p); len(got) != 500 {
		t.Errorf("%d records, want 500", len(got))
	}
	closeTest(t, s)
}

// Records without a key, from before the topic was compacted, go; as in Kafka.
func TestTopicBecomesCompacted(t *testing.T) {
	s := openTest(t, Options{})
	pauseCompaction(s)
	p := createTest(t, s, "t", 1).Partitions[0]
	other := createTest(t, s, "other", 1).Partitions[0]
	putPairs(t, s, p, "a=1", "=bare", "a=2", "b=1")
	putPairs(t, s, other, "a=1", "a=2")
	sealNow(t, s)
	compactNow(t, s)
	wantPairs(t, p, "0:a=1", "1:=bare", "2:a=2", "3:b=1")
	if _, err := s.AlterTopic(context.Background(), "t", map[string]string{"cleanup.policy": "compact,delete"}); err != nil {
		t.Fatal(err)
	}
	compactNow(t, s)
	wantPairs(t, p, "2:a=2", "3:b=1")
	wantPairs(t, other, "0:a=1", "1:a=2") // which lies in the same file
	if err := s.DeleteTopic(context.Background(), "t"); err != nil {
		t.Fatal(err)
	}
	compactNow(t, s)
	wantPairs(t, other, "0:a=1", "1:a=2")
	closeTest(t, s)
}

// Whatever fails, and whenever the process ends, the log is as before or as after, and the next compaction makes it good.
func TestCompactionFails(t *testing.T) {
	for _, point := range []string{pointForwardBefore, pointForwardWritten, pointForwardRenamed, pointForwardUnlink} {
		for _, end := range []bool{false, true} {
			t.Run(fmt.Sprint(point, ", killed: ", end), func(t *testing.T) {
				clock := newStepClock()
				fail := ""
				o := Options{Dir: t.TempDir(), Now: clock.now, faults: func(at string) error {
					if at == fail {
						return errors.New("injected")
					}
					return nil
				}}
				s := openTest(t, o)
				p := compactedTopic(t, s)
				putPairs(t, s, p, "a=1", "b=1", "a")
				sealNow(t, s)
				putPairs(t, s, p, "b=2")
				sealNow(t, s)
				s.onSealer(func() {
					fail = point
					s.compact.after = time.Time{}
					for s.compactStep() {
					}
					fail = ""
				})
				if end {
					mustKill(t, s)
					s = openTest(t, o)
					p = must(s.Topic("c")).Partitions[0]
				}
				got := pairsOf(t, p)
				if !slices.Equal(got, []string{"0:a=1", "1:b=1", "2:a", "3:b=2"}) && !slices.Equal(got, []string{"2:a", "3:b=2"}) {
					t.Errorf("behind the failure: %v", got)
				}
				putPairs(t, s, p, "c=1")
				sealNow(t, s)
				compactNow(t, s)
				wantPairs(t, p, "2:a", "3:b=2", "4:c=1")
				closeTest(t, s)
			})
		}
	}
}

func TestCompactable(t *testing.T) {
	e := func(base int64, size uint32, clean bool, newest int64, horizon uint32) indexEntry {
		out := indexEntry{base: base, span: 10, size: size, newest: newest, horizon: horizon}
		if clean {
			out.flags = flagSettled
		}
		return out
	}
	list := []indexEntry{e(0, 100, true, 1000, 5), e(10, 100, true, 2000, 0), e(20, 0, true, 2000, 0), e(30, 50, false, 3000, 0), e(40, 50, true, 9000, 0)}
	for _, c := range []struct {
		stable, lag, now int64
		want             compactRatio
	}{
		{math.MaxInt64, 0, 4000, compactRatio{first: 30, end: 50, clean: 200, dirty: 100}},
		{49, 0, 4000, compactRatio{first: 30, end: 40, clean: 200, dirty: 50}},
		{30, 0, 4000, compactRatio{first: 30, end: 30, clean: 200}},
		{math.MaxInt64, 1000, 4000, compactRatio{first: 30, end: 40, clean: 200, dirty: 50}},
		{math.MaxInt64, 1001, 4000, compactRatio{first: 30, end: 30, clean: 200}},
		{math.MaxInt64, 0, 5000, compactRatio{first: 30, end: 50, clean: 200, dirty: 100, expired: 100}},
	} {
		if got := compactable(list, c.stable, c.lag, c.now); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// An entry becomes clean only when the files of all before it are through: a crash between two files would else leave an old record
// before a clean tombstone, and the record would come back when the tombstone goes.
func TestEntriesWaitForThoseBefore(t *testing.T) {
	older, newer := &logFile{number: 7}, &logFile{number: 3} // the older records were copied to a new file
	l := &sealedLog{parts: map[uint32]*partIndex{1: {entries: []indexEntry{
		{base: 0, span: 10, size: 1, group: &group{file: older}},
		{base: 10, span: 10, group: &group{file: older}}, // nothing is left of it
		{base: 20, span: 10, size: 1, group: &group{file: newer}},
		{base: 30, span: 10, size: 1, group: &group{file: older}},
	}}}}
	c := newCompaction(1<<10, 0)
	c.parts[1] = &compactPart{id: 1, end: 40}
	for _, step := range []struct {
		file *logFile
		want int64
		done bool
	}{{newer, 0, false}, {older, 20, true}, {newer, 40, true}, {older, 40, true}} {
		if got := c.settledIn(l, step.file)[1]; got != step.want {
			t.Errorf("file %d: settled up to %d, want %d", step.file.number, got, step.want)
		}
		c.done[step.file] = step.done
	}
	if files := c.listFiles(l); len(files) != 2 || files[0] != older {
		t.Error("the files are not in the order of their records")
	}
}

// BenchmarkCompaction compacts 100,000 records of 1,000 keys, 200 bytes each, of which the newest file holds half: what is read, what is
// written and what is thrown away.
func BenchmarkCompaction(b *testing.B) {
	const records, keys = 100_000, 1000
	b.ReportAllocs()
	value := strings.Repeat("v", 170)
	for b.Loop() {
		b.StopTimer()
		s := openTest(b, Options{Dir: b.TempDir(), LogFileBytes: 4 << 20})
		p := compactedTopic(b, s)
		for i := 0; i < records; {
			c := &Commit{Appends: []Append{{Partition: p}}}
			for range 1000 {
				c.Appends[0].Records = append(c.Appends[0].Records, pair(int64(i), fmt.Sprintf("site/7/key/%d=%s %d", i%keys, value, i)))
				i++
			}
			doTest(b, s, c)
			if i%10_000 == 0 {
				sealNow(b, s)
			}
		}
		b.StartTimer()
		compactNow(b, s)
		b.StopTimer()
		if got := s.Dropped(); len(got) != 1 || got[0].Records != records-keys {
			b.Fatalf("removed are %v", got)
		}
		closeTest(b, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
