package packet

import "encoding/binary"

// Type is a control packet type.
type Type byte

// The packet types (MQTT 2.1.2).
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

func (t Type) String() string {
	names := [...]string{
		"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
		"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	return names[t&15]
}

// Version is the protocol level of CONNECT.
type Version byte

// The protocol versions.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "unknown"
}

// MaxSize is the largest packet that a remaining length can tell, header included.
const MaxSize = 268435455 + 5

// TypeOf is the packet type in the first byte of a packet.
func TypeOf(first byte) Type { return Type(first >> 4) }

// Split looks at the packet at the start of b. size is its length, 0 while b is too short to tell; body is what follows the
// fixed header once all of it is there, else nil (an empty body is not nil).
func Split(b []byte) (size int, body []byte, err error) {
	if len(b) >= 2 && b[1] < 0x80 { // most packets are short
		size = int(b[1]) + 2
		if len(b) >= size {
			body = b[2:size:size]
		}
		return size, body, nil
	}
	if len(b) < 2 {
		return 0, nil, nil
	}
	n, w := varint(b[1:])
	switch {
	case w == 0:
		return 0, nil, nil
	case w < 0:
		return 0, nil, malformed("remaining length of more than four bytes (MQTT-1.5.5)")
	}
	size = 1 + w + n
	if len(b) >= size {
		body = b[1+w : size : size]
	}
	return size, body, nil
}

// checkFlags refuses reserved bits of the fixed header (MQTT-2.2.2-2). PUBLISH's are its own.
func checkFlags(first byte) error {
	want := byte(0)
	switch TypeOf(first) {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		want = 2
	}
	if first&15 != want {
		return malformed("reserved bits of the fixed header are wrong (MQTT-2.2.2-2)")
	}
	return nil
}

// withoutDup takes the DUP bit off what is not PUBLISH: in MQTT 3.1, SUBSCRIBE, UNSUBSCRIBE and PUBREL have it when they are sent again.
func withoutDup(v Version, first byte) byte {
	if v == V31 {
		return first &^ 8
	}
	return first
}

// varint decodes a variable byte integer: its value and width; width 0 means that b ends inside, -1 that it is too long.
func varint(b []byte) (n, width int) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0
		}
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1
		}
	}
	return 0, -1
}

// VarintSize is the number of bytes that AppendVarint appends.
func VarintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// AppendVarint appends a variable byte integer.
func AppendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// closeLength inserts, at index at, the length of what was appended behind it.
func closeLength(dst []byte, at int) []byte {
	n := len(dst) - at
	w := VarintSize(n)
	dst = append(dst, 0, 0, 0, 0)[:len(dst)+w]
	copy(dst[at+w:], dst[at:at+n])
	AppendVarint(dst[:at], n)
	return dst
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// cut16 takes a two-byte length and that many bytes off b; ok is false when b is too short.
func cut16(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + (int(b[0])<<8 | int(b[1]))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}
