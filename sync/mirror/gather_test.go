package mirror

import (
	"testing"

	"rivulet/edge"
	"rivulet/storage/batch"
	"rivulet/sync/compare"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What a broker would refuse as it lies here arrives all the same: gaps, broker timestamps, other codecs, control batches,
// aborted transactions.
func TestOddBatches(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		h := openHere(t, t.TempDir())
		p := h.topic(t, "telemetry", 1).Partitions[0]
		put := func(b []byte, prod *edge.Producer) {
			t.Helper()
			if err := h.store.Do(t.Context(), &edge.Commit{Producer: prod, Appends: []edge.Append{{Partition: p, Batch: b}}}); err != nil {
				t.Fatal(err)
			}
		}
		build := func(codec batch.Codec, attrs int16, pid int64, seq int32, deltas ...int32) []byte {
			var w batch.Builder
			w.Begin(nil, 0, -1)
			_, _, high := p.Offsets()
			for _, d := range deltas {
				w.AddAt(d, 1700000000000, payload(p, high+int64(d), 300))
			}
			var cmp batch.Compressor
			b, err := cmp.Compress(nil, w.End(attrs, pid, 0, seq), codec)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, codec := range []batch.Codec{batch.None, batch.Gzip, batch.Snappy, batch.LZ4, batch.Zstd} {
			put(build(codec, 0, -1, -1, 0, 1, 2), nil)
			put(build(codec, 0, -1, -1, 0, 3, 7), nil) // as after compaction
			stamped := build(codec, 0, -1, -1, 0, 1)
			batch.SetLogAppendTime(stamped, 1800000000000)
			put(stamped, nil)
		}
		txn := func(pid int64, commit bool) {
			t.Helper()
			b := build(batch.LZ4, batch.AttrTransactional, pid, 0, 0, 1, 2)
			put(b, &edge.Producer{Partition: p, ID: pid, BaseSequence: 0, Records: 3, Transactional: true})
			m := &edge.Commit{Appends: []edge.Append{{Partition: p, Marker: &edge.Marker{ProducerID: pid, Commit: commit}}}}
			if err := h.store.Do(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		txn(1000, true)
		txn(1001, false)
		txn(1002, true)
		txn(1003, false)
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
		n := 0
		for range compare.Topic(t.Context(), "telemetry", 0, kgo.SeedBrokers(c.ListenAddrs()...)) {
			n++
		}
		if want := 5*8 + 6; n != want {
			t.Errorf("%d records at the centre, want %d", n, want)
		}

		// An open transaction holds back what follows it, and nothing is sent of it before it ends.
		b := build(batch.None, batch.AttrTransactional, 1004, 0, 0)
		put(b, &edge.Producer{Partition: p, ID: 1004, Records: 1, Transactional: true})
		h.append(t, p, 5, 10)
		if s := u.Status(); s.Lag != 0 {
			t.Errorf("lag %d behind an open transaction", s.Lag)
		}
		if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Marker: &edge.Marker{ProducerID: 1004, Commit: true}}}}); err != nil {
			t.Fatal(err)
		}
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	})
}

// Sealed batches of some size travel as they lie on disk; small ones are put together.
func TestSealedBatchesTravelAsTheyAre(t *testing.T) {
	c := newCentre(t, tv2)
	dir := t.TempDir()
	h := openHere(t, dir)
	p := h.topic(t, "telemetry", 1).Partitions[0]
	for range 40 {
		h.append(t, p, 1000, 200)
	}
	h.close(t) // seals
	h = openHere(t, dir)
	tp, _ := h.store.Topic("telemetry")
	p = tp.Partitions[0]
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	s := u.Status()
	t.Logf("%d records in %d batches, %d of them as they lay on disk, %d bytes", s.Records, s.Batches, s.Raw, s.Bytes)
	if s.Raw < s.Batches*3/4 {
		t.Errorf("only %d of %d batches went as they lay on disk", s.Raw, s.Batches)
	}
	for range 50 {
		h.append(t, p, 2, 200)
	}
	u.mirrored(t)
	equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
}

// What the log removed before it was sent is counted, and the rest goes on.
func TestGapIsCounted(t *testing.T) {
	h := openHere(t, t.TempDir())
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 10, 10)
	u, err := New(options(t, h, []string{"unused:1"}, Rule{Topic: "telemetry"}))
	if err != nil {
		t.Fatal(err)
	}
	u.updateLanes()
	l := (*u.lanes.Load())[0]
	l.known, l.scan = true, -5
	b := u.gather(1 << 20)
	if s := u.Status(); s.Gaps != 5 || s.Partitions[0].Gaps != 5 || len(s.Alarms) != 1 {
		t.Errorf("status %+v", s)
	}
	if b.records != 10 || l.scan != 10 {
		t.Errorf("%d records, next offset %d", b.records, l.scan)
	}
}

// High priority goes first, and lanes of one priority have their turns.
func TestPriority(t *testing.T) {
	h := openHere(t, t.TempDir())
	low := h.topic(t, "low", 3)
	high := h.topic(t, "high", 1)
	for range 10 {
		for _, p := range low.Partitions {
			h.append(t, p, 100, 1000)
		}
	}
	h.append(t, high.Partitions[0], 10, 10)
	u, err := New(options(t, h, []string{"unused:1"}, Rule{Topic: "low"}, Rule{Topic: "high", Priority: 5}))
	if err != nil {
		t.Fatal(err)
	}
	u.updateLanes()
	for _, l := range *u.lanes.Load() {
		l.known = true
		l.target.leaders = make([]int32, 3)
	}
	b := u.gather(20 << 10)
	if !b.full || len(b.parcels) == 0 || b.parcels[0].lane.topic != "high" {
		t.Fatalf("first parcel of %d: %+v", len(b.parcels), b.parcels)
	}
	seen := make(map[int32]bool)
	for range 6 {
		b := u.gather(20 << 10)
		for _, p := range b.parcels {
			seen[p.lane.index] = true
		}
		if b.bytes > 40<<10 {
			t.Errorf("a burst of %d bytes", b.bytes)
		}
	}
	if len(seen) != 3 {
		t.Errorf("only partitions %v had a turn", seen)
	}
}
