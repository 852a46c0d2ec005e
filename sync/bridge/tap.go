package bridge

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// tap is a connection whose incoming packets are looked at before paho sees them: paho answers PUBREL by itself, and tells nobody that
// a session was resumed before the first message of it is there. What was seen is dealt with before Read returns it. Of a PUBLISH that is
// larger than maxPacket only the topic and the packet id are given to paho, which would allocate what the packet says.
type tap struct {
	net.Conn
	r        *bufio.Reader // paho reads byte by byte
	patience time.Duration
	up       atomic.Bool // paho's handshake, which has a deadline of its own, is over
	most     int         // maxPacket
	tooLarge func(n uint64)

	out       []byte // of the next header, where it was changed
	pass      int    // bytes of the present packet that are for paho
	skip      int    // and that are behind them, for nobody
	publishes uint64
}

// maxPacket is what a journal frame holds, as a rule.
const maxPacket = 16 << 20

// newTap puts a tap on a connection. A write that takes longer than patience ends the connection, for which paho would wait for ever; so
// does a read that takes longer than twice that. Whoever is pinged in between answers, and while nothing is read, since the store takes
// nothing, nobody is suspected: paho would take a PINGRESP that it has not read for one that was not sent. tooLarge is called before a
// PUBLISH that is cut short is read; n counts those of the connection from 1.
func newTap(nc net.Conn, patience time.Duration, onSeen func([]seen) error, tooLarge func(n uint64)) *tap {
	t := &tap{Conn: nc, patience: patience, most: maxPacket, tooLarge: tooLarge}
	t.r = bufio.NewReaderSize(&source{t: t, onSeen: onSeen}, 32<<10)
	return t
}

// SetDeadline implements net.Conn. Paho sets one for its handshake, and takes it back when that is over.
func (t *tap) SetDeadline(at time.Time) error {
	t.up.Store(at.IsZero())
	return t.Conn.SetDeadline(at)
}

// ping asks the other side to answer, and tells it that this one lives.
func (t *tap) ping() error {
	_, err := t.Write([]byte{packetPingreq << 4, 0})
	return err
}

// Write implements net.Conn.
func (t *tap) Write(p []byte) (int, error) {
	if t.up.Load() {
		if err := t.SetWriteDeadline(time.Now().Add(t.patience)); err != nil {
			return 0, err
		}
	}
	return t.Conn.Write(p)
}

// Read implements net.Conn.
func (t *tap) Read(p []byte) (int, error) {
	if len(t.out) == 0 && t.pass == 0 {
		if err := t.header(); err != nil {
			return 0, err
		}
	}
	if n := copy(p, t.out); n > 0 {
		t.out = t.out[n:]
		return n, nil
	}
	n, err := t.r.Read(p[:min(len(p), t.pass)])
	t.pass -= n
	return n, err
}

// header looks at the beginning of a packet.
func (t *tap) header() error {
	if _, err := t.r.Discard(t.skip); err != nil {
		return err
	}
	t.skip = 0
	length, shift, n := 0, 0, 1
	for {
		b, err := t.r.Peek(n + 1)
		if err != nil {
			return err
		}
		length |= int(b[n]&0x7F) << shift
		n, shift = n+1, shift+7
		if b[n-1]&0x80 == 0 || shift > 21 { // a fifth byte is for paho to complain about
			break
		}
	}
	b, err := t.r.Peek(1)
	if err != nil {
		return err
	}
	kind := b[0]
	t.pass = n + length
	if kind>>4 != packetPublish {
		return nil
	}
	t.publishes++
	if length <= t.most {
		return nil
	}
	if b, err = t.r.Peek(n + 2); err != nil {
		return err
	}
	keep := 2 + int(binary.BigEndian.Uint16(b[n:]))
	if kind&0x06 != 0 { // QoS above 0: there is a packet id
		keep += 2
	}
	if keep > length { // malformed, and for paho to complain about
		return nil
	}
	t.tooLarge(t.publishes)
	t.out = append(t.out[:0], kind)
	for rest := keep; ; {
		digit := byte(rest & 0x7F)
		if rest >>= 7; rest > 0 {
			digit |= 0x80
		}
		t.out = append(t.out, digit)
		if rest == 0 {
			break
		}
	}
	t.pass, t.skip = keep, length-keep
	_, err = t.r.Discard(n)
	return err
}

// source is the socket. All that one read of it brings is looked at together: one commit for its PUBRELs.
type source struct {
	t      *tap
	scan   scanner
	onSeen func(packets []seen) error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if s.t.up.Load() {
		if err := s.t.SetReadDeadline(time.Now().Add(2 * s.t.patience)); err != nil {
			return 0, err
		}
	}
	n, err := s.t.Conn.Read(p)
	if found := s.scan.bytes(p[:n]); len(found) > 0 {
		if err := s.onSeen(found); err != nil {
			return 0, err
		}
	}
	return n, err
}

// seen is a packet of interest.
type seen struct {
	kind    byte // packetConnack, packetPubrel or packetSuback
	id      uint16
	resumed bool // CONNACK: the session is present
	refused bool // CONNACK
	codes   int  // SUBACK: how many filters it answers for
}

// Packet types (MQTT 3.1.1, 2.2.1).
const (
	packetConnack = 2
	packetPublish = 3
	packetPubrel  = 6
	packetSuback  = 9
	packetPingreq = 12
)

// scanner follows the packets of a stream, however it is cut. It looks at two bytes of each packet of interest, and skips the rest.
type scanner struct {
	state scanState
	kind  byte
	size  int // of the body
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
				s.state, s.size = scanBody, s.left
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
				found = append(found, seen{kind: s.kind, resumed: s.head[1] == 0 && s.head[0]&1 == 1, refused: s.head[1] != 0})
			case s.kind == packetPubrel:
				found = append(found, seen{kind: s.kind, id: uint16(s.head[0])<<8 | uint16(s.head[1])})
			case s.kind == packetSuback:
				found = append(found, seen{kind: s.kind, id: uint16(s.head[0])<<8 | uint16(s.head[1]), codes: s.size - len(s.head)})
			}
		}
	}
	return found
}
