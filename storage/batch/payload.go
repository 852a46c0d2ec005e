package batch

import "encoding/binary"

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

// AppendPayload appends a payload to dst. key, value nil are null.
func AppendPayload(dst, key, value []byte, headers []KV) []byte {
	dst = appendField(dst, key)
	dst = appendField(dst, value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for i := range headers {
		dst = binary.AppendVarint(dst, int64(len(headers[i].Key)))
		dst = append(dst, headers[i].Key...)
		dst = appendField(dst, headers[i].Value)
	}
	return dst
}

func appendField(dst, field []byte) []byte {
	if field == nil {
		return append(dst, 1) // zigzag of -1
	}
	dst = binary.AppendVarint(dst, int64(len(field)))
	return append(dst, field...)
}

// cutField cuts a length and as many bytes off b; a length of -1 is nil.
func cutField(b []byte) (field, rest []byte, ok bool) {
	n, w := varint(b)
	if w <= 0 {
		return nil, nil, false
	}
	b = b[w:]
	if uint64(n) > uint64(len(b)) { // also a negative one
		return nil, b, n == -1
	}
	return b[:n:n], b[n:], true
}

// varint decodes a zigzag varint; n <= 0 when b holds none. One and two bytes are nearly all that occurs.
func varint(b []byte) (v int64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return binary.Varint(b)
}

// Valid checks a payload's framing, with nothing behind it.
func (p Payload) Valid() error {
	_, b, ok := cutField(p)
	if !ok {
		return ErrMalformed
	}
	if _, b, ok = cutField(b); !ok {
		return ErrMalformed
	}
	n, w := varint(b)
	if w <= 0 || n < 0 {
		return ErrMalformed
	}
	b = b[w:]
	for ; n > 0; n-- { // each takes at least two bytes, so that a false count ends soon
		var key []byte
		if key, b, ok = cutField(b); !ok || key == nil {
			return ErrMalformed
		}
		if _, b, ok = cutField(b); !ok {
			return ErrMalformed
		}
	}
	if len(b) != 0 {
		return ErrMalformed
	}
	return nil
}

// Key aliases p; nil is null. Of a payload that is not valid it is nil, as is Value.
func (p Payload) Key() []byte {
	key, _, _ := cutField(p)
	return key
}

// Value aliases p; nil is null.
func (p Payload) Value() []byte {
	_, b, ok := cutField(p)
	if !ok {
		return nil
	}
	value, _, _ := cutField(b)
	return value
}

// headers returns how many headers p has and the bytes that hold them.
func (p Payload) headers() (n int64, b []byte) {
	_, b, ok := cutField(p)
	if !ok {
		return 0, nil
	}
	if _, b, ok = cutField(b); !ok {
		return 0, nil
	}
	n, w := varint(b)
	if w <= 0 {
		return 0, nil
	}
	return n, b[w:]
}

// Header returns the first header of that name; it allocates nothing.
func (p Payload) Header(name string) (value []byte, ok bool) {
	n, b := p.headers()
	for ; n > 0; n-- {
		key, rest, ok := cutField(b)
		if !ok {
			return nil, false
		}
		value, b, ok = cutField(rest)
		if !ok {
			return nil, false
		}
		if string(key) == name {
			return value, true
		}
	}
	return nil, false
}

// EachHeader yields the headers in order; both slices alias p. It allocates nothing.
func (p Payload) EachHeader(yield func(key, value []byte) bool) {
	n, b := p.headers()
	for ; n > 0; n-- {
		key, rest, ok := cutField(b)
		if !ok {
			return
		}
		var value []byte
		if value, b, ok = cutField(rest); !ok || !yield(key, value) {
			return
		}
	}
}

// Headers appends all headers to dst; values alias p.
func (p Payload) Headers(dst []KV) []KV {
	n, b := p.headers()
	for ; n > 0; n-- {
		key, rest, ok := cutField(b)
		if !ok {
			return dst
		}
		var value []byte
		if value, b, ok = cutField(rest); !ok {
			return dst
		}
		dst = append(dst, KV{Key: string(key), Value: value})
	}
	return dst
}
