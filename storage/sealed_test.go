package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rivulet/storage/batch"
)

// tailWriter makes tails as the committer does.
type tailWriter struct {
	next map[uint32]int64
	seq  uint64
	time int64
}

func newTailWriter() *tailWriter { return &tailWriter{next: make(map[uint32]int64)} }

// records makes a plain batch of n records for partition id in frame seq.
func (w *tailWriter) records(id uint32, n int) tailBatch {
	var b batch.Builder
	base := w.next[id]
	b.Begin(nil, base, 0)
	for i := range n {
		w.time++
		b.Add(w.time, batch.AppendPayload(nil, fmt.Appendf(nil, "k%d", id), fmt.Appendf(nil, "partition %d offset %d of frame %d", id, base+int64(i), w.seq), nil))
	}
	return w.take(id, b.End(0, -1, -1, -1))
}

func (w *tailWriter) take(id uint32, data []byte) tailBatch {
	h, err := batch.ParseHeader(data)
	if err != nil {
		panic(err)
	}
	t := tailBatch{seq: w.seq, base: w.next[id], next: w.next[id] + int64(h.LastOffsetDelta) + 1, data: data}
	w.next[id] = t.next
	return t
}

// noise is a batch that no codec makes smaller.
func (w *tailWriter) noise(id uint32, size int, rng *rand.Rand) tailBatch {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	var b batch.Builder
	b.Begin(nil, w.next[id], 0)
	b.Add(1, batch.AppendPayload(nil, nil, value, nil))
	return w.take(id, b.End(0, -1, -1, -1))
}

func openTestSealed(t *testing.T, o Options) *sealedLog {
	t.Helper()
	l, problems, err := openSealed(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	l.merger.labels, l.again.labels = testLabelling(), testLabelling()
	t.Cleanup(func() { l.close() })
	return l
}

// content lists a partition's records as text, by offset.
func content(t *testing.T, l *sealedLog, id uint32) map[int64]string {
	t.Helper()
	out := make(map[int64]string)
	start, end := l.bounds(id)
	for from := start; from < end; {
		batches, err := l.read(id, from, end, 300_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			from = collect(t, b, out)
		}
	}
	return out
}

func collect(t *testing.T, b []byte, out map[int64]string) (next int64) {
	t.Helper()
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		t.Fatal(err)
	}
	for {
		r, ok := d.Next()
		if !ok {
			break
		}
		if _, twice := out[r.Offset]; twice {
			t.Fatalf("offset %d twice", r.Offset)
		}
		out[r.Offset] = fmt.Sprintf("%d %s", r.Timestamp, r.Payload.Value())
	}
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	return d.Header().NextOffset()
}

func wantTails(t *testing.T, tails []tailBatch) map[int64]string {
	t.Helper()
	out := make(map[int64]string)
	for _, b := range tails {
		collect(t, b.data, out)
	}
	return out
}

func same(t *testing.T, what string, got, want map[int64]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
	for o, v := range want {
		if got[o] != v {
			t.Fatalf("%s: offset %d is %q, want %q", what, o, got[o], v)
		}
	}
}

// mixed makes seals of small and large, compressed and transactional batches over some partitions.
func mixed(t *testing.T, w *tailWriter, rng *rand.Rand, parts, frames int) []sealPart {
	t.Helper()
	out := make([]sealPart, parts)
	var comp batch.Compressor
	for i := range out {
		out[i].id = uint32(i + 1)
	}
	for range frames {
		w.seq++
		for i := range out {
			p := &out[i]
			switch rng.IntN(12) {
			case 0, 1, 2, 3, 4:
				p.tails = append(p.tails, w.records(p.id, 1+rng.IntN(5)))
			case 5:
				p.tails = append(p.tails, w.records(p.id, 1+rng.IntN(2000)))
			case 6: // gzip, small
				b := w.records(p.id, 30)
				data, err := comp.Compress(nil, b.data, batch.Gzip)
				if err != nil {
					t.Fatal(err)
				}
				b.data = data
				p.tails = append(p.tails, b)
			case 7: // a transaction in two frames' batches and its marker, in one frame here
				seq := rng.Int32N(1000)
				for range 2 {
					b := w.records(p.id, 3)
					batch.SetProducer(b.data, 7, 1, seq, true)
					seq += 3
					p.tails = append(p.tails, b)
				}
				p.tails = append(p.tails, w.take(p.id, batch.AppendMarker(nil, w.next[p.id], 0, 5, 7, 1, true)))
			case 8:
				p.tails = append(p.tails, w.noise(p.id, 1+rng.IntN(100_000), rng))
			case 9: // two batches of a frame
				p.tails = append(p.tails, w.records(p.id, 2), w.records(p.id, 3))
			}
		}
	}
	return out
}

func TestSealAndReadBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	o := Options{Dir: t.TempDir(), LogFileBytes: 1 << 20}
	l := openTestSealed(t, o)
	w := newTailWriter()
	all := make(map[uint32][]tailBatch)
	for range 5 {
		parts := mixed(t, w, rng, 4, 40)
		if err := sealAll(l, w.seq, parts); err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			all[p.id] = append(all[p.id], p.tails...)
		}
	}
	check := func(l *sealedLog) {
		t.Helper()
		if l.sealedSeq() != w.seq {
			t.Fatalf("sealed up to %d, want %d", l.sealedSeq(), w.seq)
		}
		for id, tails := range all {
			if start, end := l.bounds(id); start != 0 || end != w.next[id] {
				t.Fatalf("partition %d: bounds %d, %d", id, start, end)
			}
			same(t, fmt.Sprintf("partition %d", id), content(t, l, id), wantTails(t, tails))
			if l.stored(id) == 0 {
				t.Fatal("no bytes stored")
			}
			// From every offset, and no further than the limit.
			for range 50 {
				from := rng.Int64N(w.next[id])
				got, err := l.read(id, from, from+1, 1<<30)
				if err != nil || len(got) != 1 {
					t.Fatalf("read at %d: %d batches, %v", from, len(got), err)
				}
				h, _ := batch.ParseHeader(got[0])
				if from < h.BaseOffset || from >= h.NextOffset() {
					t.Fatalf("offset %d is not in %d to %d", from, h.BaseOffset, h.NextOffset())
				}
			}
		}
		checkFrames(t, l, all)
		checkTimes(t, l, all)
	}
	check(l)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	l = openTestSealed(t, o)
	check(l)
	if n := len(l.files[defaultClass]); n < 2 {
		t.Fatalf("only %d files", n)
	}
	// It goes on in the last file.
	parts := mixed(t, w, rng, 4, 40)
	if err := sealAll(l, w.seq, parts); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		all[p.id] = append(all[p.id], p.tails...)
	}
	check(l)
}

// checkFrames: every frame as it was committed, in order, whatever the size of the steps.
func checkFrames(t *testing.T, l *sealedLog, all map[uint32][]tailBatch) {
	t.Helper()
	for _, step := range []int{1, 50_000, 1 << 30} {
		got := make(map[uint32]map[int64]string)
		after, n := uint64(0), 0
		for {
			frames, _, err := l.frames(after, math.MaxUint64, step, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				if f.seq <= after {
					t.Fatalf("frame %d behind %d", f.seq, after)
				}
				after = f.seq
				n++
				for _, p := range f.batches {
					if got[p.id] == nil {
						got[p.id] = make(map[int64]string)
					}
					for _, tb := range p.tails {
						if err := batch.Check(tb.data); err != nil {
							t.Fatal(err)
						}
						h, _ := batch.ParseHeader(tb.data)
						if h.Codec() != batch.None || tb.seq != f.seq || h.BaseOffset != tb.base || h.NextOffset() != tb.next {
							t.Fatalf("frame %d: batch %+v", f.seq, h)
						}
						if before := int64(len(got[p.id])); tb.base != before {
							t.Fatalf("frame %d, partition %d: base %d behind %d", f.seq, p.id, tb.base, before)
						}
						collect(t, tb.data, got[p.id])
						wantFrame(t, all[p.id], tb, h)
					}
				}
			}
			if step == 1 && after > 45 {
				break
			}
		}
		if step == 1 {
			continue
		}
		for id, tails := range all {
			same(t, "frames", got[id], wantTails(t, tails))
		}
	}
	checkQueries(t, l, all)
}

