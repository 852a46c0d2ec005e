package batch

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Builder encodes records into one uncompressed batch behind dst. It allocates only to grow dst. The zero value is ready.
type Builder struct {
	dst   []byte
	start int // of the batch in dst
	base  int64
	epoch int32
	last  int32 // delta of the last record, -1 before the first
	count int32
	first int64 // timestamps
	max   int64
}

// Begin starts a batch at the end of dst.
func (w *Builder) Begin(dst []byte, base int64, leaderEpoch int32) {
	start := len(dst)
	dst = slices.Grow(dst, HeaderSize)[:start+HeaderSize]
	*w = Builder{dst: dst, start: start, base: base, epoch: leaderEpoch, last: -1}
}

// Add appends a record with the next offset.
func (w *Builder) Add(ts int64, p Payload) { w.AddAt(w.last+1, ts, p) }

// AddAt appends a record with offset base+delta (gaps are allowed, ascending).
func (w *Builder) AddAt(delta int32, ts int64, p Payload) {
	if w.count == 0 {
		w.first, w.max = ts, ts
	} else if ts > w.max {
		w.max = ts
	}
	w.count++
	w.last = delta
	later := zigzag(ts - w.first)
	at := zigzag(int64(delta))
	body := 1 + uvarintLen(later) + uvarintLen(at) + len(p)
	dst := w.dst
	if cap(dst)-len(dst) < body+maxVarint32 {
		dst = slices.Grow(dst, body+maxVarint32)
	}
	dst = appendUvarint(dst, uint64(body)<<1) // zigzag of a positive number
	dst = append(dst, 0)                      // attributes
	dst = appendUvarint(dst, later)
	dst = appendUvarint(dst, at)
	dst = append(dst, p...)
	w.dst = dst
}

// Len is the number of bytes of the batch so far.
func (w *Builder) Len() int { return len(w.dst) - w.start }

// Count is the number of its records.
func (w *Builder) Count() int { return int(w.count) }

// End fills in the header (attributes beyond the codec, producer) and the CRC, and returns dst with the batch behind it.
// A batch without records is left out.
func (w *Builder) End(attrs int16, producerID int64, epoch int16, baseSeq int32) []byte {
	return w.EndAt(attrs, producerID, epoch, baseSeq, w.last)
}

// EndAt is End with a last offset, base+lastDelta, that may lie behind the last record's, as compaction leaves it.
func (w *Builder) EndAt(attrs int16, producerID int64, epoch int16, baseSeq, lastDelta int32) []byte {
	dst := w.dst
	w.dst = nil
	if w.count == 0 {
		return dst[:w.start]
	}
	b := dst[w.start:]
	Header{
		BaseOffset:      w.base,
		Length:          int32(len(b) - lengthStart),
		LeaderEpoch:     w.epoch,
		Attributes:      attrs &^ AttrCodec,
		LastOffsetDelta: lastDelta,
		FirstTimestamp:  w.first,
		MaxTimestamp:    w.max,
		ProducerID:      producerID,
		ProducerEpoch:   epoch,
		BaseSequence:    baseSeq,
		NumRecords:      w.count,
	}.put(b)
	seal(b)
	return dst
}

const maxVarint32 = binary.MaxVarintLen32

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// uvarintLen is the number of bytes that appendUvarint writes: seven bits a byte, at least one.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// appendUvarint is binary.AppendUvarint with its short case inlined.
func appendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}
