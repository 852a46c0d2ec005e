package storage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"rivulet/storage/batch"
)

// testQuery asks for some of testLabels.
func testQuery(rng *rand.Rand) *Query {
	q := &Query{}
	for range 1 + rng.IntN(3) {
		if rng.IntN(4) == 0 {
			q.Labels = append(q.Labels, 100+rng.Uint32N(7))
		} else {
			q.Labels = append(q.Labels, rng.Uint32N(40)|0xff000000)
		}
	}
	if rng.IntN(2) == 0 {
		none, all := rng.IntN(10), rng.IntN(10)
		q.Topics = func(topic string) Want {
			switch int(topic[len(topic)-1] - '0') {
			case none:
				return WantNone
			case all:
				return WantAll
			}
			return WantLabels
		}
	}
	return q
}

// asks reports whether a record of a topic is what a query is about.
func (q *Query) asks(topic string, p batch.Payload) bool {
	if q.Topics != nil {
		if want := q.Topics(topic); want != WantLabels {
			return want == WantAll
		}
	}
	for _, label := range testLabels().Of(nil, topic, p) {
		if slices.ContainsFunc(q.Labels, func(l uint32) bool { return l&labelMask == label&labelMask }) {
			return true
		}
	}
	return false
}

// checkQueries holds what queries find in the sealed log against all that it holds: nothing that is asked for is missing, in its frame and in
// order, and nothing else comes but what belongs to a transaction.
func checkQueries(t *testing.T, l *sealedLog, all map[uint32][]tailBatch) {
	t.Helper()
	name := func(id uint32) string { return fmt.Sprint("topic ", id) }
	rng := rand.New(rand.NewPCG(uint64(len(all)), uint64(len(l.groups))))
	for range 4 {
		q := testQuery(rng)
		step := 1 << (8 + rng.IntN(14))
		l.look = 1 << (8 + rng.IntN(14))
		got := map[uint32]map[int64]uint64{} // frames
		after := uint64(0)
		for {
			frames, reached, err := l.frames(after, math.MaxUint64, step, newWanted(q, l.merger.labels.Labels, name, l.cache))
			if err != nil {
				t.Fatal(err)
			}
			if reached <= after {
				t.Fatalf("frame %d was reached from %d", reached, after)
			}
			for _, f := range frames {
				if f.seq <= after || f.seq > reached {
					t.Fatalf("frame %d behind %d, up to %d", f.seq, after, reached)
				}
				after = f.seq
				for _, p := range f.batches {
					if got[p.id] == nil {
						got[p.id] = map[int64]uint64{}
					}
					for _, tb := range p.tails {
						if err := batch.Check(tb.data); err != nil {
							t.Fatal(err)
						}
						h, _ := batch.ParseHeader(tb.data)
						eachRecord(t, tb.data, func(r batch.Record) {
							if _, twice := got[p.id][r.Offset]; twice {
								t.Fatalf("partition %d: offset %d came twice", p.id, r.Offset)
							}
							got[p.id][r.Offset] = f.seq
							if !h.Transactional() && !h.Control() && !q.asks(name(p.id), r.Payload) {
								t.Fatalf("partition %d: offset %d was not asked for", p.id, r.Offset)
							}
						})
					}
				}
			}
			if after = reached; after == math.MaxUint64 {
				break
			}
		}
		for id, tails := range all {
			for _, w := range tails {
				eachRecord(t, w.data, func(r batch.Record) {
					if seq, found := got[id][r.Offset]; q.asks(name(id), r.Payload) && (!found || seq != w.seq) {
						t.Fatalf("partition %d: offset %d of frame %d came in frame %d (%v), labels %d, steps of %d", id, r.Offset, w.seq, seq, found, q.Labels, step)
					}
				})
			}
		}
	}
}

func eachRecord(t *testing.T, b []byte, fn func(r batch.Record)) {
	t.Helper()
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		t.Fatal(err)
	}
	for r, ok := d.Next(); ok; r, ok = d.Next() {
		fn(r)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
}

