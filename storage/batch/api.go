package batch

import "errors"

// Errors of the codec.
var (
	ErrTruncated = errors.New("batch is truncated")
	ErrMagic     = errors.New("batch has a magic other than 2")
	ErrCRC       = errors.New("batch fails its CRC32C")
	ErrMalformed = errors.New("batch is malformed")
	ErrCodec     = errors.New("batch has an unknown compression codec")
	ErrTooLarge  = errors.New("batch decompresses to more than its bound")
)

// ParseHeader decodes the header of the batch at the start of b; b may hold more behind it.
func ParseHeader(b []byte) (Header, error) { panic("stub") }

// Check verifies the CRC of one whole batch.
func Check(b []byte) error { panic("stub") }

// Validate checks one whole batch from outside as a Kafka broker does: magic, CRC, counts, deltas, every record's framing,
// codec, and that it is no control batch. It decompresses at most maxRaw bytes. It returns the raw size of the records.
func Validate(b []byte, maxRaw int) (raw int, err error) { panic("stub") }

// Split cuts the first whole batch off set: batch, rest. ErrTruncated when set ends inside it.
func Split(set []byte) (first, rest []byte, err error) { panic("stub") }

// Place writes base offset and leader epoch, which the CRC does not cover.
func Place(b []byte, base int64, leaderEpoch int32) { panic("stub") }

// SetProducer rewrites producer id, epoch, sequence and the transactional bit, and the CRC.
func SetProducer(b []byte, id int64, epoch int16, baseSeq int32, transactional bool) { panic("stub") }

// SetLogAppendTime rewrites timestamp type and max timestamp, and the CRC.
func SetLogAppendTime(b []byte, ms int64) { panic("stub") }

// AppendPayload appends a payload to dst. key, value nil are null.
func AppendPayload(dst, key, value []byte, headers []KV) []byte { panic("stub") }

// Valid checks a payload's framing, with nothing behind it.
func (p Payload) Valid() error { panic("stub") }

// Key and Value alias p; nil is null. p must be valid.
func (p Payload) Key() []byte   { panic("stub") }
func (p Payload) Value() []byte { panic("stub") }

// Header returns the first header of that name; it allocates nothing.
func (p Payload) Header(name string) (value []byte, ok bool) { panic("stub") }

// Headers appends all headers to dst; values alias p.
func (p Payload) Headers(dst []KV) []KV { panic("stub") }

// Builder encodes records into one uncompressed batch behind dst. It allocates only to grow dst. The zero value is ready.
type Builder struct{}

// Begin starts a batch at the end of dst.
func (w *Builder) Begin(dst []byte, base int64, leaderEpoch int32) { panic("stub") }

// Add appends a record with the next offset; AddAt one with offset base+delta (gaps are allowed, ascending).
func (w *Builder) Add(ts int64, p Payload)                { panic("stub") }
func (w *Builder) AddAt(delta int32, ts int64, p Payload) { panic("stub") }

// Len is the number of bytes of the batch so far; Count its records.
func (w *Builder) Len() int   { panic("stub") }
func (w *Builder) Count() int { panic("stub") }

// End fills in the header (attributes beyond the codec, producer) and the CRC, and returns dst with the batch behind it.
func (w *Builder) End(attrs int16, producerID int64, epoch int16, baseSeq int32) []byte {
	panic("stub")
}

// AppendMarker appends a control batch that commits or aborts a transaction, at offset base.
func AppendMarker(dst []byte, base int64, leaderEpoch int32, ts int64, producerID int64, epoch int16, commit bool) []byte {
	panic("stub")
}

// IsCommit reports whether a control batch commits.
func IsCommit(b []byte) (bool, error) { panic("stub") }

// Decoder walks through the records of a batch; it reuses its buffers. Not for concurrent use; the zero value is ready.
type Decoder struct{}

// Reset starts with batch b and decompresses it into the decoder's buffer, at most maxRaw bytes (0: 64 MiB).
func (d *Decoder) Reset(b []byte, maxRaw int) error { panic("stub") }

// Header is the batch's.
func (d *Decoder) Header() Header { panic("stub") }

// Next returns the next record; its payload aliases b or the decoder's buffer until the next Reset.
func (d *Decoder) Next() (Record, bool) { panic("stub") }

// Err is why Next ended, nil at the end of the batch.
func (d *Decoder) Err() error { panic("stub") }

// Compressor compresses and merges batches; it reuses its buffers and writers. Not for concurrent use; the zero value is ready.
type Compressor struct{}

// Compress appends b, compressed with codec (whatever it had before), to dst.
func (c *Compressor) Compress(dst, b []byte, codec Codec) ([]byte, error) { panic("stub") }

// Merge appends one batch that holds the records of all batches, offsets kept, compressed with codec. The result has no
// producer unless all batches have the same producer id and are transactional.
func (c *Compressor) Merge(dst []byte, batches [][]byte, codec Codec) ([]byte, error) { panic("stub") }

// Murmur2 is the hash by which Kafka's clients choose a key's partition: (Murmur2(key) & 0x7fffffff) % partitions.
func Murmur2(key []byte) uint32 { panic("stub") }
