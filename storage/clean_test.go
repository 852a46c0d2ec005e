package storage

import (
	"hash/crc32"
	"slices"
	"testing"

	"rivulet/storage/batch"
)

// FuzzClean thins out whatever passes for a batch: what is left are the records that were to stay, unchanged, in a batch of the same
// offsets and producer that every reader takes.
func FuzzClean(f *testing.F) {
	var w batch.Builder
	w.Begin(nil, 40, 0)
	for _, kv := range []string{"a=1", "b", "=bare", "a=2", "c=3"} {
		w.Add(1000, pair(0, kv).Payload)
	}
	plain := w.End(0, 7, 1, 5)
	f.Add(plain, uint32(0))
	f.Add(plain, uint32(0xffffffff))
	var comp batch.Compressor
	for codec := batch.Gzip; codec <= batch.Zstd; codec++ {
		if b, err := comp.Compress(nil, plain, codec); err == nil {
			f.Add(b, uint32(0b10110))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, mask uint32) {
		h, err := batch.ParseHeader(b)
		if err != nil || h.Size() != len(b) || len(b) > 1<<16 {
			return
		}
		b = slices.Clone(b)
		keep := func(r batch.Record) bool { return mask>>(crc32.ChecksumIEEE(r.Payload.Key())%32)&1 == 1 }
		want, ok := recordsOf(b, keep)
		if !ok {
			return
		}
		var c cleaner
		res, err := c.clean(b, keep)
		if err != nil {
			t.Fatal(err)
		}
		if res.kept != len(want) || (res.batch == nil) != (res.kept == 0 && res.removed > 0) {
			t.Fatalf("%d records are kept, want %d", res.kept, len(want))
		}
		if res.batch == nil || res.removed == 0 {
			return
		}
		if err := batch.Check(res.batch); err != nil {
			t.Fatal(err)
		}
		got, ok := recordsOf(res.batch, func(batch.Record) bool { return true })
		if !ok || !slices.EqualFunc(got, want, func(a, b batch.Record) bool {
			return a.Offset == b.Offset && a.Timestamp == b.Timestamp && string(a.Payload) == string(b.Payload)
		}) {
			t.Fatalf("%d records became others", len(want))
		}
		if o, _ := batch.ParseHeader(res.batch); o.BaseOffset != h.BaseOffset || o.NextOffset() != h.NextOffset() || o.ProducerID != h.ProducerID ||
			o.Attributes&^batch.AttrCodec != h.Attributes&^batch.AttrCodec || int(o.NumRecords) != res.kept {
			t.Fatalf("header %+v became %+v", h, o)
		}
	})
}

// recordsOf lists the records that are to be kept; false when b cannot be read to its end, or its offsets do not ascend.
func recordsOf(b []byte, keep func(batch.Record) bool) (out []batch.Record, ok bool) {
	var d batch.Decoder
	if d.Reset(b, 1<<20) != nil {
		return nil, false
	}
	last := int64(-1 << 62)
	for {
		r, more := d.Next()
		if !more {
			return out, d.Err() == nil
		}
		if r.Offset <= last || r.Payload.Valid() != nil {
			return nil, false
		}
		if last = r.Offset; keep(r) {
			r.Payload = slices.Clone(r.Payload)
			out = append(out, r)
		}
	}
}