// wantFrame: the records of a rebuilt batch were committed in that frame, by that producer.
func wantFrame(t *testing.T, tails []tailBatch, got tailBatch, h batch.Header) {
	t.Helper()
	for _, w := range tails {
		if w.next <= got.base || w.base >= got.next {
			continue
		}
		if w.seq != got.seq {
			t.Fatalf("offsets %d to %d are in frame %d, want %d", got.base, got.next, got.seq, w.seq)
		}
		wh, _ := batch.ParseHeader(w.data)
		if wh.Transactional() != h.Transactional() || wh.Control() != h.Control() {
			t.Fatalf("offset %d: header %+v, was %+v", got.base, h, wh)
		}
		if wh.Transactional() && !wh.Control() && (wh.ProducerID != h.ProducerID || wh.BaseOffset == h.BaseOffset && wh.BaseSequence != h.BaseSequence) {
			t.Fatalf("offset %d: header %+v, was %+v", got.base, h, wh)
		}
	}
}

func checkTimes(t *testing.T, l *sealedLog, all map[uint32][]tailBatch) {
	t.Helper()
	for id := range all {
		for _, ms := range []int64{0, 5, 100, 777, 5000, 1 << 50} {
			want, found := int64(0), false
			for _, e := range l.index(id) {
				if e.maxTime >= ms {
					want, found = e.base, true
					break
				}
			}
			if base, ok := l.firstAtOrAfter(id, 0, ms); ok != found || base != want {
				t.Fatalf("first at or after %d: %d, %v, want %d, %v", ms, base, ok, want, found)
			}
		}
	}
}

func TestSealMergesAndCompresses(t *testing.T) {
	l := openTestSealed(t, Options{Dir: t.TempDir()})
	w := newTailWriter()
	var tails []tailBatch
	raw := 0
	for range 20_000 {
		w.seq++
		b := w.records(1, 1)
		raw += len(b.data)
		tails = append(tails, b)
	}
	if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: tails}}); err != nil {
		t.Fatal(err)
	}
	if n := len(l.index(1)); n > raw/(200<<10) {
		t.Fatalf("%d batches for %d bytes", n, raw)
	}
	if l.stored(1)*4 > int64(raw) {
		t.Fatalf("%d bytes stored of %d", l.stored(1), raw)
	}
	if wr := l.bytesWritten(); wr > uint64(l.stored(1))*3/2 {
		t.Fatalf("%d bytes written for %d stored", wr, l.stored(1))
	}
	same(t, "merged", content(t, l, 1), wantTails(t, tails))
}

// A large batch that a producer compressed stays as it is, byte for byte.
func TestSealKeepsLargeCompressedBatches(t *testing.T) {
	l := openTestSealed(t, Options{Dir: t.TempDir()})
	w := newTailWriter()
	rng := rand.New(rand.NewPCG(1, 1))
	w.seq++
	noise := w.noise(1, 60_000, rng)
	var b batch.Builder
	b.Begin(nil, w.next[1], 0)
	value := append(noise.data, make([]byte, 50_000)...)
	b.Add(1, batch.AppendPayload(nil, nil, value, nil))
	var comp batch.Compressor
	data, err := comp.Compress(nil, b.End(0, 9, 1, 5), batch.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	big := w.take(1, data)
	if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{w.records(2, 0+1), noise, big}[1:]}}); err != nil {
		t.Fatal(err)
	}
	got, err := l.read(1, big.base, big.next, 1)
	if err != nil || !bytes.Equal(got[0], data) {
		t.Fatal("changed", err)
	}
}

func TestSealAfterAFailedCommit(t *testing.T) {
	for _, point := range []string{pointSealBefore, pointSealAfter} {
		t.Run(point, func(t *testing.T) {
			fail := false
			o := Options{Dir: t.TempDir()}
			o.faults = func(p string) error {
				if fail && p == point {
					fail = false
					return errors.New("injected")
				}
				return nil
			}
			l := openTestSealed(t, o)
			w := newTailWriter()
			var tails []tailBatch
			for i := range 5 {
				w.seq++
				b := w.records(1, 10)
				tails = append(tails, b)
				fail = i == 2
				if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{b}}}); err != nil {
					t.Fatal(err)
				}
				same(t, "sealed", content(t, l, 1), wantTails(t, tails))
			}
			l.close()
			l = openTestSealed(t, o)
			same(t, "opened", content(t, l, 1), wantTails(t, tails))
			if len(l.files[defaultClass]) != 2 {
				t.Fatalf("%d files", len(l.files[defaultClass]))
			}
			if frames, _, err := l.frames(0, math.MaxUint64, 1<<30, nil); err != nil || len(frames) != 5 {
				t.Fatalf("%d frames, %v", len(frames), err)
			}
			checkFrames(t, l, map[uint32][]tailBatch{1: tails})
		})
	}
}

