package batch

import (
	"bytes"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// zstdWindow is how far back our zstd refers: merged batches are hardly larger, and the encoder's memory grows with it (2.8 MiB,
// against 10 with the library's 8 MiB).
const zstdWindow = 1 << 20

// Compressor compresses and merges batches; it reuses its buffers and writers, 3 MiB at most
// besides what a batch takes. Not for concurrent use; the zero value is ready.
type Compressor struct {
	dec    Decoder
	merged Builder
	raw    []byte
	out    bytes.Buffer
	lz4    lz4.Compressor
	gzip   *gzip.Writer
	zstd   *zstd.Encoder
}

// Compress appends b, compressed with codec (whatever it had before), to dst. Records that the codec does not make
// smaller stay uncompressed.
func (c *Compressor) Compress(dst, b []byte, codec Codec) ([]byte, error) {
	h, err := whole(b)
	if err != nil {
		return dst, err
	}
	if h.Codec() == codec {
		return append(dst, b...), nil
	}
	if err := c.dec.Reset(b, 0); err != nil {
		return dst, err
	}
	return c.compress(dst, h, c.dec.rest, codec)
}

// AppendPlain appends a batch of header h and records that were uncompressed before (Decoder.Raw) to dst.
func AppendPlain(dst []byte, h Header, raw []byte) []byte {
	start := len(dst)
	dst = append(grow(dst, HeaderSize+len(raw))[:start+HeaderSize], raw...)
	h.Length = int32(len(dst) - start - lengthStart)
	h.Attributes &^= AttrCodec
	h.put(dst[start:])
	seal(dst[start:])
	return dst
}

// compress appends a batch of header h and raw records to dst.
func (c *Compressor) compress(dst []byte, h Header, records []byte, codec Codec) ([]byte, error) {
	start := len(dst)
	dst = grow(dst, HeaderSize)[:start+HeaderSize]
	dst, err := c.deflate(dst, records, codec)
	if err != nil {
		return dst[:start], err
	}
	if len(dst)-start-HeaderSize >= len(records) {
		dst, codec = append(dst[:start+HeaderSize], records...), None
	}
	b := dst[start:]
	h.Length = int32(len(b) - lengthStart)
	h.Attributes = h.Attributes&^AttrCodec | int16(codec)
	h.put(b)
	seal(b)
	return dst, nil
}

// deflate appends src, compressed, to dst.
func (c *Compressor) deflate(dst, src []byte, codec Codec) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case LZ4:
		return appendLZ4(dst, src, &c.lz4)
	case Snappy:
		at := len(dst)
		n := snappy.MaxEncodedLen(len(src))
		if n < 0 {
			return dst, ErrTooLarge
		}
		dst = grow(dst, n)
		return dst[:at+len(snappy.Encode(dst[at:at+n], src))], nil
	case Gzip:
		c.out.Reset()
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(&c.out)
		} else {
			c.gzip.Reset(&c.out)
		}
		if _, err := c.gzip.Write(src); err != nil {
			return dst, err
		}
		if err := c.gzip.Close(); err != nil {
			return dst, err
		}
		return append(dst, c.out.Bytes()...), nil
	case Zstd:
		if c.zstd == nil {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdWindow))
			if err != nil {
				return dst, err
			}
			c.zstd = w
		}
		return c.zstd.EncodeAll(src, dst), nil
	default:
		return dst, ErrCodec
	}
}

// Merge appends one batch that holds the records of all batches, offsets and timestamps kept, compressed with codec (unless
// that does not make it smaller). The batches must ascend and hold no control batch. The result has no producer unless all
// batches have the same producer id and epoch and are transactional.
func (c *Compressor) Merge(dst []byte, batches [][]byte, codec Codec) ([]byte, error) {
	if len(batches) == 0 {
		return dst, ErrMalformed
	}
	var first Header
	next := int64(math.MinInt64)
	one := true            // all of one producer's transaction
	stamp, same := 0, true // whether all carry the same append time
	for i, b := range batches {
		if err := c.dec.Reset(b, 0); err != nil {
			return dst, err
		}
		h := c.dec.Header()
		if i == 0 {
			first = h
			c.merged.Begin(c.raw[:0], h.BaseOffset, h.LeaderEpoch)
		}
		if h.Control() || h.BaseOffset < next || h.NextOffset()-first.BaseOffset > math.MaxInt32 {
			c.raw = c.merged.dst
			return dst, ErrMalformed
		}
		next = h.NextOffset()
		one = one && h.Transactional() && h.ProducerID == first.ProducerID && h.ProducerEpoch == first.ProducerEpoch
		if h.Attributes&AttrLogAppendTime != 0 {
			stamp++
			same = same && h.MaxTimestamp == first.MaxTimestamp
		}
		for {
			r, ok := c.dec.Next()
			if !ok {
				break
			}
			c.merged.AddAt(int32(r.Offset-first.BaseOffset), r.Timestamp, r.Payload)
		}
		if err := c.dec.Err(); err != nil {
			c.raw = c.merged.dst
			return dst, err
		}
	}
	id, epoch, seq, attrs := int64(-1), int16(-1), int32(-1), int16(0)
	if one {
		id, epoch, seq, attrs = first.ProducerID, first.ProducerEpoch, first.BaseSequence, AttrTransactional
	}
	if stamp == len(batches) && same {
		attrs |= AttrLogAppendTime
	}
	raw := c.merged.EndAt(attrs, id, epoch, seq, int32(next-1-first.BaseOffset))
	c.raw = raw
	if len(raw) == 0 {
		return dst, ErrMalformed
	}
	h, err := whole(raw)
	if err != nil {
		return dst, err
	}
	return c.compress(dst, h, raw[HeaderSize:], codec)
}
