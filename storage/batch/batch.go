// Package batch reads and writes Kafka record batches, version 2 (KIP-98): the one form in which records are kept in
// memory, on disk and on the wire. It is a pure codec: no I/O, no clock, no goroutines.
//
// A Batch is a byte slice that holds exactly one whole RecordBatch. A Payload is the tail of a record: key, value and
// headers, without the record's own length, attributes, timestamp and offset deltas. Payloads are what front ends
// build, what plugins see (PLUGIN-ABI: "record payload") and what the committer copies into batches.
package batch

// HeaderSize is the number of bytes before the records of a batch.
const HeaderSize = 61

// Codec is the compression in the low three bits of a batch's attributes.
type Codec int8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

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

// Record is one record on its way in or out. Offset is 0 on the way in.
type Record struct {
	Offset    int64
	Timestamp int64 // milliseconds since 1970
	Payload   Payload
}

// KV is one record header.
type KV struct {
	Key   string
	Value []byte // nil is null
}

// Payload is varint key length (-1 null), key, varint value length, value, varint header count, headers.
type Payload []byte
