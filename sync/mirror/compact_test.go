package mirror

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
	"rivulet/storage/batch"
	"rivulet/sync/compare"
)

// A compacted topic arrives as what is left of it: a produce request needs dense offsets, so thinned-out batches are encoded anew. A link
// that goes on behind a compaction misses nothing: the last value of each key is the same on both sides.
func TestCompactedTopic(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		dir := t.TempDir()
		h := openHere(t, dir)
		config := map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"}
		if _, err := h.store.CreateTopic(t.Context(), "state", 1, config); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		n := 0
		put := func() {
			t.Helper()
			topic, _ := h.store.Topic("state")
			for range 300 {
				cm := &edge.Commit{Appends: []edge.Append{{Partition: topic.Partitions[0]}}}
				for range 5 {
					key, value := fmt.Sprintf("device %d", n*7%97), fmt.Sprintf("state number %d of a device", n)
					want[key] = value
					cm.Appends[0].Records = append(cm.Appends[0].Records, batch.Record{
						Timestamp: 1700000000000, Payload: batch.AppendPayload(nil, []byte(key), []byte(value), nil),
					})
					n++
				}
				if err := h.store.Do(context.Background(), cm); err != nil {
					t.Fatal(err)
				}
			}
		}
		compacted := func() { // closing seals what there is, and opening compacts it
			t.Helper()
			h.close(t)
			h = openHere(t, dir)
			eventually(t, "records are compacted", func() bool { // some of them may have been before, while they were put
				topic, _ := h.store.Topic("state")
				return recordsIn(t, topic.Partitions[0]) < 200
			})
		}
		put()
		compacted()
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "state"}))
		u.mirrored(t)
		equal(t, h, "state", c.ListenAddrs(), "state")
		put()
		u.mirrored(t)
		u.stop()
		put()
		compacted()
		u = start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "state"}))
		u.mirrored(t)
		got := map[string]string{}
		for r, err := range compare.Topic(t.Context(), "state", 0, kgo.SeedBrokers(c.ListenAddrs()...)) {
			if err != nil {
				t.Fatal(err)
			}
			got[string(r.Key)] = string(r.Value)
		}
		if !maps.Equal(got, want) {
			t.Errorf("the centre ends with %d values, want %d", len(got), len(want))
		}
		if s := u.Status(); s.Gaps != 0 {
			t.Errorf("%d records are counted as lost", s.Gaps)
		}
	})
}

// recordsIn counts what can be read of a partition.
func recordsIn(t *testing.T, p *edge.Partition) (n int) {
	t.Helper()
	start, _, high := p.Offsets()
	for from := start; from < high; {
		set, err := p.Read(from, high, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range set {
			h, err := batch.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			n, from = n+int(h.NumRecords), h.NextOffset()
		}
	}
	return n
}
