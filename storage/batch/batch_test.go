package batch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// telemetry is a payload as a sensor sends it.
func telemetry(i int) Payload {
	key := fmt.Appendf(nil, "site/7/line/%d/press", i%20)
	value := fmt.Appendf(nil, `{"ts":%d,"temperature":%d.%d,"pressure":101%d.2,"state":"running","seq":%d}`,
		1700000000000+int64(i)*10, 20+i%7, i%10, i%9, i)
	return AppendPayload(nil, key, value, []KV{{Key: "mqtt.topic", Value: key}})
}

func build(base int64, n int, ts func(i int) int64) []byte {
	var w Builder
	w.Begin(nil, base, 3)
	for i := range n {
		w.Add(ts(i), telemetry(i))
	}
	return w.End(0, -1, -1, -1)
}

func records(t testing.TB, b []byte) []Record {
	t.Helper()
	if err := Check(b); err != nil {
		t.Fatal(err)
	}
	var d Decoder
	if err := d.Reset(b, 0); err != nil {
		t.Fatal(err)
	}
	var all []Record
	for {
		r, ok := d.Next()
		if !ok {
			break
		}
		r.Payload = bytes.Clone(r.Payload)
		all = append(all, r)
	}
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	return all
}

func TestPayload(t *testing.T) {
	headers := []KV{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}
	p := Payload(AppendPayload(nil, nil, []byte("value"), headers))
	if err := p.Valid(); err != nil {
		t.Fatal(err)
	}
	if p.Key() != nil || string(p.Value()) != "value" {
		t.Fatalf("key %q, value %q", p.Key(), p.Value())
	}
	if diff := cmp.Diff(headers, p.Headers(nil)); diff != "" {
		t.Fatal(diff)
	}
	if v, ok := p.Header("a"); !ok || string(v) != "1" {
		t.Fatalf("header a = %q, %v", v, ok)
	}
	if v, ok := p.Header(""); !ok || v != nil {
		t.Fatalf("null header = %v, %v", v, ok)
	}
	if _, ok := p.Header("b"); ok {
		t.Fatal("found a header that is not there")
	}
	for i := range p {
		if p[:i].Valid() == nil {
			t.Fatalf("valid when cut at %d", i)
		}
	}
	if Payload(append(bytes.Clone(p), 0)).Valid() == nil {
		t.Fatal("valid with a byte behind it")
	}
}

func TestRoundTripThroughEveryCodec(t *testing.T) {
	var c Compressor
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 63, 64, 65, 1000, 5000} {
		plain := build(1<<40, n, func(int) int64 { return 1700000000000 + rng.Int64N(2000) - 1000 })
		want := records(t, plain)
		for _, codec := range codecs {
			b, err := c.Compress([]byte("before"), plain, codec)
			if err != nil {
				t.Fatal(err)
			}
			b = b[len("before"):]
			if raw, err := Validate(b, 1<<20); err != nil || raw != len(plain)-HeaderSize {
				t.Fatalf("%s, %d records: raw %d, %v", codec, n, raw, err)
			}
			if diff := cmp.Diff(want, records(t, b)); diff != "" {
				t.Fatalf("%s: %s", codec, diff)
			}
			if n >= 63 {
				if h, _ := ParseHeader(b); h.Codec() != codec {
					t.Fatalf("codec is %s, want %s", h.Codec(), codec)
				}
				if _, err := Validate(b, 1000); !errors.Is(err, ErrTooLarge) {
					t.Fatalf("%s: bound was not kept: %v", codec, err)
				}
			}
			back, err := c.Compress(nil, b, None)
			if err != nil || !bytes.Equal(back, plain) {
				t.Fatalf("%s does not come back: %v", codec, err)
			}
		}
	}
}

