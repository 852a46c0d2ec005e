package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"rivulet/storage/batch"
)

// Every codec, for what a seal meets: single messages, large batches of producers with every codec, transactions, markers, noise.
func TestSealWithEveryCodec(t *testing.T) {
	for compression, want := range map[string]batch.Codec{
		"lz4": batch.LZ4, "zstd": batch.Zstd, "gzip": batch.Gzip, "snappy": batch.Snappy, "uncompressed": batch.None, "producer": batch.LZ4,
	} {
		t.Run(compression, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			l := openTestSealed(t, Options{Dir: t.TempDir(), LogFileBytes: 4 << 20})
			l.merger.codecs = func(uint32) codecRule { return codecOf(compression) }
			w := newTailWriter()
			parts := mixed(t, w, rng, 3, 40)
			var comp batch.Compressor
			for codec := batch.None; codec <= batch.Zstd; codec++ { // as producers with their own codecs send
				w.seq++
				b := w.records(1, 20000)
				data, err := comp.Compress(nil, b.data, codec)
				if err != nil {
					t.Fatal(err)
				}
				b.data = data
				parts[0].tails = append(parts[0].tails, b)
			}
			if err := sealAll(l, w.seq, parts); err != nil {
				t.Fatal(err)
			}
			found := map[batch.Codec]int{}
			for _, p := range parts {
				same(t, fmt.Sprintf("partition %d", p.id), content(t, l, p.id), wantTails(t, p.tails))
				_, end := l.bounds(p.id)
				stored, err := l.read(p.id, 0, end, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range stored {
					h, err := batch.ParseHeader(b)
					if err != nil {
						t.Fatal(err)
					}
					found[h.Codec()]++
					// Markers, and what no codec makes smaller, stay plain.
					if compression != "producer" && h.Codec() != want && h.Codec() != batch.None {
						t.Errorf("offset %d is stored with %s", h.BaseOffset, h.Codec())
					}
				}
			}
			if found[want] == 0 || compression == "producer" && (found[batch.Gzip] != 1 || found[batch.Zstd] != 1 || found[batch.Snappy] != 1) {
				t.Errorf("codecs found: %v", found)
			}
		})
	}
}

// A producer's large batch in the topic's own codec is stored byte for byte.
func TestOwnCodecIsNotRepeated(t *testing.T) {
	l := openTestSealed(t, Options{Dir: t.TempDir()})
	l.merger.codecs = func(uint32) codecRule { return codecOf("zstd") }
	w := newTailWriter()
	w.seq++
	b := w.records(1, 20000)
	var comp batch.Compressor
	data, err := comp.Compress(nil, b.data, batch.Zstd)
	if err != nil || len(data) < keepFrom {
		t.Fatal(len(data), err)
	}
	b.data = data
	if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{b}}}); err != nil {
		t.Fatal(err)
	}
	stored, err := l.read(1, 0, b.next, 1<<30)
	if err != nil || len(stored) != 1 || string(stored[0]) != string(data) {
		t.Fatal("the batch was changed", len(stored), err)
	}
}

// The codec follows the topic's configuration, and a log of many codecs is read as one.
func TestCodecIsAltered(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	p := createTest(t, s, "t", 1).Partitions[0]
	var want []batch.Codec
	const each = 50
	value := func(i int) string { return fmt.Sprintf("record %d of a log of many codecs", i) }
	n := 0
	for compression, codec := range map[string]batch.Codec{"zstd": batch.Zstd, "gzip": batch.Gzip, "snappy": batch.Snappy, "lz4": batch.LZ4, "uncompressed": batch.None} {
		if _, err := s.AlterTopic(context.Background(), "t", map[string]string{"compression.type": compression}); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			put(t, s, p, value(n))
			n++
			if i == 20 && codec == batch.Zstd { // as a slow disk makes the sealer do at any time
				sealNow(t, s)
			}
		}
		sealNow(t, s)
		want = append(want, codec)
	}
	check := func() {
		t.Helper()
		got := valuesOf(t, p, 0)
		for i := range n {
			if got[int64(i)] != value(i) {
				t.Fatalf("offset %d is %q", i, got[int64(i)])
			}
		}
		stored, err := p.Read(0, int64(n), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range stored {
			h, err := batch.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			codec := want[h.BaseOffset/each]
			if h.Codec() != codec || h.NextOffset() > (h.BaseOffset/each+1)*each {
				t.Errorf("batch %d of offsets %d to %d is stored with %s, want %s", i, h.BaseOffset, h.NextOffset()-1, h.Codec(), codec)
			}
		}
		records := 0
		for after := uint64(0); ; {
			frames, err := s.Frames(after, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				after = f.Seq
				for _, b := range f.Batches {
					h, err := batch.ParseHeader(b.Data)
					if err != nil || h.Codec() != batch.None {
						t.Fatal(h.Codec(), err)
					}
					records += int(h.NumRecords)
				}
			}
		}
		if records != n {
			t.Errorf("frames hold %d records, want %d", records, n)
		}
	}
	check()
	closeTest(t, s)
	s = openTest(t, Options{Dir: dir})
	p = must(s.Topic("t")).Partitions[0]
	check()
	closeTest(t, s)
}