// A file that is rewritten while a reader looks through the index does not hide its records from him.
func TestQueryWhileFilesMove(t *testing.T) {
	l, _, all := rewriteLog(t, Options{Dir: t.TempDir(), LogFileBytes: 512 << 10})
	moved := false
	q := &Query{Topics: func(string) Want {
		if !moved {
			moved = true
			if err := l.rewrite(full(l), rewriting{}); err != nil {
				t.Error(err)
			}
		}
		return WantAll
	}}
	n := 0
	for after := uint64(0); after < math.MaxUint64; {
		frames, reached, err := l.frames(after, math.MaxUint64, 1<<20, newWanted(q, testLabels(), func(id uint32) string { return "a" }, l.cache))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			for _, p := range f.batches {
				for _, tb := range p.tails {
					eachRecord(t, tb.data, func(batch.Record) { n++ })
				}
			}
		}
		after = reached
	}
	want := 0
	for _, tails := range all {
		want += len(wantTails(t, tails))
	}
	if !moved || n != want {
		t.Fatalf("%d records of %d", n, want)
	}
}

// Queries of a store find what is in memory, what is sealed, and what becomes sealed while they look, and ask nothing of other topics.
func TestFramesFor(t *testing.T) {
	o := Options{Dir: t.TempDir(), JournalBytes: 1 << 20, TailBytes: 256 << 10, LogFileBytes: 256 << 10}
	s := openTest(t, o)
	defer func() { closeTest(t, s) }()
	tps := []*Topic{createTest(t, s, "a0", 2), createTest(t, s, "a1", 1), createTest(t, s, "a2", 1)}
	rng := rand.New(rand.NewPCG(3, 4))
	all := map[string]map[string]bool{} // by topic
	add := func() {
		c := &Commit{}
		for range 1 + rng.IntN(3) {
			tp := tps[rng.IntN(len(tps))]
			a := Append{Partition: tp.Partitions[rng.IntN(len(tp.Partitions))]}
			for range 1 + rng.IntN(20) {
				v := fmt.Sprintf("%s %d %0*d", tp.Name, len(all[tp.Name]), 1+rng.IntN(60), 7)
				if all[tp.Name] == nil {
					all[tp.Name] = map[string]bool{}
				}
				all[tp.Name][v] = true
				a.Records = append(a.Records, record(1, v))
			}
			c.Appends = append(c.Appends, a)
		}
		doTest(t, s, c)
	}
	check := func() {
		t.Helper()
		q := testQuery(rng)
		got := map[string]int{}
		for after := uint64(0); ; {
			frames, reached, err := s.FramesFor(after, 1<<(6+rng.IntN(14)), q)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) == 0 && reached == after {
				break
			}
			for _, f := range frames {
				if f.Seq <= after || f.Seq > reached {
					t.Fatalf("frame %d behind %d, up to %d", f.Seq, after, reached)
				}
				after = f.Seq
				for _, b := range f.Batches {
					eachRecord(t, b.Data, func(r batch.Record) { got[string(r.Payload.Value())]++ })
				}
			}
			after = reached
		}
		for topic, values := range all {
			for v := range values {
				n := 0
				if q.asks(topic, record(1, v).Payload) {
					n = 1
				}
				if got[v] != n {
					t.Fatalf("%q came %d times, asked for: %d", v, got[v], n)
				}
			}
		}
	}
	for range 20 {
		for range 30 {
			add()
		}
		check()
	}
	if s.Stats().SealedBytes == 0 {
		t.Fatal("nothing was sealed")
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { // while records come
			after := uint64(0)
			for range 200 {
				frames, reached, err := s.FramesFor(after, 4096, &Query{Labels: []uint32{3, 104}})
				if err != nil {
					t.Error(err)
					return
				}
				if after = reached; len(frames) > 0 && frames[len(frames)-1].Seq > reached {
					t.Errorf("frame %d, reached %d", frames[len(frames)-1].Seq, reached)
				}
			}
		})
	}
	for range 100 {
		add()
	}
	readers.Wait()
	closeTest(t, s)
	s = openTest(t, o)
	check()
}

