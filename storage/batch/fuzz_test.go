package batch

import (
	"bytes"
	"testing"
)

func seeds(f *testing.F) {
	var c Compressor
	plain := build(5, 20, func(i int) int64 { return 1000 - int64(i) })
	for _, codec := range codecs {
		b, err := c.Compress(nil, plain, codec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-3])
	}
	f.Add(AppendMarker(nil, 1, 1, 1, 1, 1, true))
	f.Add([]byte{})
}

// FuzzBatch feeds every reader. The CRC is mended first, so that what lies behind it is reached.
func FuzzBatch(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		first, rest, err := Split(b)
		if err == nil && len(first)+len(rest) != len(b) {
			t.Fatal("Split lost bytes")
		}
		if h.Size() != len(b) {
			return
		}
		seal(b)
		if err := Check(b); err != nil {
			t.Fatal(err)
		}
		var d Decoder
		const bound = 1 << 20
		n := int32(0)
		if d.Reset(b, bound) == nil {
			for {
				r, ok := d.Next()
				if !ok {
					break
				}
				if r.Offset < h.BaseOffset || r.Offset >= h.NextOffset() {
					t.Fatalf("offset %d is outside of the batch", r.Offset)
				}
				n++
				r.Payload.Key()
				r.Payload.Value()
				r.Payload.Header("x")
				r.Payload.Headers(nil)
			}
		}
		raw, err := d.Validate(b, bound)
		if err != nil {
			return
		}
		if n != h.NumRecords || raw > bound {
			t.Fatalf("valid, but %d records of %d, %d bytes raw", n, h.NumRecords, raw)
		}
		var c Compressor
		m, err := c.Merge(nil, [][]byte{b}, LZ4)
		if err != nil {
			if h.BaseOffset < 0 { // near the end of int64 the next offset wraps
				return
			}
			t.Fatal(err)
		}
		if _, err := Validate(m, 2*bound); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte(telemetry(1)))
	f.Add(AppendPayload(nil, nil, nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := Payload(b)
		key, value, headers := p.Key(), p.Value(), p.Headers(nil)
		for _, h := range headers {
			p.Header(h.Key)
		}
		if p.Valid() != nil {
			return
		}
		// Varints may be longer than they must, so the bytes need not be the same; the meaning is.
		q := Payload(AppendPayload(nil, key, value, headers))
		if q.Valid() != nil || !bytes.Equal(q.Key(), key) || !bytes.Equal(q.Value(), value) || len(q.Headers(nil)) != len(headers) {
			t.Fatalf("%x became %x", b, q)
		}
	})
}

func FuzzLZ4(f *testing.F) {
	var c Compressor
	frame, err := appendLZ4(nil, build(0, 50, func(int) int64 { return 1 }), &c.lz4)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	frame = bytes.Clone(frame)
	frame[4] &^= lz4FlagIndep
	f.Add(frame)
	f.Fuzz(func(t *testing.T, src []byte) {
		out, err := unlz4(nil, src, 1<<20)
		if err == nil && len(out) > 1<<20 {
			t.Fatal("bound was not kept")
		}
	})
}
