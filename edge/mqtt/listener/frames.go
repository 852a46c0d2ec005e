package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Opcodes of frames (RFC 6455, 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Status codes of a Close frame (RFC 6455, 7.4.1).
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeUnsupported = 1003
)

const (
	maxHeader  = 14
	maxControl = 125
	maxCopied  = 4 << 10 // larger writes are not copied behind their header
)

// webSocket is the server's side of an upgraded connection, as a stream: the payloads of the client's binary frames one after
// the other (MQTT-6.0.0-2: packets need not keep to frames).
type webSocket struct {
	net.Conn
	unpack unpacker // the reader's
	early  []byte   // came with the handshake, before anything else
	ended  error    // what every Read returns from now on

	pong atomic.Pointer[[]byte] // payload of the latest ping that is not answered
	pond atomic.Bool            // a goroutine answers

	write  sync.Mutex // guards what follows, and keeps frames whole
	small  []byte     // header and payload of a small frame
	closed bool       // a Close frame was sent: nothing follows it
}

// NetConn is the connection below, for who wants to know of its TLS.
func (c *webSocket) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn. It is for one goroutine.
func (c *webSocket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.ended == nil {
		n, err := 0, error(nil)
		if len(c.early) > 0 {
			n = copy(p, c.early)
			if c.early = c.early[n:]; len(c.early) == 0 {
				c.early = nil
			}
		} else if n, err = c.Conn.Read(p); n == 0 && err != nil {
			return 0, err // a deadline, or the end: nothing of ours is lost
		}
		payload, ended := c.unpack.bytes(p[:n], c.control)
		if ended != nil {
			c.ended = ended
			if e, ok := errors.AsType[*frameError](ended); ok {
				_ = c.sendClose(e.status)
			}
		}
		if payload > 0 {
			return payload, nil
		}
	}
	return 0, c.ended
}

// control handles a control frame.
func (c *webSocket) control(op byte, payload []byte) error {
	switch op {
	case opClose:
		status := uint16(closeNormal)
		if len(payload) >= 2 {
			status = binary.BigEndian.Uint16(payload)
		}
		_ = c.sendClose(status) // the peer is going anyway
		return io.EOF
	case opPing:
		b := append([]byte(nil), payload...)
		c.pong.Store(&b)
		if c.pond.CompareAndSwap(false, true) {
			go c.answer() // a peer that does not read must not hold up the reader
		}
	}
	return nil
}

// answer sends the pong that is due; pings that come while one cannot be written are answered by one (RFC 6455, 5.5.3).
func (c *webSocket) answer() {
	for {
		p := c.pong.Swap(nil)
		if p == nil {
			c.pond.Store(false)
			if c.pong.Load() == nil || !c.pond.CompareAndSwap(false, true) {
				return
			}
			continue
		}
		c.write.Lock()
		_ = c.frame(opPong, *p) // the reader finds out
		c.write.Unlock()
	}
}

// Write implements net.Conn: one binary frame.
func (c *webSocket) Write(p []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.frame(opBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// frame is called with write held.
func (c *webSocket) frame(op byte, payload []byte) error {
	if c.closed {
		return net.ErrClosed
	}
	c.closed = op == opClose
	var head [maxHeader]byte
	h := appendHeader(head[:0], op, len(payload))
	if len(payload) > maxCopied {
		bufs := net.Buffers{h, payload}
		_, err := bufs.WriteTo(c.Conn)
		return err
	}
	c.small = append(append(c.small[:0], h...), payload...)
	_, err := c.Conn.Write(c.small)
	if cap(c.small) > maxControl+maxHeader {
		c.small = nil // an idle connection keeps no large buffer
	}
	return err
}

func appendHeader(dst []byte, op byte, n int) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case n <= maxControl:
		return append(dst, byte(n))
	case n <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
}

func (c *webSocket) sendClose(status uint16) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.closed {
		return nil
	}
	return c.frame(opClose, binary.BigEndian.AppendUint16(nil, status))
}

// CloseWrite says that nothing follows; the peer answers, and Read then returns io.EOF.
func (c *webSocket) CloseWrite() error { return c.sendClose(closeNormal) }

// Close implements net.Conn. It says goodbye if that can be done at once.
func (c *webSocket) Close() error {
	if c.write.TryLock() {
		if !c.closed {
			_ = c.SetWriteDeadline(time.Now().Add(goodbye))
			_ = c.frame(opClose, []byte{closeNormal >> 8, closeNormal & 0xFF})
		}
		c.write.Unlock()
	}
	return c.Conn.Close()
}

