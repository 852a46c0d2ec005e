package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// ValidText reports whether b is a UTF-8 string as MQTT 1.5.4 wants it: well-formed, no surrogates, no U+0000.
func ValidText(b []byte) bool {
	return bytes.IndexByte(b, 0) < 0 && utf8.Valid(b)
}

const (
	every = 0x0101010101010101
	high  = 0x8080808080808080
)

// ValidTopic reports whether b can be the topic of a message: text of at least one byte, without wildcards (MQTT-3.3.2-2,
// MQTT-4.7.3-1). It looks at eight bytes at a time while they are ASCII, as nearly all topics are.
func ValidTopic(b []byte) bool {
	if len(b) == 0 || len(b) > 65535 {
		return false
	}
	rest := b
	for len(rest) >= 8 {
		x := binary.LittleEndian.Uint64(rest)
		if x&high != 0 {
			return validTopicSlow(rest)
		}
		// A byte that is 0 borrows its high bit; nothing else does, as no byte has it set.
		plus, hash := x^('+'*every), x^('#'*every)
		if ((x-every)|(plus-every)|(hash-every))&high != 0 {
			return false
		}
		rest = rest[8:]
	}
	for _, c := range rest {
		if c >= 0x80 {
			return validTopicSlow(rest)
		}
		if c == 0 || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

func validTopicSlow(b []byte) bool {
	return ValidText(b) && bytes.IndexByte(b, '+') < 0 && bytes.IndexByte(b, '#') < 0
}

// ValidFilter reports whether b is a well-formed topic filter (MQTT-4.7.1-1, 4.7.1-2, 4.7.3-1). A shared subscription's
// prefix must have been cut off.
func ValidFilter(b []byte) bool {
	if len(b) == 0 || len(b) > 65535 || !ValidText(b) {
		return false
	}
	for len(b) > 0 {
		level, rest, more := bytes.Cut(b, []byte{'/'})
		if bytes.IndexByte(level, '#') >= 0 && (len(level) > 1 || more) {
			return false
		}
		if bytes.IndexByte(level, '+') >= 0 && len(level) > 1 {
			return false
		}
		b = rest
	}
	return true
}

// CutShared splits $share/NAME/FILTER. shared is false for any other filter; ok is false when the name is missing or holds a
// wildcard (MQTT-4.8.2-1, 4.8.2-2).
func CutShared(filter []byte) (name, rest []byte, shared, ok bool) {
	tail, found := bytes.CutPrefix(filter, []byte("$share/"))
	if !found {
		return nil, filter, false, true
	}
	name, rest, found = bytes.Cut(tail, []byte{'/'})
	return name, rest, true, found && len(name) > 0 && len(rest) > 0 && !bytes.ContainsAny(name, "+#")
}