func TestSealThatFailsTwiceMayBeCalledAgain(t *testing.T) {
	fail := false
	o := Options{Dir: t.TempDir()}
	o.faults = func(string) error {
		if fail {
			return errors.New("injected")
		}
		return nil
	}
	l := openTestSealed(t, o)
	w := newTailWriter()
	w.seq++
	parts := []sealPart{{id: 1, tails: []tailBatch{w.records(1, 10)}}}
	fail = true
	for range 3 {
		if err := sealAll(l, w.seq, parts); err == nil {
			t.Fatal("no error")
		}
		if _, end := l.bounds(1); end != 0 {
			t.Fatal("published")
		}
	}
	fail = false
	if err := sealAll(l, w.seq, parts); err != nil {
		t.Fatal(err)
	}
	same(t, "sealed", content(t, l, 1), wantTails(t, parts[0].tails))
	l.close()
	l = openTestSealed(t, o)
	same(t, "opened", content(t, l, 1), wantTails(t, parts[0].tails))
}

func TestOpenRemovesUnfinishedFiles(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	openTestSealed(t, o).close()
	tmp := filepath.Join(o.Dir, "log", defaultClass, "000001.db.tmp")
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	openTestSealed(t, o)
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("still there")
	}
}

func TestDroppedPartitionsGiveTheirFilesBack(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 64 << 10}
	l := openTestSealed(t, o)
	w := newTailWriter()
	rng := rand.New(rand.NewPCG(1, 1))
	var kept []tailBatch
	for range 8 {
		w.seq++
		a, b := w.noise(1, 100_000, rng), w.records(2, 1)
		parts := []sealPart{{id: 1, tails: []tailBatch{a}}}
		if w.seq == 3 {
			kept = append(kept, b)
			parts = append(parts, sealPart{id: 2, tails: []tailBatch{b}})
		} else {
			w.next[2]--
		}
		if err := sealAll(l, w.seq, parts); err != nil {
			t.Fatal(err)
		}
	}
	l.drop(1)
	l.sweep()
	if n := len(l.files[defaultClass]); n != 2 {
		t.Fatalf("%d files left", n)
	}
	same(t, "kept", content(t, l, 2), wantTails(t, kept))
	if start, end := l.bounds(1); start != 0 || end != 0 {
		t.Fatal("still there")
	}
	frames, _, err := l.frames(0, math.MaxUint64, 1<<30, nil)
	if err != nil || len(frames) != 1 || frames[0].seq != 3 || len(frames[0].batches) != 1 {
		t.Fatalf("%v, %v", frames, err)
	}
	l.close()
	if l = openTestSealed(t, o); l.sealedSeq() != w.seq {
		t.Fatalf("sealed up to %d, want %d", l.sealedSeq(), w.seq)
	}
}