func TestIncompressibleStaysPlain(t *testing.T) {
	noise := make([]byte, 100_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var w Builder
	w.Begin(nil, 0, 0)
	w.Add(1, AppendPayload(nil, nil, noise, nil))
	b := w.End(0, -1, -1, -1)
	var c Compressor
	got, err := c.Compress(nil, b, LZ4)
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("%d bytes became %d: %v", len(b), len(got), err)
	}
	// A frame with stored blocks is still read.
	frame, err := appendLZ4(nil, noise, &c.lz4)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := unlz4(nil, frame, len(noise)); err != nil || !bytes.Equal(back, noise) {
		t.Fatal("stored blocks do not come back", err)
	}
}

func TestMerge(t *testing.T) {
	var c Compressor
	ts := func(i int) int64 { return 1700000000000 + int64(i)*7%13 }
	var parts [][]byte
	var want []Record
	next := int64(100)
	for i, n := range []int{1, 50, 3, 200} {
		b := build(next, n, ts)
		if i%2 == 1 {
			var err error
			if b, err = c.Compress(nil, b, codecs[i]); err != nil {
				t.Fatal(err)
			}
		}
		parts = append(parts, b)
		want = append(want, records(t, b)...)
		next += int64(n)
	}
	for _, codec := range codecs {
		b, err := c.Merge(nil, parts, codec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Validate(b, 1<<20); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, records(t, b)); diff != "" {
			t.Fatal(diff)
		}
		h, _ := ParseHeader(b)
		if h.MaxTimestamp != 1700000000012 || h.BaseOffset != 100 || h.NextOffset() != next || h.ProducerID != -1 {
			t.Fatalf("header is %+v", h)
		}
	}
	// Gaps stay gaps, also one at the end.
	holed, err := c.Merge(nil, [][]byte{parts[0], parts[2]}, LZ4)
	if err != nil {
		t.Fatal(err)
	}
	got := records(t, holed)
	if len(got) != 4 || got[1].Offset != 151 {
		t.Fatalf("got %v", got)
	}
	if _, err := Validate(holed, 1<<20); !errors.Is(err, ErrMalformed) {
		t.Fatalf("gaps pass validation: %v", err)
	}
	if _, err := c.Merge(nil, [][]byte{parts[1], parts[0]}, LZ4); !errors.Is(err, ErrMalformed) {
		t.Fatalf("descending batches merge: %v", err)
	}
}

func TestMergeKeepsATransaction(t *testing.T) {
	var c Compressor
	a, b := build(0, 3, func(int) int64 { return 5 }), build(3, 4, func(int) int64 { return 6 })
	SetProducer(a, 77, 2, 10, true)
	SetProducer(b, 77, 2, 13, true)
	m, err := c.Merge(nil, [][]byte{a, b}, LZ4)
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := ParseHeader(m); !h.Transactional() || h.ProducerID != 77 || h.ProducerEpoch != 2 || h.BaseSequence != 10 {
		t.Fatalf("header is %+v", h)
	}
	SetProducer(b, 77, 2, 13, false)
	m, err = c.Merge(nil, [][]byte{b}, LZ4)
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := ParseHeader(m); h.Transactional() || h.ProducerID != -1 {
		t.Fatalf("an idempotent producer's header is %+v", h)
	}
}

func TestMergeWithLogAppendTime(t *testing.T) {
	var c Compressor
	a, b := build(0, 3, func(int) int64 { return 5 }), build(3, 4, func(int) int64 { return 6 })
	SetLogAppendTime(a, 50)
	SetLogAppendTime(b, 60)
	m, err := c.Merge(nil, [][]byte{a, b}, LZ4)
	if err != nil {
		t.Fatal(err)
	}
	r := records(t, m)
	if r[0].Timestamp != 50 || r[6].Timestamp != 60 {
		t.Fatalf("timestamps %d, %d", r[0].Timestamp, r[6].Timestamp)
	}
}