// Readers that come together open each batch once; when they are gone for a while nothing is kept.
func TestReadersShareWhatTheyOpen(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := openTest(t, o)
	tp := createTest(t, s, "a", 4)
	for i := range 400 {
		var recs []batch.Record
		for k := range 20 {
			recs = append(recs, record(1, fmt.Sprintf("value %d %d %0200d", i, k, 0)))
		}
		doTest(t, s, &Commit{Appends: []Append{{Partition: tp.Partitions[i%4], Records: recs}}})
	}
	closeTest(t, s)
	opened := 0
	o.Labels = testLabels()
	of := o.Labels.Of
	o.Labels.Of = func(dst []uint32, topic string, p batch.Payload) []uint32 { // all is sealed, so only readers call it, by turns
		opened++
		return of(dst, topic, p)
	}
	s = openTest(t, o)
	defer closeTest(t, s)
	var readers sync.WaitGroup
	for label := range uint32(30) {
		readers.Go(func() {
			for after := uint64(0); ; {
				frames, reached, err := s.FramesFor(after, 64<<10, &Query{Labels: []uint32{label | 0xff000000}})
				if err != nil {
					t.Error(err)
					return
				}
				if len(frames) == 0 && reached == after {
					return
				}
				after = reached
			}
		})
	}
	readers.Wait()
	if opened > 3*8000 { // once each, unless this takes so long that they are let go of in between
		t.Errorf("30 readers opened %d records of 8000", opened)
	}
	if n := s.sealed.cache.bytes(); n > s.sealed.cache.max {
		t.Errorf("%d bytes are kept, at most %d should be", n, s.sealed.cache.max)
	}
	for range 3 {
		s.sealed.cache.age()
	}
	if n := s.sealed.cache.bytes(); n != 0 {
		t.Errorf("%d bytes are kept for nobody", n)
	}
}

// Small steps through a file whose batches reach from its first frame to its last, and are more than readers keep open, are few large ones.
func TestStepsThroughAMergedFile(t *testing.T) {
	l := openTestSealed(t, Options{Dir: t.TempDir()})
	w := newTailWriter()
	const parts, seals = 40, 60
	all := map[uint32][]tailBatch{}
	for range seals {
		var in []sealPart
		w.seq++
		for id := range uint32(parts) {
			in = append(in, sealPart{id: id + 1, tails: []tailBatch{w.records(id+1, 5)}})
			all[id+1] = append(all[id+1], in[id].tails...)
		}
		if err := sealAll(l, w.seq, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.retire(defaultClass); err != nil {
		t.Fatal(err)
	}
	if err := l.rewrite(full(l), rewriting{}); err != nil { // a batch a partition
		t.Fatal(err)
	}
	l.cache = newReadCache(256 << 10) // of 700 KB
	steps, reads := 0, 0
	read := l.handles.tick
	for after := uint64(0); ; steps++ {
		frames, reached, err := l.frames(after, math.MaxUint64, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		if frames[0].seq != after+1 || frames[len(frames)-1].seq != reached {
			t.Fatalf("frames %d to %d behind %d, up to %d", frames[0].seq, frames[len(frames)-1].seq, after, reached)
		}
		after = reached
	}
	reads = int(l.handles.tick - read)
	if steps != seals || reads > seals*parts/2 {
		t.Errorf("%d steps through %d frames, %d reads of the file", steps, seals, reads)
	}
	checkFrames(t, l, all)
	l.ahead.age()
	l.ahead.age()
	if l.ahead.runs != nil {
		t.Error("frames are kept for nobody")
	}
}
