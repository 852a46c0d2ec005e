package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"rivulet/storage/batch"
)

// damagedStore makes a store with sealed batches of one partition, in which the one at offset 3 is damaged on disk. It is closed.
func damagedStore(t *testing.T) (o Options, values []string) {
	t.Helper()
	o = Options{Dir: t.TempDir(), ScrubRate: -1}
	s := openTest(t, o)
	tp := createTest(t, s, "a", 1)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 6 {
		noise := make([]byte, 300<<10) // not merged with its neighbours, and as it is on disk
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		values = append(values, string(noise))
		put(t, s, tp.Partitions[0], string(noise))
	}
	closeTest(t, s)
	spoilAll(t, o.Dir, []byte(values[3])[1000:1100])
	return o, values
}

// spoilAll flips a bit wherever a log file holds what.
func spoilAll(t *testing.T, dir string, what []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "log", "*", "*"+logSuffix))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	hit := false
	for _, f := range files {
		spoil(t, f, func(b []byte) []byte {
			for at := 0; ; {
				i := bytes.Index(b[at:], what)
				if i < 0 {
					return b
				}
				at += i
				b[at] ^= 1
				hit = true
			}
		})
	}
	if !hit {
		t.Fatal("there is nothing to damage")
	}
}

// wholeValues reads a partition as a consumer does, and returns the values by offset; it must come to the end.
func wholeValues(t *testing.T, p *Partition) map[int64]string {
	t.Helper()
	out := map[int64]string{}
	start, _, high := p.Offsets()
	for at := start; at < high; {
		set, err := p.Read(at, high, 64<<10)
		if err != nil || len(set) == 0 {
			t.Fatalf("read at %d of %d: %d batches, %v", at, high, len(set), err)
		}
		for _, b := range set {
			if err := batch.Check(b); err != nil {
				t.Fatal(err)
			}
			var d batch.Decoder
			if err := d.Reset(b, 0); err != nil {
				t.Fatal(err)
			}
			for r, ok := d.Next(); ok; r, ok = d.Next() {
				out[r.Offset] = string(r.Payload.Value())
			}
			at = d.Header().NextOffset()
		}
	}
	return out
}

// A damaged batch is a gap: readers of the partition and of frames come past it, everything else is there, and it is told.
func TestDamagedBatchIsAGap(t *testing.T) {
	o, values := damagedStore(t)
	s := openTest(t, o)
	gen := s.Generation()
	tp, _ := s.Topic("a")
	want := func(got map[int64]string) {
		t.Helper()
		if len(got) != len(values)-1 {
			t.Fatalf("%d records", len(got))
		}
		for offset, v := range got {
			if v != values[offset] || offset == 3 {
				t.Fatalf("wrong record at %d", offset)
			}
		}
	}
	want(wholeValues(t, tp.Partitions[0]))
	framed := map[int64]string{}
	for after := uint64(0); ; {
		frames, err := s.Frames(after, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		for _, f := range frames {
			for _, b := range f.Batches {
				var d batch.Decoder
				if err := d.Reset(b.Data, 0); err != nil {
					t.Fatal(err)
				}
				for r, ok := d.Next(); ok; r, ok = d.Next() {
					framed[r.Offset] = string(r.Payload.Value())
				}
			}
			after = f.Seq
		}
	}
	want(framed)
	check := func(s *Store) {
		t.Helper()
		found := s.Damages()
		if len(found) != 1 || found[0].Topic != "a" || found[0].Partition != 0 || found[0].First != 3 || found[0].Next != 4 ||
			!strings.Contains(found[0].Cause, "checksum") && !strings.Contains(found[0].Cause, "CRC") {
			t.Fatal(found)
		}
		if problems := s.Problems(); len(problems) != 1 || problems[0].Topic != "a" || !strings.Contains(problems[0].Where, "offsets 3 to 3") {
			t.Fatal(problems)
		}
	}
	check(s)
	// Consumers that look for a time are led to the gap, or behind it.
	if _, _, ok, err := tp.Partitions[0].OffsetForTime(1); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if s.Generation().ID != gen.ID {
		t.Fatal("offsets are not given out twice: the history is the same")
	}
	waitFor(t, func() bool {
		v, err := s.Get(spaceDamage, damageKey(tp.Partitions[0].ID, 3))
		return err == nil && v != nil
	})
	closeTest(t, s)
	s = openTest(t, o)
	check(s) // before anyone reads
	tp, _ = s.Topic("a")
	if err := s.Trim(context.Background(), []Start{{Partition: tp.Partitions[0], Offset: 4}}); err != nil {
		t.Fatal(err)
	}
	if found := s.Damages(); len(found) != 0 {
		t.Fatal("what is trimmed is not missed:", found)
	}
	closeTest(t, s)
}

// waitFor waits for a background goroutine.
func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come to pass within a minute")
		}
	}
}

