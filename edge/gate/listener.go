package gate

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// handshakeWeight is what a connection with a TLS handshake counts at Options.Rate: the handshake takes about a millisecond of
// a processor, and nobody can make it wait for its turn as a password's hash does.
const handshakeWeight = 4

// Listener puts the gate before l.
func (g *Gate) Listener(l net.Listener) net.Listener { return g.listener(l, 1) }

// HandshakeListener is Listener for what TLS is put before: tls.NewListener(g.HandshakeListener(l), …).
func (g *Gate) HandshakeListener(l net.Listener) net.Listener { return g.listener(l, handshakeWeight) }

func (g *Gate) listener(l net.Listener, weight float64) net.Listener {
	return &listener{Listener: l, gate: g, weight: weight, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	gate   *Gate
	weight float64
	once   sync.Once
	closed chan struct{}
}

// Accept returns the next connection that may come in. It waits while too many come at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.hold()
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, victim, wait := l.gate.enter(nc, l.weight)
		if victim != nil {
			_ = victim.Close() // it has said nothing that would be lost
		}
		if c == nil {
			_ = nc.Close() // nor has this one
			continue
		}
		if wait > 0 && !l.wait(wait) {
			_ = c.Close()
			return nil, net.ErrClosed
		}
		if t, ok := nc.(*net.TCPConn); ok {
			return &tcpConn{TCPConn: t, conn: c}, nil
		}
		return c, nil
	}
}

// Holding back is asked about again after holdStep; holdMost is the longest for one connection, so that however many wrong passwords
// come, who needs none gets in.
const (
	holdStep = time.Millisecond
	holdMost = 100 * time.Millisecond
)

// hold waits while too many logins do.
func (l *listener) hold() {
	waiting := l.gate.o.Waiting
	if waiting == nil || waiting() <= l.gate.o.MaxWaiting {
		return
	}
	l.gate.held.Add(1)
	for range holdMost / holdStep {
		if !l.wait(holdStep) || waiting() <= l.gate.o.MaxWaiting {
			return
		}
	}
}

// wait reports whether the listener is still open after d.
func (l *listener) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.closed:
		return false
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	gate *Gate      // nil: not counted
	from netip.Addr // it, age and gone belong to gate.mu
	age  uint64
	gone bool        // from the books
	stop func() bool // of the timer; set while it is pending
	left atomic.Bool
}

// Close closes the connection and takes it off the books.
func (c *conn) Close() error {
	if c.gate != nil && c.left.CompareAndSwap(false, true) {
		c.gate.leave(c)
	}
	return c.Conn.Close()
}

// Admit says that the client has authenticated.
func (c *conn) Admit() {
	if c.gate == nil {
		return
	}
	c.gate.mu.Lock()
	was := c.gate.settle(c)
	c.gate.mu.Unlock()
	if was {
		c.gate.admitted.Add(1)
	}
}

// expire ends a connection that took too long. Its front end sees a closed connection and closes it, too.
func (c *conn) expire() {
	c.gate.mu.Lock()
	was := c.gate.settle(c)
	c.gate.mu.Unlock()
	if was {
		c.gate.tooOld.Add(1)
		_ = c.Conn.Close()
	}
}

// Name says who the client of a proxied connection is.
func (c *conn) Name(client netip.Addr) bool {
	return c.gate == nil || !c.gate.o.Proxied || c.gate.name(c, client)
}

// tcpConn is a conn over TCP. The TCP connection is embedded, so that writev and splice, which package net offers to its own
// type alone, still work.
type tcpConn struct {
	*net.TCPConn
	conn *conn
}

func (c *tcpConn) Close() error { return c.conn.Close() }

// Admit says that the client has authenticated.
func (c *tcpConn) Admit() { c.conn.Admit() }

// Name says who the client of a proxied connection is.
func (c *tcpConn) Name(client netip.Addr) bool { return c.conn.Name(client) }

// Name tells the gate whose connection nc is, when a proxy has said so, and reports whether that client's address may have one more;
// else nc is to be closed. A connection that came through no gate for proxies may.
func Name(nc net.Conn, client net.Addr) bool {
	t, ok := client.(*net.TCPAddr)
	if !ok {
		return true
	}
	at, ok := Address(t.AddrPort().Addr())
	n, named := nc.(interface{ Name(netip.Addr) bool })
	return !ok || !named || n.Name(at)
}

// Admit tells the gate that nc came through, if it did, that its client has authenticated. It looks through TLS and other
// wrappers that have a method NetConn.
func Admit(nc net.Conn) {
	for nc != nil {
		if a, ok := nc.(interface{ Admit() }); ok {
			a.Admit()
			return
		}
		w, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		nc = w.NetConn()
	}
}