// goodbye bounds a Close frame that the socket's buffer does not take.
const goodbye = 50 * time.Millisecond

// frameError is what the client did wrong.
type frameError struct {
	status uint16
	detail string
}

func (e *frameError) Error() string {
	return fmt.Sprintf("WebSocket: %s (status %d)", e.detail, e.status)
}

// unpacker takes the client's frames apart, however the bytes are cut. Its zero value is ready.
type unpacker struct {
	head    [maxHeader]byte // of the frame that comes
	have    uint8           // bytes of head
	op      byte
	open    bool // a message was begun and not finished
	final   bool
	left    uint64 // payload bytes of the frame that are to come
	mask    [4]byte
	turn    uint8  // index into mask
	control []byte // payload of a control frame so far
}

// bytes unpacks b in place: it moves the payload of data frames to the front and returns its length. Control frames are given to
// control, whose error ends it.
func (u *unpacker) bytes(b []byte, control func(op byte, payload []byte) error) (n int, err error) {
	for at := 0; ; {
		if !u.complete() {
			k, err := u.header(b[at:])
			if at += k; err != nil || !u.complete() {
				return n, err
			}
			if u.op >= opClose {
				u.control = make([]byte, 0, u.left)
			}
		}
		part := b[at:]
		part = part[:min(uint64(len(part)), u.left)]
		u.unmask(part)
		at += len(part)
		u.left -= uint64(len(part))
		if u.op >= opClose {
			u.control = append(u.control, part...)
		} else {
			n += copy(b[n:], part)
		}
		if u.left > 0 {
			return n, nil
		}
		u.have = 0
		if u.op < opClose {
			u.open = !u.final
			continue
		}
		payload := u.control
		u.control = nil
		if err := control(u.op, payload); err != nil {
			return n, err
		}
	}
}

// complete reports whether the header is there.
func (u *unpacker) complete() bool { return u.have >= 2 && int(u.have) == u.headerLen() }

// headerLen is known from the second byte on: the client's frames are masked.
func (u *unpacker) headerLen() int {
	switch u.head[1] & 0x7F {
	case 126:
		return 8
	case 127:
		return 14
	}
	return 6
}

// header takes bytes of the header from b and checks it once it is complete.
func (u *unpacker) header(b []byte) (taken int, err error) {
	for taken < len(b) && !u.complete() {
		u.head[u.have] = b[taken]
		u.have++
		taken++
	}
	if !u.complete() {
		return taken, nil
	}
	h := u.head[:u.have]
	u.final, u.op = h[0]&0x80 != 0, h[0]&0x0F
	length := uint64(h[1] & 0x7F)
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		length = binary.BigEndian.Uint64(h[2:])
	}
	broken := func(status uint16, detail string) (int, error) { return taken, &frameError{status, detail} }
	switch {
	case h[0]&0x70 != 0:
		return broken(closeProtocol, "reserved bits are set")
	case h[1]&0x80 == 0:
		return broken(closeProtocol, "the client's frame is not masked")
	case length > 1<<63-1:
		return broken(closeProtocol, "the length's highest bit is set")
	case u.op >= opClose && (!u.final || length > maxControl):
		return broken(closeProtocol, "a control frame is fragmented or longer than 125 bytes")
	}
	switch u.op {
	case opText:
		return broken(closeUnsupported, "text frame; MQTT is binary (MQTT-6.0.0-1)")
	case opBinary:
		if u.open {
			return broken(closeProtocol, "a message begins within another")
		}
	case opContinuation:
		if !u.open {
			return broken(closeProtocol, "a continuation without a beginning")
		}
	case opClose, opPing, opPong:
	default:
		return broken(closeProtocol, fmt.Sprintf("unknown opcode %d", u.op))
	}
	u.left, u.turn = length, 0
	copy(u.mask[:], h[len(h)-4:])
	return taken, nil
}

// unmask continues where the last call for this frame ended.
func (u *unpacker) unmask(b []byte) {
	if len(b) == 0 {
		return
	}
	var key [8]byte
	for i := range key {
		key[i] = u.mask[(int(u.turn)+i)&3]
	}
	u.turn = (u.turn + uint8(len(b)&3)) & 3
	word := binary.NativeEndian.Uint64(key[:])
	for len(b) >= 8 {
		binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i]
	}
}
