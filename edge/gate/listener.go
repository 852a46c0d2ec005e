package gate

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Listener puts the gate before l. It belongs below TLS: tls.NewListener(g.Listener(l), …).
func (g *Gate) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, gate: g, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	gate   *Gate
	once   sync.Once
	closed chan struct{}
}

// Accept returns the next connection that may come in. It waits while too many come at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, victim, wait := l.gate.enter(nc)
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
	gate *Gate // nil: not counted
	from netip.Addr
	age  uint64
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

// tcpConn is a conn over TCP. The TCP connection is embedded, so that writev and splice, which package net offers to its own
// type alone, still work.
type tcpConn struct {
	*net.TCPConn
	conn *conn
}

func (c *tcpConn) Close() error { return c.conn.Close() }

// Admit says that the client has authenticated.
func (c *tcpConn) Admit() { c.conn.Admit() }

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