// The scrub finds what nobody reads, and forgets what can be read again.
func TestScrubFindsDamage(t *testing.T) {
	o, values := damagedStore(t)
	o.ScrubRate = 1 << 40
	s := openTest(t, o)
	waitFor(t, func() bool { return s.Scrub().Passes > 0 })
	if found := s.Damages(); len(found) != 1 || found[0].First != 3 {
		t.Fatal(found)
	}
	if sc := s.Scrub(); sc.LastPass.IsZero() || sc.Bytes < uint64(5*len(values[0])) || sc.Running {
		t.Fatalf("%+v", sc)
	}
	closeTest(t, s)
	s = openTest(t, o)
	if sc := s.Scrub(); sc.Passes != 1 || sc.LastPass.IsZero() {
		t.Fatalf("the place is forgotten: %+v", sc)
	}
	closeTest(t, s)
	hurt := append([]byte(nil), values[3][1000:1100]...)
	hurt[0] ^= 1
	spoilAll(t, o.Dir, hurt) // back as it was
	s = openTest(t, o)
	waitFor(t, func() bool { return len(s.Damages()) == 0 })
	tp, _ := s.Topic("a")
	if got := wholeValues(t, tp.Partitions[0]); len(got) != len(values) {
		t.Fatal(len(got))
	}
	closeTest(t, s)
}

// The scrub goes on where it was, and does not fall behind the rate that it was given.
func TestScrubGoesOn(t *testing.T) {
	o, values := damagedStore(t)
	o.ScrubRate = 1 // the first batch is the last for days
	s := openTest(t, o)
	waitFor(t, func() bool { return s.Scrub().Bytes > 0 })
	if sc := s.Scrub(); !sc.Running || sc.Bytes > uint64(2*len(values[0])) {
		t.Fatalf("%+v", sc)
	}
	closeTest(t, s)
	o.ScrubRate = -1
	s = openTest(t, o)
	if sc := s.Scrub(); !sc.Running || sc.Passes != 0 {
		t.Fatalf("%+v", sc)
	}
	closeTest(t, s)
}

// Both copies of meta.db are damaged: the store starts, and the records are there.
func TestStartWithoutMeta(t *testing.T) {
	for _, hurt := range []func(t *testing.T, path string){
		func(t *testing.T, path string) { spoil(t, path, func([]byte) []byte { return make([]byte, 64<<10) }) },
		func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		o := Options{Dir: t.TempDir(), ScrubRate: -1}
		s := openTest(t, o)
		gen := s.Generation().ID
		a := createTest(t, s, "a", 2)
		put(t, s, a.Partitions[0], "one", "two")
		put(t, s, a.Partitions[1], "three")
		closeTest(t, s)
		s = openTest(t, o)
		b := createTest(t, s, "b", 1)
		put(t, s, b.Partitions[0], "four")
		closeTest(t, s)
		for _, name := range []string{"meta.db", metaCopyName} {
			hurt(t, filepath.Join(o.Dir, name))
		}
		// The journal may hold all of it, none, or the end.
		files, err := filepath.Glob(filepath.Join(o.Dir, "journal", "*"+walSuffix))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files[:1] {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 2 {
			s = openTest(t, o)
			var all []string
			for _, tp := range s.Topics() {
				for _, p := range tp.Partitions {
					for _, v := range wholeValues(t, p) {
						all = append(all, v)
					}
				}
			}
			if len(all) != 4 {
				t.Fatal(round, all)
			}
			if s.Generation().ID == gen {
				t.Fatal("offsets may be given out twice, and the generation is the same")
			}
			if round == 0 && len(s.Problems()) == 0 {
				t.Fatal("nobody is told")
			}
			tp := createTest(t, s, fmt.Sprint("new", round), 1)
			if tp.Partitions[0].ID <= b.Partitions[0].ID {
				t.Fatal("a partition's id is used twice")
			}
			put(t, s, tp.Partitions[0], "five")
			if err := s.DeleteTopic(context.Background(), tp.Name); err != nil {
				t.Fatal(err)
			}
			closeTest(t, s)
		}
	}
}

// A directory that goes bad while the store runs costs the order of frames, not the records.
func TestFramesWithoutDirectory(t *testing.T) {
	o := Options{Dir: t.TempDir(), ScrubRate: -1}
	l := openTestSealed(t, o)
	w := newTailWriter()
	rng := rand.New(rand.NewPCG(1, 1))
	var tails []tailBatch
	for range 3 {
		w.seq++
		tails = append(tails, w.noise(1, 50_000, rng))
	}
	if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: tails}}); err != nil {
		t.Fatal(err)
	}
	g := l.groups[0]
	if frames, _, err := l.frames(0, math.MaxUint64, 1<<20, nil); err != nil || len(frames) != 3 {
		t.Fatal(len(frames), err)
	}
	var dir []byte
	err := l.handles.view(g.file, func(groups *bolt.Bucket) error {
		dir = directory(groups, g.key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	spoilAll(t, o.Dir, dir)
	l.cache = newReadCache(l.cache.max) // as a while later
	frames, _, err := l.frames(0, math.MaxUint64, 1<<20, nil)
	if err != nil || len(frames) != 1 || frames[0].seq != w.seq || len(frames[0].batches) != 1 {
		t.Fatal(frames, err)
	}
	n := 0
	for _, b := range frames[0].batches[0].tails {
		h, err := batch.ParseHeader(b.data)
		if err != nil {
			t.Fatal(err)
		}
		n += int(h.NumRecords)
	}
	if n != 3 {
		t.Fatal(n)
	}
	if err := eachDirEntry([]byte("nonsense"), nil); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}
