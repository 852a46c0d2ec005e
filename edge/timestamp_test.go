package edge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"rivulet/plugins"
	"rivulet/storage/batch"
)

// SEMANTICS, Time: every way in, under every rule, for a producer whose clock is right, far behind and far ahead.
func TestTimestampRules(t *testing.T) {
	at := now.UnixMilli()
	old, near, ahead := int64(86_400_000), at+5*60_000, at+time.Hour.Milliseconds()
	for _, rule := range []struct {
		config map[string]string
		want   map[int64]int64
		append bool // LogAppendTime
	}{
		{map[string]string{"rivulet.timestamps": "arrival"}, map[int64]int64{old: at, near: at, ahead: at}, true},
		{map[string]string{"message.timestamp.type": "LogAppendTime", "rivulet.timestamps": "keep"}, map[int64]int64{old: at, near: at, ahead: at}, true},
		{map[string]string{"rivulet.timestamps": "keep"}, map[int64]int64{old: old, near: near, ahead: ahead}, false},
		{map[string]string{"rivulet.timestamps": "clamp"}, map[int64]int64{old: old, near: near, ahead: at}, false},
		{nil, map[int64]int64{old: old, near: near, ahead: at}, false},
	} {
		t.Run(fmt.Sprint(rule.config), func(t *testing.T) {
			r := open(t, Options{Topics: []TopicSpec{{Name: "t", Config: rule.config}, {Name: "p", Config: rule.config}}})
			r.attach("pass", trapOn("poison"), AttachSpec{Topic: "p", OnError: plugins.Pass})
			for _, name := range []string{"t", "p"} {
				topic, _ := r.store.Topic(name)
				var want []int64
				for _, ts := range []int64{old, near, ahead} {
					in := &Ingest{Items: []Item{{Topic: topic, Record: batch.Record{Timestamp: ts, Payload: batch.AppendPayload(nil, []byte("k"), []byte("v"), nil)}}}}
					if err := r.ingest(in); err != nil {
						t.Fatal(err)
					}
					want = append(want, rule.want[ts])
					for _, codec := range []batch.Codec{batch.None, batch.Gzip, batch.Snappy, batch.LZ4, batch.Zstd} {
						got := r.sendBatch(topic, packed(t, codec, ts))
						if name == "t" && (got.Timestamp == at) != rule.append || !rule.append && got.Timestamp != -1 {
							t.Errorf("%s: the producer is told %d", codec, got.Timestamp)
						}
						for range packedRecords {
							want = append(want, rule.want[ts])
						}
					}
				}
				recs := r.read(name)
				if len(recs) != len(want) {
					t.Fatalf("%s holds %d records, want %d", name, len(recs), len(want))
				}
				for i, rec := range recs {
					if rec.Timestamp != want[i] {
						t.Fatalf("%s: record %d has timestamp %d, want %d", name, i, rec.Timestamp, want[i])
					}
				}
				part := topic.Partitions[0]
				if offset, ts, ok, err := part.OffsetForTime(at); err != nil || !ok || recs[offset].Timestamp != ts || ts < at {
					t.Errorf("by time: %d %d %v %v", offset, ts, ok, err)
				}
			}
		})
	}
}

// A whole compressed batch gets the broker's time in its header alone: its records are not touched.
func TestArrivalDoesNotCompressAgain(t *testing.T) {
	r := open(t, Options{Topics: []TopicSpec{{Name: "t", Config: map[string]string{"rivulet.timestamps": "arrival"}}}})
	topic, _ := r.store.Topic("t")
	sent := packed(t, batch.Zstd, 5)
	r.sendBatch(topic, append([]byte(nil), sent...))
	stored, err := topic.Partitions[0].Read(0, 1, 1<<20)
	if err != nil || len(stored) != 1 {
		t.Fatal(len(stored), err)
	}
	if err := batch.Check(stored[0]); err != nil {
		t.Fatal(err)
	}
	if string(stored[0][batch.HeaderSize:]) != string(sent[batch.HeaderSize:]) {
		t.Error("the records were encoded again")
	}
	if h, _ := batch.ParseHeader(stored[0]); h.Attributes&batch.AttrLogAppendTime == 0 || h.MaxTimestamp != now.UnixMilli() {
		t.Errorf("header %+v", h)
	}
}

const packedRecords = 20

func packed(t *testing.T, codec batch.Codec, ts int64) []byte {
	t.Helper()
	var w batch.Builder
	var c batch.Compressor
	w.Begin(nil, 0, 0)
	for i := range packedRecords {
		w.Add(ts, batch.AppendPayload(nil, []byte("k"), fmt.Appendf(nil, "the same value, but for %d", i), nil))
	}
	b, err := c.Compress(nil, w.End(0, -1, -1, -1), codec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) sendBatch(topic *Topic, raw []byte) *BatchIn {
	r.t.Helper()
	done := make(chan struct{})
	in := &BatchIn{Topic: topic, Batch: raw, Done: func(*BatchIn) { close(done) }}
	if err := r.IngestBatch(context.Background(), in); err != nil {
		r.t.Fatal(err)
	}
	<-done
	if in.Err != nil {
		r.t.Fatal(in.Err)
	}
	return in
}
