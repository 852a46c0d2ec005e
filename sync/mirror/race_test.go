package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// idle is an uplink whose lanes are ready, and that nobody runs.
func idle(t testing.TB, h *here, up ...Rule) *Uplink {
	t.Helper()
	u, err := New(options(t, h, []string{"unused:1"}, up...))
	if err != nil {
		t.Fatal(err)
	}
	u.updateLanes()
	for _, l := range *u.lanes.Load() {
		l.known = true
	}
	return u
}

// A topic that is deleted while it is read gives nothing of an aborted transaction away, although nobody knows any more that it was aborted.
func TestDeletedTopicGivesAwayNothingAborted(t *testing.T) {
	h := openHere(t, t.TempDir())
	build := func(attrs int16, pid int64, value string) []byte {
		var w batch.Builder
		w.Begin(nil, 0, -1)
		w.AddAt(0, 1700000000000, batch.AppendPayload(nil, nil, []byte(value), nil))
		return w.End(attrs, pid, 0, 0)
	}
	for round := range int64(40) {
		p := h.topic(t, "telemetry", 1).Partitions[0]
		c := &edge.Commit{}
		for range 1000 {
			c.Appends = append(c.Appends, edge.Append{Partition: p, Batch: build(0, -1, "kept")})
		}
		secret := &edge.Commit{Producer: &edge.Producer{Partition: p, ID: round, Records: 1, Transactional: true}}
		secret.Appends = []edge.Append{{Partition: p, Batch: build(batch.AttrTransactional, round, "aborted")}}
		abort := &edge.Commit{Appends: []edge.Append{{Partition: p, Marker: &edge.Marker{ProducerID: round}}}}
		for _, c := range []*edge.Commit{c, secret, abort} {
			if err := h.store.Do(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		u := idle(t, h, Rule{Topic: "telemetry"})
		l := (*u.lanes.Load())[0]
		deleted := make(chan error, 1)
		go func() { deleted <- h.store.DeleteTopic(t.Context(), "telemetry") }()
		for gone := false; !gone; {
			l.scan = 0
			l.blocked.Store(nil)
			for _, p := range u.gather(1 << 20).parcels {
				var d batch.Decoder
				if err := d.Reset(p.data, 0); err != nil {
					t.Fatal(err)
				}
				for r, ok := d.Next(); ok; r, ok = d.Next() {
					if !bytes.Equal(r.Payload.Value(), []byte("kept")) {
						t.Fatalf("round %d: %q is on its way", round, r.Payload.Value())
					}
				}
			}
			_, err := l.src.Read(0, 1, 1)
			gone = errors.Is(err, edge.ErrNoTopic)
		}
		if err := <-deleted; err != nil {
			t.Fatal(err)
		}
	}
}

// What was posted is not gathered again when what follows it in the same batch cannot be read.
func TestPostedIsNotGatheredAgain(t *testing.T) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	var w batch.Builder
	w.Begin(nil, 0, -1)
	const n = 1200
	for i := range int32(n) {
		w.AddAt(i, 1700000000000, batch.AppendPayload(nil, nil, bytes.Repeat([]byte{'x'}, 1000), nil))
	}
	b := w.End(0, -1, -1, -1)
	clear(b[len(b)-500:]) // within the last record: it ends behind the batch, or holds less than it says
	clear(b[len(b)-50*1010 : len(b)-49*1010])
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Batch: b}}}); err != nil {
		t.Fatal(err)
	}
	u := idle(t, h, Rule{Topic: "telemetry"})
	l := (*u.lanes.Load())[0]
	got := u.gather(4 << 20)
	if len(got.parcels) == 0 || l.blocked.Load() == nil {
		t.Fatalf("%d parcels, blocked: %v", len(got.parcels), l.blocked.Load() != nil)
	}
	if last := got.parcels[len(got.parcels)-1]; l.scan != last.next {
		t.Errorf("posted up to offset %d, goes on at %d", last.next, l.scan)
	}
}

// The centre names records by their place in the batch. When the log has lost some of them since, to compaction, a place means another
// record: nothing is dead-lettered then, and the batch is gathered anew.
func TestNothingElseIsDeadLettered(t *testing.T) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 10, 10)
	u := idle(t, h, Rule{Topic: "telemetry"})
	l := (*u.lanes.Load())[0]
	refuse := func(records int32, named ...int32) error {
		return u.refused(t.Context(), &refusal{&parcel{lane: l, from: 0, next: 10, records: records}, kerr.InvalidRecord, "bad", named})
	}
	if err := refuse(12, 3); err == nil {
		t.Error("no error although two records are gone")
	}
	if err := refuse(10, 10, -1); err != nil || l.suspect == nil {
		t.Errorf("%v: a place outside of the batch is none, so the batch is to be cut", err)
	}
	if _, ok := h.store.Topic("telemetry.dlq"); ok || len(l.skips) > 0 {
		t.Errorf("dead-lettered: %v", l.skips)
	}
	if err := refuse(10, 3, 5); err != nil || fmt.Sprint(l.skips) != "[[3 4] [5 6]]" {
		t.Errorf("%v: skips %v", err, l.skips)
	}
	// What is left out is not counted.
	if err := refuse(8, 4); err != nil || fmt.Sprint(l.skips) != "[[3 4] [5 7]]" {
		t.Errorf("%v: skips %v", err, l.skips)
	}
}

// A request that was given up may still be read by the client while the next burst is gathered.
func TestMemoryOfAFailedBurstIsLeftAlone(t *testing.T) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 10, 10)
	c := newCentre(t, tv2)
	u, err := New(options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	if err != nil {
		t.Fatal(err)
	}
	u.updateLanes()
	s, err := u.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := u.gather(1 << 20)
	sent := b.parcels[0].data
	s.pid += 1000 // which the centre does not know
	if err := u.sendBurst(t.Context(), s, b); err == nil {
		t.Fatal("no error")
	}
	was := bytes.Clone(sent)
	for _, l := range *u.lanes.Load() {
		l.scan = 5
	}
	if b := u.gather(1 << 20); len(b.parcels) != 1 || !bytes.Equal(sent, was) {
		t.Error("the memory was used again")
	}
}

// Positions are found also where a broker tells of fewer partitions of their topic than there are.
func TestPositionsBeyondWhatABrokerTellsOf(t *testing.T) {
	h := openHere(t, t.TempDir())
	tp := h.topic(t, "telemetry", 600)
	for _, p := range tp.Partitions {
		h.append(t, p, 1, 10)
	}
	c := newCentre(t, tv2)
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	r := start(t, o)
	r.mirrored(t)
	r.stop()
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := u.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.ensureTargets(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.progressTarget.leaders = u.progressTarget.leaders[:1]
	p, err := s.fetchProgress(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.at) != 600 {
		t.Errorf("%d positions of 600", len(p.at))
	}
}

// A pause does not wait until the limit allows another burst, and none is sent after it.
func TestPauseEndsTheWaitForTheLimit(t *testing.T) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	noise := make([]byte, 1000)
	for range 100 {
		for i := range noise {
			noise[i] = byte(i * i * (i + 7) >> 3)
		}
	}
	for i := range 100 {
		noise[i]++
		r := batch.Record{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, noise, nil)}
		if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: []batch.Record{r}}}}); err != nil {
			t.Fatal(err)
		}
	}
	c := newCentre(t, tv2)
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	o.LimitBytes = 1 // a second for each byte
	u := start(t, o)
	eventually(t, "the first burst is there", func() bool { return u.Status().Records > 0 })
	u.Pause()
	eventually(t, "paused", func() bool { return u.state() == StatePaused })
}