// Damage of every kind: reads answer ErrCorrupt and name the offsets, a start sets the file aside and keeps what is whole.
func TestDamage(t *testing.T) {
	make := func(t *testing.T) (Options, string, []tailBatch) {
		o := Options{Dir: t.TempDir()}
		l := openTestSealed(t, o)
		w := newTailWriter()
		rng := rand.New(rand.NewPCG(1, 1))
		var tails []tailBatch
		for range 6 {
			w.seq++
			b := w.noise(1, 50_000, rng)
			tails = append(tails, b)
			if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{b}}}); err != nil {
				t.Fatal(err)
			}
		}
		path := l.files[defaultClass][0].path
		l.close()
		return o, path, tails
	}
	t.Run("a flipped bit in a batch", func(t *testing.T) {
		o, path, tails := make(t)
		spoil(t, path, func(b []byte) []byte {
			at := bytes.Index(b, tails[3].data[1000:1100])
			b[at] ^= 1
			return b
		})
		l := openTestSealed(t, o)
		var found []*DamageError
		l.found = func(d *DamageError) { found = append(found, d) }
		got, err := l.read(1, 1, 6, 1<<20)
		if err != nil || len(got) != 5 {
			t.Fatalf("%d batches, %v", len(got), err)
		}
		if len(found) != 1 || !errors.Is(found[0], ErrCorrupt) || found[0].First != 3 || found[0].Next != 4 || found[0].Partition != 1 || found[0].File != path {
			t.Fatal(found)
		}
		for i, b := range got {
			want := tails[i+1].data
			if i == 2 {
				want = batch.AppendEmpty(nil, 3, 4)
			}
			if !bytes.Equal(b, want) && (i == 2 || batch.Check(b) != nil) {
				t.Fatalf("batch %d: %x", i, b[:batch.HeaderSize])
			}
		}
	})
	t.Run("cut off while open", func(t *testing.T) {
		o, path, _ := make(t)
		l := openTestSealed(t, o)
		found := map[int64]bool{}
		l.found = func(d *DamageError) { found[d.First] = true }
		if err := os.Truncate(path, 64<<10); err != nil {
			t.Fatal(err)
		}
		for from := range int64(6) {
			got, err := l.read(1, from, 6, 1)
			if err != nil || len(got) != 1 {
				t.Fatal(len(got), err)
			}
			if h, err := batch.ParseHeader(got[0]); err != nil || h.BaseOffset != from || (h.NumRecords == 0) != found[from] {
				t.Fatal(h, err, found)
			}
		}
		if !found[5] {
			t.Fatal("nothing is missing")
		}
	})
	for name, hurt := range map[string]func(b []byte) []byte{
		"cut off":             func(b []byte) []byte { return b[:5000] },
		"empty":               func([]byte) []byte { return nil },
		"both metas are gone": func(b []byte) []byte { return append(bytes.Repeat([]byte{0}, 8192), b[8192:]...) },
		"text":                func([]byte) []byte { return bytes.Repeat([]byte("rivulet\n"), 10_000) },
	} {
		t.Run(name, func(t *testing.T) {
			o, path, _ := make(t)
			spoil(t, path, hurt)
			l, problems, err := openSealed(o)
			if err != nil || len(problems) != 1 || problems[0].File != path {
				t.Fatal(problems, err)
			}
			l.close()
			if _, err := os.Stat(path + quarantineSuffix); err != nil {
				t.Fatal(err)
			}
			openTestSealed(t, o) // once
		})
	}
	t.Run("a directory", func(t *testing.T) {
		o, path, tails := make(t)
		spoil(t, path, func(b []byte) []byte {
			dir := []byte{dirVersion, 0, 0, 0, 0, 0, 0, 0, 3}
			n := 0
			for at := 0; ; { // all copies: bbolt leaves old pages behind
				i := bytes.Index(b[at:], dir)
				if i < 0 {
					break
				}
				b[at+i+12] ^= 0x40
				at += i + 1
				n++
			}
			if n == 0 {
				t.Fatal("no directory found")
			}
			return b
		})
		l, problems, err := openSealed(o)
		if err != nil || len(problems) != 1 || problems[0].Where != "group 3" {
			t.Fatal(problems, err)
		}
		want := wantTails(t, append(append([]tailBatch(nil), tails[:2]...), tails[3:]...))
		same(t, "salvaged", content(t, l, 1), want)
		l.close()
		l = openTestSealed(t, o) // once
		same(t, "opened again", content(t, l, 1), want)
		names, _ := os.ReadDir(filepath.Dir(path))
		if len(names) != 2 || !strings.HasSuffix(names[0].Name(), quarantineSuffix) {
			t.Fatal(names)
		}
	})
	t.Run("zeroed pages", func(t *testing.T) {
		for page := 2; page < 40; page++ {
			o, path, tails := make(t)
			spoil(t, path, func(b []byte) []byte {
				clear(b[page*pageSize : (page+1)*pageSize])
				return b
			})
			l, _, err := openSealed(o)
			if err != nil {
				t.Fatalf("page %d: %v", page, err)
			}
			want := wantTails(t, tails)
			for from := range int64(6) {
				got, err := l.read(1, from, from+1, 1)
				if err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatalf("page %d: %v", page, err)
				}
				for _, b := range got {
					have := map[int64]string{}
					collect(t, b, have)
					for o, v := range have {
						if want[o] != v {
							t.Fatalf("page %d: offset %d is wrong", page, o)
						}
					}
				}
			}
			l.close()
		}
	})
	t.Run("held by another", func(t *testing.T) {
		o, path, _ := make(t)
		db, err := openLog(path, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, _, err := openSealed(o); err == nil || errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Fatal("set aside although it is whole", err)
		}
	})
}

