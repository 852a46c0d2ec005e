package storage

import (
	"fmt"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// load is a mix of records, the position of a subscriber and those of an uplink, the latter two once a second.
type load struct {
	name       string
	seconds    int
	rate       int           // records a second
	frame      time.Duration // a frame for all that comes in such a time
	topics     int
	mostADay   float64 // bytes
	mostPerRaw float64
}

// wears are the loads that docs/BENCHMARKS.md promises something of.
func wears() []load {
	return []load{
		{name: "trickle", seconds: 2 * 3600, rate: 20, topics: 20, frame: time.Second, mostADay: 1e9},
		{name: "steady", seconds: 10 * 60, rate: 1000, topics: 200, frame: 20 * time.Millisecond, mostPerRaw: 3},
		{name: "bulk", seconds: 10, rate: 50_000, topics: 100, frame: 20 * time.Millisecond, mostPerRaw: 1},
	}
}

// worn is what a load wrote.
type worn struct {
	raw           int // of the records
	seconds       float64
	before, after Stats
}

// written leaves out what made the journal's files ready, which is done once in a store's life.
func (w worn) written() float64 {
	return float64(w.after.WrittenBytes() - w.after.PreparedBytes - w.before.WrittenBytes() + w.before.PreparedBytes)
}

func (w worn) perRaw() float64 { return w.written() / float64(w.raw) }
func (w worn) aDay() float64   { return w.written() / w.seconds * 86400 }

func (w worn) String() string {
	mb := func(a, b uint64) float64 { return float64(a-b) / 1e6 }
	return fmt.Sprintf("%.2f GB a day, %.2f bytes written per raw byte; %d frames; of %.0f MB: journal %.0f, log %.0f, meta.db %.1f; journal files made: %.0f MB",
		w.aDay()/1e9, w.perRaw(), w.after.Frames-w.before.Frames, w.written()/1e6,
		mb(w.after.JournalBytes, w.before.JournalBytes), mb(w.after.SealedBytes, w.before.SealedBytes),
		mb(w.after.CheckpointBytes, w.before.CheckpointBytes), mb(w.after.PreparedBytes, w.before.PreparedBytes))
}

// run appends what a load brings, frame by frame as fast as it goes, and closes the store, so that all of it is sealed and
// checkpointed.
func (l load) run(t testing.TB) (w worn) {
	s := openTest(t, Options{FS: newSimFS()})
	var parts []*Partition
	for i := range l.topics {
		parts = append(parts, createTest(t, s, fmt.Sprintf("line-%d", i), 1).Partitions...)
	}
	w.before = s.Stats()
	recs := telemetry(20011) // prime, so that every topic meets all of them
	frames := int(time.Second / l.frame)
	each := l.rate / frames
	n := 0
	for i := range l.seconds * frames {
		// As much of a commit a topic as a connection would hand in at once.
		c := &Commit{Urgent: true}
		used := min(each, len(parts))
		for k := range used {
			c.Appends = append(c.Appends, Append{Partition: parts[(n+k)%len(parts)]})
		}
		for k := range each {
			r := recs[n%len(recs)]
			a := &c.Appends[k%used]
			a.Records = append(a.Records, batch.Record{Timestamp: int64(n), Payload: r.Payload})
			w.raw += len(r.Payload)
			n++
		}
		if i%frames == 0 {
			c.Puts = append(c.Puts, Put{Space: "mqtt.position", Key: "dashboard", Value: fmt.Appendf(nil, "%012d", i)})
			for _, p := range parts {
				c.Puts = append(c.Puts, Put{Space: "mirror", Key: fmt.Sprintf("shadow/cloud/%d", p.ID), Value: fmt.Appendf(nil,
					`{"generation":"0123456789abcdef","id":%d,"next":%d,"cluster":"Ck0sGkD5QJyT1g0kQmWn2A"}`, p.ID, i)})
			}
		}
		doTest(t, s, c)
	}
	closeTest(t, s)
	w.after, w.seconds = s.Stats(), float64(l.seconds)
	return w
}

// TestWear holds the promises about what records cost the flash that they lie on.
func TestWear(t *testing.T) {
	for _, l := range wears() {
		t.Run(l.name, func(t *testing.T) {
			w := l.run(t)
			t.Log(w)
			if l.mostADay > 0 && w.aDay() > l.mostADay {
				t.Errorf("%.2f GB a day, promised are %.2f", w.aDay()/1e9, l.mostADay/1e9)
			}
			if l.mostPerRaw > 0 && w.perRaw() > l.mostPerRaw {
				t.Errorf("%.2f bytes written per raw byte, promised are %.2f", w.perRaw(), l.mostPerRaw)
			}
			if most := uint64(8 * 16 << 20); w.after.PreparedBytes > most {
				t.Errorf("journal files of %d bytes were made, at most %d are there at a time", w.after.PreparedBytes, most)
			}
		})
	}
}

// BenchmarkWear reports what TestWear bounds.
func BenchmarkWear(b *testing.B) {
	for _, l := range wears() {
		b.Run(l.name, func(b *testing.B) {
			var w worn
			for b.Loop() {
				w = l.run(b)
			}
			b.ReportMetric(w.perRaw(), "written/raw")
			b.ReportMetric(w.aDay()/1e9, "GB/day")
		})
	}
}
