package batch

import "testing"

const perBatch = 1000

func BenchmarkBuilderAdd(b *testing.B) {
	var w Builder
	var dst []byte
	p := telemetry(1)
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	w.Begin(dst, 0, 0)
	for b.Loop() {
		w.Add(1700000000000, p)
		if w.Count() == perBatch {
			dst = w.End(0, -1, -1, -1)
			w.Begin(dst[:0], 0, 0)
		}
	}
}

func BenchmarkDecoderNext(b *testing.B) {
	batch := build(0, perBatch, func(i int) int64 { return 1700000000000 + int64(i) })
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := d.Next(); !ok {
			if err := d.Reset(batch, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	batch := build(0, perBatch, func(i int) int64 { return 1700000000000 + int64(i) })
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := Check(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	var c Compressor
	plain := build(0, perBatch, func(i int) int64 { return 1700000000000 + int64(i) })
	for _, codec := range codecs {
		batch, err := c.Compress(nil, plain, codec)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(codec.String(), func(b *testing.B) {
			var d Decoder
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := d.Validate(batch, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompress(b *testing.B) {
	plain := build(0, 2000, func(i int) int64 { return 1700000000000 + int64(i) })
	for _, codec := range codecs[1:] {
		b.Run(codec.String(), func(b *testing.B) {
			var c Compressor
			var dst []byte
			var err error
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if dst, err = c.Compress(dst[:0], plain, codec); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(plain))/float64(len(dst)), "ratio")
		})
	}
}

// BenchmarkMerge makes one batch of 256 KiB from single messages, as the seal does.
func BenchmarkMerge(b *testing.B) {
	var parts [][]byte
	raw := 0
	for i := 0; raw < 256<<10; i++ {
		p := build(int64(i), 1, func(int) int64 { return 1700000000000 + int64(i) })
		parts, raw = append(parts, p), raw+len(p)
	}
	var c Compressor
	var dst []byte
	var err error
	b.ReportAllocs()
	b.SetBytes(int64(raw))
	for b.Loop() {
		if dst, err = c.Merge(dst[:0], parts, LZ4); err != nil {
			b.Fatal(err)
		}
	}
}
