package storage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rivulet/storage/batch"
)

// TestModel runs random programs of all that changes what a store keeps against a model that is a map of slices: every topic, its
// configuration, every record with its offset and its frame, every log start.
//
// It runs 30 programs unless -rapid.checks says otherwise.
func TestModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("30"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, rt)
		defer func() {
			if err := m.s.Close(); err != nil {
				rt.Error(err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"create":  m.create,
			"grow":    m.grow,
			"alter":   m.alter,
			"delete":  m.delete,
			"append":  m.append,
			"append2": m.append, // more often than the others
			"append3": m.append,
			"trim":    m.trim,
			"clock":   m.clock,
			"seal":    m.seal,
			"reopen":  m.reopen,
			"frames":  m.frames,
			"times":   m.times,
			"":        m.check,
		})
	})
}

// storeModel is what a store should hold.
type storeModel struct {
	t      *testing.T
	fs     *simFS
	o      Options
	s      *Store
	wall   testClock
	topics map[string]*modelTopic
	serial int
}

type modelTopic struct {
	config map[string]string
	parts  []*modelPart
}

// modelPart is one log: the record at offset i is records[i].
type modelPart struct {
	start   int64
	records []modelRecord
}

type modelRecord struct {
	key, value string
	ts         int64
	seq        uint64
	clock      int64 // store time
}

func newModel(t *testing.T, rt *rapid.T) *storeModel {
	m := &storeModel{t: t, fs: newSimFS(), topics: map[string]*modelTopic{}} // it is 1970
	m.o = Options{
		Dir: t.TempDir(), FS: m.fs, JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10,
		Now: m.wall.now,
	}
	m.open(rt)
	return m
}

func (m *storeModel) open(rt *rapid.T) {
	s, err := Open(context.Background(), m.o)
	if err != nil {
		rt.Fatal(err)
	}
	if problems := s.Problems(); len(problems) > 0 {
		rt.Fatalf("problems: %+v", problems)
	}
	m.s = s
}

// some draws a topic; nil when there is none.
func (m *storeModel) some(rt *rapid.T) (string, *modelTopic) {
	if len(m.topics) == 0 {
		return "", nil
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.topics))).Draw(rt, "topic")
	return name, m.topics[name]
}

// part draws a partition: the store's and the model's.
func (m *storeModel) part(rt *rapid.T) (*Partition, *modelPart) {
	name, mt := m.some(rt)
	if mt == nil {
		return nil, nil
	}
	i := rapid.IntRange(0, len(mt.parts)-1).Draw(rt, "partition")
	return must(m.s.Topic(name)).Partitions[i], mt.parts[i]
}

var modelConfigs = []map[string]string{
	nil,
	{"compression.type": "zstd"},
	{"compression.type": "uncompressed", "rivulet.priority": "7"},
	{"retention.ms": "7200000"},
	{"retention.ms": "86400000", "rivulet.priority": "3"},
	{"retention.bytes": "4000"},
}