func spoil(t *testing.T, path string, how func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// More files than are kept open.
func TestManyFiles(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 4096}
	l := openTestSealed(t, o)
	l.handles.max = 3
	w := newTailWriter()
	var tails []tailBatch
	for range 12 {
		w.seq++
		b := w.records(1, 10)
		tails = append(tails, b)
		if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{b}}}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "all", content(t, l, 1), wantTails(t, tails))
	if n := len(l.handles.open); n > 3 {
		t.Fatalf("%d files are open", n)
	}
}

func FuzzDirectory(f *testing.F) {
	var m merger
	w := newTailWriter()
	w.seq = 5
	for _, m.labels = range []labelling{testLabelling(), {}} {
		if err := m.build(dirInfo{key: 9, upTo: 9, sealed: 9}, []sealPart{{id: 3, tails: []tailBatch{w.records(3, 4), w.records(3, 1)}}}); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(m.done[:len(m.done)-dirTail]))
	}
	f.Add(directoryV2(m.done))
	f.Add(directoryV1(9, m.size, m.done))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < dirHead1 {
			return
		}
		// The checksum is mended, so that what lies behind it is reached.
		entries, size := 0, int64(len(body))
		count := int(uint32(body[17])<<24 | uint32(body[18])<<16 | uint32(body[19])<<8 | uint32(body[20]))
		binary.BigEndian.PutUint64(body[9:], uint64(size))
		dir := binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
		err := eachDirEntry(dir, func(e *dirEntry) error {
			entries++
			if int64(e.ref.pos)+int64(e.ref.size) > size || e.ref.next() <= e.ref.base {
				t.Fatalf("entry %+v", e)
			}
			for i, l := range e.labels {
				if l > labelMask || !e.labelled || i > 0 && l <= e.labels[i-1] {
					t.Fatalf("labels %d", e.labels)
				}
			}
			return nil
		})
		if err == nil && entries != count {
			t.Fatalf("%d entries of %d", entries, count)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, parts := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%d", parts), func(b *testing.B) {
			l, _, err := openSealed(Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer l.close()
			w := newTailWriter()
			raw := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				in := make([]sealPart, parts)
				raw = 0
				for i := range in {
					in[i].id = uint32(i)
				}
				for raw < 8<<20 {
					w.seq++
					for i := range in {
						t := w.records(uint32(i), 10)
						raw += len(t.data)
						in[i].tails = append(in[i].tails, t)
					}
				}
				b.StartTimer()
				if err := sealAll(l, w.seq, in); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(raw))
			var stored int64
			for i := range parts {
				stored += l.stored(uint32(i))
			}
			b.ReportMetric(float64(l.bytesWritten())/float64(stored), "written/stored")
			b.ReportMetric(float64(l.bytesWritten())/float64(raw*b.N), "written/raw")
		})
	}
}

// sealAll seals one whole round of one class.
func sealAll(l *sealedLog, upTo uint64, parts []sealPart) error {
	return l.seal(defaultClass, dirInfo{key: upTo, upTo: upTo, sealed: upTo}, parts)
}

// A file of which bbolt cannot be asked any more, since it panicked with its locks held, takes no more groups: waiting for them would end
// all sealing.
func TestSealBesideABrokenFile(t *testing.T) {
	l := openTestSealed(t, Options{Dir: t.TempDir()})
	w := newTailWriter()
	seq := uint64(0)
	seal := func() {
		t.Helper()
		seq++
		if err := sealAll(l, seq, []sealPart{{id: 1, tails: []tailBatch{w.records(1, 10)}}}); err != nil {
			t.Fatal(err)
		}
	}
	seal()
	broken := l.active[defaultClass]
	broken.broken = ErrCorrupt
	seal()
	if f := l.active[defaultClass]; f == broken {
		t.Fatal("the next group went to the same file")
	}
	if _, err := l.handles.acquire(broken); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}
