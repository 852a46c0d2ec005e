package batch

// DefaultMaxRaw bounds decompression where the caller does not.
const DefaultMaxRaw = 64 << 20

// Decoder walks through the records of a batch; it reuses its buffers. Not for concurrent use; the zero value is ready.
type Decoder struct {
	h      Header
	rest   []byte // records not yet read
	left   int32
	err    error
	latest int64 // of what was validated
	raw    inflater
}

// Reset starts with batch b and decompresses it into the decoder's buffer, at most maxRaw bytes (0: 64 MiB).
// It does not verify the CRC.
func (d *Decoder) Reset(b []byte, maxRaw int) error {
	d.rest, d.left, d.err = nil, 0, nil
	d.h, d.err = whole(b)
	if d.err != nil {
		return d.err
	}
	if maxRaw <= 0 {
		maxRaw = DefaultMaxRaw
	}
	d.rest, d.err = d.raw.inflate(d.h.Codec(), b[HeaderSize:], maxRaw)
	if d.err != nil {
		d.rest = nil
		return d.err
	}
	d.left = d.h.NumRecords
	return nil
}

// Raw is what is still to be read, uncompressed; it aliases b or the decoder's buffer until the next Reset.
func (d *Decoder) Raw() []byte { return d.rest }

// Records starts with n records of a batch with header h that were uncompressed before: Raw, or what follows a record of it.
func (d *Decoder) Records(h Header, raw []byte, n int32) {
	d.h, d.rest, d.left, d.err = h, raw, n, nil
}

// Header is the batch's.
func (d *Decoder) Header() Header { return d.h }

// RawSize is how many bytes of records are still to be read; behind Reset, the uncompressed size of all.
func (d *Decoder) RawSize() int { return len(d.rest) }

// Next returns the next record; its payload aliases b or the decoder's buffer until the next Reset. The payload's framing
// is not checked: Valid does that for batches that did not pass Validate.
func (d *Decoder) Next() (Record, bool) {
	if d.left <= 0 {
		if len(d.rest) > 0 && d.err == nil {
			d.err = ErrMalformed
		}
		return Record{}, false
	}
	size, n := varint(d.rest)
	if n <= 0 || uint64(size) > uint64(len(d.rest)-n) || size == 0 {
		return d.fail()
	}
	end := n + int(size)
	b := d.rest[n:end:end]
	later, n := varint(b[1:])
	if n <= 0 {
		return d.fail()
	}
	p := b[1+n:]
	delta, n := varint(p)
	if n <= 0 || uint64(delta) > uint64(d.h.LastOffsetDelta) {
		return d.fail()
	}
	d.rest = d.rest[end:]
	d.left--
	ts := d.h.MaxTimestamp
	if d.h.Attributes&AttrLogAppendTime == 0 {
		ts = d.h.FirstTimestamp + later
	}
	return Record{Offset: d.h.BaseOffset + delta, Timestamp: ts, Payload: Payload(p[n:])}, true
}

func (d *Decoder) fail() (Record, bool) {
	d.err, d.left, d.rest = ErrMalformed, 0, nil
	return Record{}, false
}

// Err is why Next ended, nil at the end of the batch.
func (d *Decoder) Err() error { return d.err }