func (m *storeModel) create(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "name")
	n := rapid.IntRange(1, 3).Draw(rt, "partitions")
	config := rapid.SampledFrom(modelConfigs).Draw(rt, "config")
	_, err := m.s.CreateTopic(context.Background(), name, n, config)
	if m.topics[name] != nil {
		if !errors.Is(err, ErrTopicExists) {
			rt.Fatalf("created twice: %v", err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	mt := &modelTopic{config: config}
	for range n {
		mt.parts = append(mt.parts, &modelPart{})
	}
	m.topics[name] = mt
}

func (m *storeModel) grow(rt *rapid.T) {
	name, mt := m.some(rt)
	if mt == nil || len(mt.parts) > 4 {
		return
	}
	mt.parts = append(mt.parts, &modelPart{})
	if _, err := m.s.AddPartitions(context.Background(), name, len(mt.parts)); err != nil {
		rt.Fatal(err)
	}
}

func (m *storeModel) alter(rt *rapid.T) {
	name, mt := m.some(rt)
	if mt == nil {
		return
	}
	mt.config = rapid.SampledFrom(modelConfigs).Draw(rt, "config")
	if _, err := m.s.AlterTopic(context.Background(), name, mt.config); err != nil {
		rt.Fatal(err)
	}
}

func (m *storeModel) delete(rt *rapid.T) {
	name, mt := m.some(rt)
	if mt == nil {
		return
	}
	if err := m.s.DeleteTopic(context.Background(), name); err != nil {
		rt.Fatal(err)
	}
	delete(m.topics, name)
}

// append commits to one to three partitions at once.
func (m *storeModel) append(rt *rapid.T) {
	var c Commit
	var to []*modelPart
	var recs [][]modelRecord
	for range rapid.IntRange(1, 3).Draw(rt, "appends") {
		p, mp := m.part(rt)
		if p == nil {
			return
		}
		a, rs := m.records(rt, p)
		c.Appends, to, recs = append(c.Appends, a), append(to, mp), append(recs, rs)
	}
	if err := m.s.Do(context.Background(), &c); err != nil {
		rt.Fatal(err)
	}
	for i, mp := range to {
		if c.Appends[i].Base != int64(len(mp.records)) {
			rt.Fatalf("appended at %d, want %d", c.Appends[i].Base, len(mp.records))
		}
		for _, r := range recs[i] {
			r.seq, r.clock = c.Seq, m.s.clock.now()
			mp.records = append(mp.records, r)
		}
	}
}

func (m *storeModel) records(rt *rapid.T, p *Partition) (Append, []modelRecord) {
	a := Append{Partition: p}
	var rs []modelRecord
	var w batch.Builder
	w.Begin(nil, 0, 0)
	size := rapid.SampledFrom([]int{10, 10, 200, 3000}).Draw(rt, "size")
	for range rapid.IntRange(1, 8).Draw(rt, "records") {
		m.serial++
		r := modelRecord{key: fmt.Sprintf("k%d", m.serial%5), value: fmt.Sprintf("%0*d", size, m.serial), ts: int64(m.serial)}
		payload := batch.AppendPayload(nil, []byte(r.key), []byte(r.value), nil)
		w.Add(r.ts, payload)
		a.Records = append(a.Records, batch.Record{Timestamp: r.ts, Payload: payload})
		rs = append(rs, r)
	}
	if codec := rapid.SampledFrom([]batch.Codec{-1, -1, batch.None, batch.LZ4, batch.Zstd, batch.Gzip}).Draw(rt, "codec"); codec >= 0 {
		var comp batch.Compressor
		b, err := comp.Compress(nil, w.End(0, -1, -1, -1), codec)
		if err != nil {
			rt.Fatal(err)
		}
		a.Records, a.Batch = nil, b
	}
	return a, rs
}

func (m *storeModel) trim(rt *rapid.T) {
	p, mp := m.part(rt)
	if p == nil {
		return
	}
	to := rapid.Int64Range(0, int64(len(mp.records))+1).Draw(rt, "to")
	err := m.s.Trim(context.Background(), []Start{{Partition: p, Offset: to}})
	if to > int64(len(mp.records)) {
		if !errors.Is(err, ErrOffsetRange) {
			rt.Fatalf("trimmed behind the end: %v", err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	mp.start = max(mp.start, to)
}

// clock lets time pass, or steps the wall clock: a jump of years, or back to 1970.
func (m *storeModel) clock(rt *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{
		time.Second, time.Minute, 20 * time.Minute, 59 * time.Minute, 30 * 24 * time.Hour, -time.Second, -30 * 24 * time.Hour,
	}).Draw(rt, "step")
	m.wall.step(step)
}

func (m *storeModel) seal(*rapid.T) {
	m.s.pressed.Store(true)
	m.s.wakeSealer()
}

func (m *storeModel) reopen(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "kill") {
		if err := kill(m.s); err != nil {
			rt.Fatal(err)
		}
		m.fs = m.fs.kill()
		m.o.FS = m.fs
	} else if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	m.open(rt)
}

// modelRead is a record as a reader met it.
type modelRead struct {
	offset     int64
	key, value string
	ts         int64
}

func readRecords(b []byte) (recs []modelRead, next int64, err error) {
	if err := batch.Check(b); err != nil {
		return nil, 0, err
	}
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return nil, 0, err
	}
	for {
		r, ok := d.Next()
		if !ok {
			return recs, d.Header().NextOffset(), d.Err()
		}
		recs = append(recs, modelRead{r.Offset, string(r.Payload.Key()), string(r.Payload.Value()), r.Timestamp})
	}
}

func (r modelRecord) is(o modelRead) bool {
	return r.key == o.key && r.value == o.value && r.ts == o.ts
}

// check reads every log from its start to its end.
func (m *storeModel) check(rt *rapid.T) {
	if got := len(m.s.Topics()); got != len(m.topics) {
		rt.Fatalf("%d topics, want %d", got, len(m.topics))
	}
	for name, mt := range m.topics {
		tp, ok := m.s.Topic(name)
		if !ok || len(tp.Partitions) != len(mt.parts) || !maps.Equal(tp.Config, mt.config) {
			rt.Fatalf("topic %s: %+v, want %d partitions, %v", name, tp, len(mt.parts), mt.config)
		}
		for i, mp := range mt.parts {
			if err := m.checkPart(tp.Partitions[i], mp, mt.config); err != nil {
				rt.Fatalf("topic %s, partition %d: %v", name, i, err)
			}
		}
	}
}

func (m *storeModel) checkPart(p *Partition, mp *modelPart, config map[string]string) error {
	start, stable, high := p.Offsets()
	if high != int64(len(mp.records)) || stable != high {
		return fmt.Errorf("ends at %d and %d, want %d", stable, high, len(mp.records))
	}
	if err := mp.mayStart(start, ParsePolicy(config), m.s.clock.now()); err != nil {
		return err
	}
	mp.start = start
	if start > 0 {
		if _, err := p.Read(start-1, high, 1); !errors.Is(err, ErrOffsetRange) {
			return fmt.Errorf("read before the start: %w", err)
		}
	}
	for at := start; at < high; {
		batches, err := p.Read(at, high, 5000)
		if errors.Is(err, ErrOffsetRange) {
			// The sealer may have moved the start since we looked.
			if now, _, _ := p.Offsets(); now > at {
				return m.checkPart(p, mp, config)
			}
		}
		if err != nil || len(batches) == 0 {
			return fmt.Errorf("read %d of %d: %d batches, %w", at, high, len(batches), err)
		}
		for _, b := range batches {
			recs, next, err := readRecords(b)
			if err != nil {
				return err
			}
			for _, r := range recs {
				if r.offset < at {
					continue // of the batch that holds where we began
				}
				if r.offset != at || !mp.records[at].is(r) {
					return fmt.Errorf("offset %d: read %+v, want %+v", at, r, mp.records[at])
				}
				at++
			}
			if at != next {
				return fmt.Errorf("a batch ends at %d, its records at %d", next, at)
			}
		}
	}
	return nil
}

// mayStart says whether a log may start there: never before where it was trimmed to, and behind that only as far as retention
// allows. The clock is that of now, since retention may have run at any time until then.
func (mp *modelPart) mayStart(start int64, policy Policy, clock int64) error {
	if start < mp.start {
		return fmt.Errorf("the log starts at %d, before %d", start, mp.start)
	}
	if start == mp.start {
		return nil
	}
	if policy.Delete && policy.RetentionBytes >= 0 {
		return nil // what a batch takes is not the model's business; TestRetention counts
	}
	last := mp.records[start-1]
	if !policy.Delete || policy.RetentionMs < 0 || last.clock+policy.RetentionMs > clock {
		return fmt.Errorf("the log starts at %d, but the record before that is %d ms old of %d", start, clock-last.clock, policy.RetentionMs)
	}
	return nil
}

// frames reads by commit sequence, as sessions do.
func (m *storeModel) frames(rt *rapid.T) {
	after := rapid.Uint64Range(0, m.s.LastSeq()).Draw(rt, "after")
	owner := map[*Partition]*modelPart{}
	at := map[*Partition]int64{} // next offset
	for name, mt := range m.topics {
		for i, mp := range mt.parts {
			p := must(m.s.Topic(name)).Partitions[i]
			owner[p] = mp
			n, _ := slices.BinarySearchFunc(mp.records, after+1, func(r modelRecord, seq uint64) int { return compare(r.seq, seq) })
			at[p] = int64(n)
		}
	}
	for seq := after; ; {
		frames, err := m.s.Frames(seq, rapid.SampledFrom([]int{1, 1000, 1 << 20}).Draw(rt, "bytes"))
		if err != nil {
			rt.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		for _, f := range frames {
			if f.Seq <= seq {
				rt.Fatalf("frame %d behind frame %d", f.Seq, seq)
			}
			seq = f.Seq
			for _, fb := range f.Batches {
				mp := owner[fb.Partition]
				if mp == nil {
					continue // deleted
				}
				recs, _, err := readRecords(fb.Data)
				if err != nil {
					rt.Fatal(err)
				}
				for _, r := range recs {
					// What is before the start may be there or not.
					if r.offset > at[fb.Partition] && at[fb.Partition] < mp.start {
						at[fb.Partition] = min(r.offset, mp.start)
					}
					if r.offset != at[fb.Partition] || !mp.records[r.offset].is(r) || mp.records[r.offset].seq != f.Seq {
						rt.Fatalf("%s/%d: frame %d has offset %d, want %d: %+v", fb.Partition.topic, fb.Partition.Index, f.Seq, r.offset, at[fb.Partition], r)
					}
					at[fb.Partition]++
				}
			}
		}
	}
	for p, mp := range owner {
		start, _, _ := p.Offsets()
		mp.start = max(mp.start, start)
		if end := int64(len(mp.records)); at[p] != end && mp.start < end {
			rt.Fatalf("%s/%d: frames behind %d end at offset %d of %d", p.topic, p.Index, after, at[p], end)
		}
	}
}

// times looks a timestamp up: they ascend here.
func (m *storeModel) times(rt *rapid.T) {
	p, mp := m.part(rt)
	if p == nil {
		return
	}
	ms := rapid.Int64Range(0, int64(m.serial)+2).Draw(rt, "ms")
	offset, ts, ok, err := p.OffsetForTime(ms)
	if err != nil {
		rt.Fatal(err)
	}
	start, _, _ := p.Offsets()
	want := start
	for want < int64(len(mp.records)) && mp.records[want].ts < ms {
		want++
	}
	if ok != (want < int64(len(mp.records))) || ok && (offset != want || ts != mp.records[want].ts) {
		rt.Fatalf("%s/%d: offset %d with %d, %v for time %d, want %d", p.topic, p.Index, offset, ts, ok, ms, want)
	}
}