func TestMarker(t *testing.T) {
	for _, commit := range []bool{false, true} {
		b := AppendMarker(nil, 9, 1, 1234, 77, 3, commit)
		if err := Check(b); err != nil {
			t.Fatal(err)
		}
		if got, err := IsCommit(b); err != nil || got != commit {
			t.Fatalf("IsCommit = %v, %v", got, err)
		}
		if _, err := Validate(b, 1<<20); !errors.Is(err, ErrMalformed) {
			t.Fatalf("a producer may send a marker: %v", err)
		}
	}
	if _, err := IsCommit(build(0, 1, func(int) int64 { return 1 })); err == nil {
		t.Fatal("a batch of data is a marker")
	}
}

func TestSplit(t *testing.T) {
	a, b := build(0, 3, func(int) int64 { return 5 }), build(3, 4, func(int) int64 { return 6 })
	set := append(bytes.Clone(a), b...)
	first, rest, err := Split(set)
	if err != nil || !bytes.Equal(first, a) || !bytes.Equal(rest, b) {
		t.Fatal("first batch", err)
	}
	if _, _, err := Split(rest[:len(rest)-1]); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	if _, _, err := Split(nil); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
}

func TestValidateFindsEveryFlippedBit(t *testing.T) {
	plain := build(0, 5, func(int) int64 { return 5 })
	for i := atMagic; i < len(plain); i++ { // before the magic: the base offset, which the broker writes; the length
		for bit := range 8 {
			b := bytes.Clone(plain)
			b[i] ^= 1 << bit
			if _, err := Validate(b, 1<<20); err == nil {
				t.Fatalf("byte %d bit %d", i, bit)
			}
		}
	}
	for i := range plain {
		if _, err := Validate(plain[:i], 1<<20); err == nil {
			t.Fatalf("valid when cut at %d", i)
		}
	}
}

// What a producer may not send, with a CRC that holds.
func TestValidateRefuses(t *testing.T) {
	ok := func() []byte { return build(0, 5, func(int) int64 { return 5 }) }
	for name, spoil := range map[string]func(b []byte){
		"no records":        func(b []byte) { b[atNumRecords+3] = 0 },
		"count too small":   func(b []byte) { b[atNumRecords+3]--; b[atLastDelta+3]-- },
		"count too large":   func(b []byte) { b[atNumRecords+3]++; b[atLastDelta+3]++ },
		"deltas and count":  func(b []byte) { b[atLastDelta+3]++ },
		"control":           func(b []byte) { b[atAttributes+1] |= byte(AttrControl) },
		"transaction of -1": func(b []byte) { b[atAttributes+1] |= byte(AttrTransactional) },
		"codec":             func(b []byte) { b[atAttributes+1] |= 7 },
		"not gzip":          func(b []byte) { b[atAttributes+1] |= byte(Gzip) },
		"not snappy":        func(b []byte) { b[atAttributes+1] |= byte(Snappy) },
		"not lz4":           func(b []byte) { b[atAttributes+1] |= byte(LZ4) },
		"not zstd":          func(b []byte) { b[atAttributes+1] |= byte(Zstd) },
		"record length":     func(b []byte) { b[HeaderSize] -= 2 },
		"offset delta":      func(b []byte) { b[HeaderSize+4] = 2 },
	} {
		b := ok()
		spoil(b)
		seal(b)
		if _, err := Validate(b, 1<<20); err == nil {
			t.Error(name)
		}
	}
}

func TestMurmur2(t *testing.T) {
	// The values of Kafka's own UtilsTest.
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(Murmur2([]byte(key))); got != want {
			t.Errorf("Murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestReuseDoesNotAllocate(t *testing.T) {
	var w Builder
	var d Decoder
	var c Compressor
	var plain, packed []byte
	p := telemetry(1)
	run := func() {
		w.Begin(plain[:0], 0, 0)
		for range 500 {
			w.Add(1, p)
		}
		plain = w.End(0, -1, -1, -1)
		var err error
		if packed, err = c.Compress(packed[:0], plain, LZ4); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Validate(packed, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	run()
	if n := testing.AllocsPerRun(20, run); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}
