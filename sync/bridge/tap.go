package bridge

import (
	"bufio"
	"net"
)

// tap is a connection whose incoming packets are looked at before paho sees them: paho answers PUBREL by itself, and tells nobody that
// a session was resumed before the first message of it is there. What was seen is dealt with before Read returns it.
type tap struct {
	net.Conn
	r      *bufio.Reader // paho reads byte by byte
	scan   scanner
	onSeen func(packets []seen) error
}

func newTap(nc net.Conn, onSeen func([]seen) error) *tap {
	return &tap{Conn: nc, r: bufio.NewReaderSize(nc, 32<<10), onSeen: onSeen}
}

// Read implements net.Conn.
func (t *tap) Read(p []byte) (int, error) {
	if t.r.Buffered() == 0 {
		// All that one read of the socket brings is looked at together: one commit for its PUBRELs.
		if _, err := t.r.Peek(1); err != nil {
			return 0, err
		}
		b, err := t.r.Peek(t.r.Buffered())
		if err != nil {
			return 0, err
		}
		if found := t.scan.bytes(b); len(found) > 0 {
			if err := t.onSeen(found); err != nil {
				return 0, err
			}
		}
	}
	return t.r.Read(p)
}

// seen is a packet of interest.
type seen struct {
	kind    byte // packetConnack or packetPubrel
	id      uint16
	resumed bool // CONNACK: the session is present
}

// Packet types (MQTT 3.1.1, 2.2.1).
const (
	packetConnack = 2
	packetPubrel  = 6
)

// scanner follows the packets of a stream, however it is cut. It looks at two bytes of each CONNACK and PUBREL, and skips the rest.
type scanner struct {
	state scanState
	kind  byte
	left  int // bytes of the body that are to come
	shift int
	head  [2]byte // of the body
	have  int
}

type scanState uint8

const (
	scanType scanState = iota
	scanLength
	scanBody
)

func (s *scanner) bytes(b []byte) (found []seen) {
	for len(b) > 0 {
		switch s.state {
		case scanType:
			*s = scanner{state: scanLength, kind: b[0] >> 4}
			b = b[1:]
		case scanLength:
			s.left |= int(b[0]&0x7F) << s.shift
			s.shift += 7
			if b[0]&0x80 == 0 || s.shift > 21 { // a fifth byte is for paho to complain about
				s.state = scanBody
			}
			b = b[1:]
		case scanBody:
			n := min(s.left, len(b))
			if s.have < len(s.head) {
				s.have += copy(s.head[s.have:], b[:n])
			}
			s.left -= n
			b = b[n:]
		}
		if s.state == scanBody && s.left == 0 {
			s.state = scanType
			switch {
			case s.have < len(s.head):
			case s.kind == packetConnack:
				found = append(found, seen{kind: s.kind, resumed: s.head[1] == 0 && s.head[0]&1 == 1})
			case s.kind == packetPubrel:
				found = append(found, seen{kind: s.kind, id: uint16(s.head[0])<<8 | uint16(s.head[1])})
			}
		}
	}
	return found
}
