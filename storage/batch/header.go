package batch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderSize is the number of bytes before the records of a batch.
const HeaderSize = 61

// Attribute bits of a batch.
const (
	AttrCodec         int16 = 0x07
	AttrLogAppendTime int16 = 0x08
	AttrTransactional int16 = 0x10
	AttrControl       int16 = 0x20
)

// Header is the decoded fixed part of a batch.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after this field: Size() is Length+12
	LeaderEpoch     int32
	CRC             uint32 // CRC32C of everything behind it
	Attributes      int16
	LastOffsetDelta int32
	FirstTimestamp  int64 // milliseconds
	MaxTimestamp    int64 // milliseconds
	ProducerID      int64 // -1: none
	ProducerEpoch   int16
	BaseSequence    int32
	NumRecords      int32
}

// Size is the whole batch's length in bytes.
func (h Header) Size() int { return int(h.Length) + 12 }

// NextOffset is the offset behind the batch's last record.
func (h Header) NextOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) + 1 }

// Codec returns the batch's compression.
func (h Header) Codec() Codec { return Codec(h.Attributes & AttrCodec) }

// Transactional reports whether the batch belongs to a transaction.
func (h Header) Transactional() bool { return h.Attributes&AttrTransactional != 0 }

// Control reports whether the batch holds a transaction marker.
func (h Header) Control() bool { return h.Attributes&AttrControl != 0 }

// Where the fields of a header lie. The CRC covers everything from the attributes on.
const (
	atLength      = 8
	atEpoch       = 12
	atMagic       = 16
	atCRC         = 17
	atAttributes  = 21
	atLastDelta   = 23
	atFirstTime   = 27
	atMaxTime     = 35
	atProducer    = 43
	atProdEpoch   = 51
	atBaseSeq     = 53
	atNumRecords  = 57
	lengthStart   = 12 // Length counts the bytes from here
	minLength     = HeaderSize - lengthStart
	magic         = 2
	maxBatchBytes = math.MaxInt32 - lengthStart // so that Size() fits an int on 32-bit machines
)

// castagnoli is a constant table; crc32 recognises it and uses the CPU's instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ParseHeader decodes the header of the batch at the start of b; b may hold more behind it, or less than the whole batch.
func ParseHeader(b []byte) (Header, error) {
	// Message sets of magic 0 and 1 may be shorter than a header of ours; they keep the magic at the same place.
	if len(b) > atMagic && b[atMagic] != magic {
		return Header{}, ErrMagic
	}
	if len(b) < HeaderSize {
		return Header{}, ErrTruncated
	}
	be := binary.BigEndian
	h := Header{
		BaseOffset:      int64(be.Uint64(b)),
		Length:          int32(be.Uint32(b[atLength:])),
		LeaderEpoch:     int32(be.Uint32(b[atEpoch:])),
		CRC:             be.Uint32(b[atCRC:]),
		Attributes:      int16(be.Uint16(b[atAttributes:])),
		LastOffsetDelta: int32(be.Uint32(b[atLastDelta:])),
		FirstTimestamp:  int64(be.Uint64(b[atFirstTime:])),
		MaxTimestamp:    int64(be.Uint64(b[atMaxTime:])),
		ProducerID:      int64(be.Uint64(b[atProducer:])),
		ProducerEpoch:   int16(be.Uint16(b[atProdEpoch:])),
		BaseSequence:    int32(be.Uint32(b[atBaseSeq:])),
		NumRecords:      int32(be.Uint32(b[atNumRecords:])),
	}
	if h.Length < minLength || h.Length > maxBatchBytes || h.NumRecords < 0 || h.LastOffsetDelta < 0 {
		return Header{}, ErrMalformed
	}
	return h, nil
}

// whole parses the header of b, which must be exactly one batch.
func whole(b []byte) (Header, error) {
	h, err := ParseHeader(b)
	switch {
	case err != nil:
		return h, err
	case h.Size() > len(b):
		return h, ErrTruncated
	case h.Size() < len(b):
		return h, ErrMalformed
	}
	return h, nil
}

// put writes h, but for the CRC, to the start of b.
func (h Header) put(b []byte) {
	be := binary.BigEndian
	_ = b[HeaderSize-1]
	be.PutUint64(b, uint64(h.BaseOffset))
	be.PutUint32(b[atLength:], uint32(h.Length))
	be.PutUint32(b[atEpoch:], uint32(h.LeaderEpoch))
	b[atMagic] = magic
	be.PutUint16(b[atAttributes:], uint16(h.Attributes))
	be.PutUint32(b[atLastDelta:], uint32(h.LastOffsetDelta))
	be.PutUint64(b[atFirstTime:], uint64(h.FirstTimestamp))
	be.PutUint64(b[atMaxTime:], uint64(h.MaxTimestamp))
	be.PutUint64(b[atProducer:], uint64(h.ProducerID))
	be.PutUint16(b[atProdEpoch:], uint16(h.ProducerEpoch))
	be.PutUint32(b[atBaseSeq:], uint32(h.BaseSequence))
	be.PutUint32(b[atNumRecords:], uint32(h.NumRecords))
}

// seal computes the CRC of the whole batch b and writes it.
func seal(b []byte) {
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// Check verifies the CRC of one whole batch.
func Check(b []byte) error {
	h, err := whole(b)
	if err != nil {
		return err
	}
	if crc32.Checksum(b[atAttributes:], castagnoli) != h.CRC {
		return ErrCRC
	}
	return nil
}

// Split cuts the first whole batch off set: batch, rest. ErrTruncated when set ends inside it.
func Split(set []byte) (first, rest []byte, err error) {
	h, err := ParseHeader(set)
	if err != nil {
		return nil, set, err
	}
	if h.Size() > len(set) {
		return nil, set, ErrTruncated
	}
	n := h.Size()
	return set[:n:n], set[n:], nil
}

// Place writes base offset and leader epoch, which the CRC does not cover. b must be a whole batch.
func Place(b []byte, base int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[atEpoch:], uint32(leaderEpoch))
}

// SetProducer rewrites producer id, epoch, sequence and the transactional bit, and the CRC. b must be a whole batch.
func SetProducer(b []byte, id int64, epoch int16, baseSeq int32, transactional bool) {
	be := binary.BigEndian
	attrs := int16(be.Uint16(b[atAttributes:])) &^ AttrTransactional
	if transactional {
		attrs |= AttrTransactional
	}
	be.PutUint16(b[atAttributes:], uint16(attrs))
	be.PutUint64(b[atProducer:], uint64(id))
	be.PutUint16(b[atProdEpoch:], uint16(epoch))
	be.PutUint32(b[atBaseSeq:], uint32(baseSeq))
	seal(b)
}

// SetLogAppendTime rewrites timestamp type and max timestamp, and the CRC: every record then has that timestamp.
// b must be a whole batch.
func SetLogAppendTime(b []byte, ms int64) {
	be := binary.BigEndian
	be.PutUint16(b[atAttributes:], be.Uint16(b[atAttributes:])|uint16(AttrLogAppendTime))
	be.PutUint64(b[atMaxTime:], uint64(ms))
	seal(b)
}

// SetMaxTimestamp rewrites the max timestamp, and the CRC. b must be a whole batch.
func SetMaxTimestamp(b []byte, ms int64) {
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(ms))
	seal(b)
}
