package batch

import (
	"hash/crc32"
	"math"
)

// Validate checks one whole batch from outside as a Kafka broker does: magic, CRC, counts, deltas, every record's framing,
// codec, and that it is no control batch. It decompresses at most maxRaw bytes. It returns the raw size of the records.
// Decoder.Validate does the same without allocating.
func Validate(b []byte, maxRaw int) (raw int, err error) {
	var d Decoder
	return d.Validate(b, maxRaw)
}

// Validate is the function of that name, with the decoder's buffers. When it returns no error, the decoder stands before
// the first record, so that a caller who wants the records need not decompress again.
func (d *Decoder) Validate(b []byte, maxRaw int) (raw int, err error) {
	if err := d.Reset(b, maxRaw); err != nil {
		return 0, err
	}
	h := d.h
	if crc32.Checksum(b[atAttributes:], castagnoli) != h.CRC {
		d.fail()
		return 0, ErrCRC
	}
	records := d.rest
	if err := d.validate(); err != nil {
		d.fail()
		return 0, err
	}
	d.rest, d.left = records, h.NumRecords
	return len(records), nil
}

func (d *Decoder) validate() error {
	h := d.h
	switch {
	case h.NumRecords == 0, h.LastOffsetDelta != h.NumRecords-1, h.Control():
		return ErrMalformed
	case h.Attributes&AttrLogAppendTime != 0:
		return ErrStamped
	case h.ProducerID < 0 && h.Transactional():
		return ErrMalformed
	case h.ProducerID >= 0 && (h.ProducerEpoch < 0 || h.BaseSequence < 0):
		return ErrMalformed
	}
	latest := int64(math.MinInt64)
	for offset := h.BaseOffset; ; offset++ {
		r, ok := d.Next()
		if !ok {
			d.latest = latest
			return d.err
		}
		latest = max(latest, r.Timestamp)
		if r.Offset != offset {
			return ErrMalformed
		}
		if err := r.Payload.Valid(); err != nil {
			return err
		}
	}
}

// MaxTimestamp is the largest timestamp of the records that Validate saw. A producer's header need not tell the truth; a broker
// looks records up by it, so it writes what is true (SetMaxTimestamp).
func (d *Decoder) MaxTimestamp() int64 { return d.latest }
