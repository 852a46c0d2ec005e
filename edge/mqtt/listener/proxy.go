package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"rivulet/edge/gate"
)

// Proxy returns a listener of connections that begin with a PROXY protocol v2 header, as HAProxy and others send it. One
// without is closed: whoever can leave the header out could as well write it, so the listener must be reachable for the proxy
// alone. RemoteAddr is the client's as soon as something was read, and the proxy's before.
func Proxy(l net.Listener) net.Listener { return proxyListener{l} }

type proxyListener struct{ net.Listener }

func (l proxyListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxied{Conn: nc}, nil
}

// proxied reads the header with the first Read, in the connection's own goroutine, so that a proxy that says nothing does not
// hold up Accept.
type proxied struct {
	net.Conn

	mu     sync.Mutex // guards what follows
	head   []byte     // of the header, so far
	done   bool
	client net.Addr // nil: the proxy speaks for itself
	err    error
}

// NetConn is the connection below.
func (c *proxied) NetConn() net.Conn { return c.Conn }

func (c *proxied) RemoteAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

func (c *proxied) Read(p []byte) (int, error) {
	if err := c.header(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// CloseWrite half-closes when what is below can.
func (c *proxied) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

const (
	proxyPrefix = 16
	// maxProxy is more than any proxy sends: two socket paths, and what it knows of the client's TLS.
	maxProxy = 4 << 10
)

// header reads the header once; a deadline that strikes in the middle of it loses nothing.
func (c *proxied) header() error {
	c.mu.Lock()
	if c.done {
		defer c.mu.Unlock()
		return c.err
	}
	head := c.head
	c.mu.Unlock()
	var err error
	var addr net.Addr
	for need := proxyPrefix; ; {
		if len(head) >= proxyPrefix {
			length := 0
			if length, err = proxyLength(head); err != nil {
				break
			}
			need = proxyPrefix + length
		}
		if len(head) == need {
			break
		}
		head = slices.Grow(head, need-len(head))
		var n int
		n, err = c.Conn.Read(head[len(head):need]) // no byte beyond the header
		head = head[:len(head)+n]
		if n > 0 || err == nil {
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.head = head
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return err
		}
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		c.done, c.err = true, err
		return err
	}
	if err == nil {
		addr, err = parseProxy(head)
	}
	if err == nil && addr != nil && !gate.Name(c.Conn, addr) {
		err = errTooMany
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.head, c.client, c.err = true, nil, addr, err
	return err
}

// errTooMany is why a client's connection ends before it has begun; the gate counts which bound it was.
var errTooMany = errors.New("too many connections of the address that the proxy tells")

var errProxy = errors.New("no PROXY protocol v2 header, though the listener's proxy_protocol is true")

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// proxyLength checks the fixed part of a header and returns how many bytes follow it.
func proxyLength(head []byte) (int, error) {
	if string(head[:12]) != proxySignature {
		return 0, errProxy
	}
	if v := head[12] >> 4; v != 2 {
		return 0, fmt.Errorf("%w: version %d", errProxy, v)
	}
	n := int(binary.BigEndian.Uint16(head[14:]))
	if n > maxProxy {
		return 0, fmt.Errorf("%w: it is %d bytes long", errProxy, n)
	}
	return n, nil
}

// Commands, and families with their protocols (proxy-protocol.txt, 2.2).
const (
	proxyLocal = 0
	proxyProxy = 1
	proxyTCP4  = 0x11
	proxyTCP6  = 0x21
)

// parseProxy returns the client's address, nil when the proxy speaks for itself (a health check) or does not tell.
func parseProxy(head []byte) (net.Addr, error) {
	command, body := head[12]&0x0F, head[proxyPrefix:]
	switch command {
	case proxyLocal:
		return nil, nil
	case proxyProxy:
	default:
		return nil, fmt.Errorf("%w: command %d", errProxy, command)
	}
	size := 0
	switch head[13] {
	case proxyTCP4:
		size = 4
	case proxyTCP6:
		size = 16
	default:
		return nil, nil // what we cannot name: the connection counts as the proxy's own
	}
	if len(body) < 2*size+4 {
		return nil, fmt.Errorf("%w: addresses are cut off", errProxy)
	}
	ip, _ := netip.AddrFromSlice(body[:size])
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(body[2*size:]))), nil
}
