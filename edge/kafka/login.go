package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/gate"
)

// loginState is how far a client's login is. A client may begin as whom its certificate stands for, or as nobody, where that is
// allowed, and say later who else it is, by SASL; from then on it may only say the same again (KIP-368).
type loginState struct {
	known    bool // who is somebody who may be here
	tls      *tls.ConnectionState
	opened   time.Time
	exchange *auth.Exchange // begun by SaslHandshake
	raw      bool           // its messages are bare tokens: it was begun by version 0
	done     string         // mechanism by which the client has logged in; "": none
	hangUp   bool           // refused: close behind the response
}

// mustAuthenticate reports whether the client has yet to say who it is.
func (c *conn) mustAuthenticate() bool { return !c.login.known }

// arrive ends the TLS handshake and decides who a client is that says nothing about it.
func (c *conn) arrive() error {
	c.login.opened = time.Now()
	if t, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(c.ctx(), c.s.o.LoginTimeout)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("%w: TLS handshake: %w", errHangUp, err)
		}
		state := t.ConnectionState()
		c.login.tls = &state
	}
	if c.s.o.Auth == nil {
		c.become(&edge.Principal{Addr: c.who.Addr})
		return nil
	}
	p, err := c.s.o.Auth.Login(c.ctx(), "", "", c.loginConn())
	if err == nil {
		c.become(p)
	}
	return nil // it has to log in, then
}

// loginConn is what a login is told of the connection.
func (c *conn) loginConn() auth.Conn {
	return auth.Conn{Addr: c.who.Addr, Client: c.who.Client, Protocol: "kafka", TLS: c.login.tls}
}

// become makes p whom requests are done for from now on.
func (c *conn) become(p *edge.Principal) {
	c.who = p
	c.shown.Store(p)
	c.login.known = true
	gate.Admit(c.nc)
}

// rename takes note of the client id, which stands in every request and may change with any.
func (c *conn) rename(client string) {
	client = strings.Clone(client)
	if c.s.o.Auth != nil {
		c.who = c.s.o.Auth.WithClient(c.who, client)
		return
	}
	who := *c.who
	who.Client = client
	c.who = &who
}

// expired reports whether the login has ended, as that by a token does.
func (c *conn) expired() bool {
	return !c.who.Expires.IsZero() && !c.s.now().Before(c.who.Expires)
}

// lifetime is what is left of the login in milliseconds, for SaslAuthenticate's answer; 0: it does not end.
func (c *conn) lifetime() int64 {
	if c.who.Expires.IsZero() {
		return 0
	}
	return max(c.who.Expires.Sub(c.s.now()).Milliseconds(), 1)
}

var errOtherUser = errors.New("logged in again as another user, or by another mechanism")

// token takes the client's next SASL message and returns the answer. An error is the end of the connection, after an answer
// in the protocol's own words.
func (c *conn) token(message []byte) (answer []byte, err error) {
	x := c.login.exchange
	answer, p, err := x.Step(c.ctx(), message)
	switch {
	case err != nil:
		c.endExchange()
		return answer, err
	case p == nil:
		return answer, nil
	}
	c.endExchange()
	if c.login.done != "" && (p.Name != c.who.Name || x.Mechanism() != c.login.done) {
		return nil, errOtherUser
	}
	c.login.done = x.Mechanism()
	c.become(p)
	return answer, nil
}

func (c *conn) endExchange() { c.login.exchange, c.login.raw = nil, false }

// saslToken handles a bare token.
func (c *conn) saslToken(sl *slot) error {
	answer, err := c.token(*sl.body)
	if err != nil {
		return fmt.Errorf("%w: %w", errHangUp, err) // there is no way to say no; the audit log has it
	}
	sl.raw = answer
	if answer == nil {
		sl.raw = []byte{}
	}
	c.send(sl, true)
	return nil
}

// recheck ends the connections of those who may not be here any more. It is called after users or rules changed.
func (s *Server) recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		p := c.shown.Load()
		if p == nil {
			continue
		}
		select { // a Fetch that waits asks again
		case c.changed <- struct{}{}:
		default:
		}
		if err := s.o.Auth.Valid(p); err != nil {
			c.log.Info("Kafka connection ended", "user", p.Name, "why", err)
			c.drain()
		}
	}
}
