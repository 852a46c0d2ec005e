package batch

import "encoding/binary"

// The key of a control record is {version int16, type int16}; the value of a transaction marker {version int16,
// coordinator epoch int32}.
const (
	markerAbort  = 0
	markerCommit = 1
)

// AppendMarker appends a control batch that commits or aborts a transaction, at offset base.
func AppendMarker(dst []byte, base int64, leaderEpoch int32, ts int64, producerID int64, epoch int16, commit bool) []byte {
	var key [4]byte
	var value [6]byte
	if commit {
		key[3] = markerCommit
	}
	var record [16]byte
	p := AppendPayload(record[:0], key[:], value[:], nil)
	var w Builder
	w.Begin(dst, base, leaderEpoch)
	w.Add(ts, p)
	return w.End(AttrControl|AttrTransactional, producerID, epoch, -1)
}

// IsCommit reports whether a control batch commits.
func IsCommit(b []byte) (bool, error) {
	var d Decoder
	if err := d.Reset(b, 0); err != nil {
		return false, err
	}
	if !d.Header().Control() {
		return false, ErrMalformed
	}
	r, ok := d.Next()
	if !ok {
		return false, ErrMalformed
	}
	key := r.Payload.Key()
	if len(key) < 4 {
		return false, ErrMalformed
	}
	return binary.BigEndian.Uint16(key[2:]) == markerCommit, nil
}
