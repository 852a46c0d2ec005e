package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/gate"
	"rivulet/edge/mqtt/packet"
)

// maxConnect bounds CONNECT, and what else comes before the client is known: a will of 64 KiB with room for a token.
const maxConnect = 128 << 10

// secured is a connection that is, or lies over, TLS.
type secured interface {
	HandshakeContext(ctx context.Context) error
	ConnectionState() tls.ConnectionState
}

// handshake ends the TLS handshake, if there is one, so that the client's certificate is known. nc may wrap the TLS connection.
func (c *conn) handshake() error {
	for nc := c.nc; nc != nil; {
		if s, ok := nc.(secured); ok {
			ctx, cancel := context.WithTimeout(c.ctx, c.srv.o.ConnectTimeout)
			defer cancel()
			if err := s.HandshakeContext(ctx); err != nil {
				return errors.Join(errLeft, fmt.Errorf("TLS handshake: %w", err))
			}
			state := s.ConnectionState()
			c.tls = &state
			return nil
		}
		w, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = w.NetConn()
	}
	return nil
}

// loginConn is what a login is told of the connection.
func (c *conn) loginConn() auth.Conn {
	return auth.Conn{Addr: c.nc.RemoteAddr().String(), Client: c.id, Protocol: "mqtt", TLS: c.tls}
}

// logIn finds out who the client is: by the method that it names (MQTT 5, 4.12), else by user name and password, its
// certificate, or as nobody, where that is allowed. What the method has to say last goes into ack.
func (c *conn) logIn(p *packet.Connect, ack *packet.Connack) error {
	a := c.srv.o.Auth
	if p.Properties.Has(packet.PropAuthMethod) {
		return c.enhanced(p, ack)
	}
	if a == nil {
		c.become(&edge.Principal{Client: c.id, Addr: c.nc.RemoteAddr().String()})
		return nil
	}
	who, err := a.Login(c.ctx, string(p.User), string(p.Password), c.loginConn())
	if err != nil {
		return c.refusal(err)
	}
	c.become(who)
	return nil
}

// refusal is what a client is told of a failed login. What exactly was wrong is in the audit log.
func (c *conn) refusal(err error) error {
	c.srv.stats.unknown.Add(1)
	switch {
	case errors.Is(err, auth.ErrThrottled):
		return &packet.Error{Reason: packet.ConnectionRateExceeded, Detail: err.Error()}
	case errors.Is(err, auth.ErrAnonymous):
		return &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
	case errors.Is(err, auth.ErrMechanism):
		return &packet.Error{Reason: packet.BadAuthenticationMethod, Detail: err.Error()}
	case errors.Is(err, auth.ErrDenied):
		return &packet.Error{Reason: packet.BadUserNameOrPassword, Detail: auth.ErrDenied.Error()}
	}
	return err // ours, not the client's
}

// become makes p the connection's principal.
func (c *conn) become(p *edge.Principal) {
	c.principal = *p
	c.shown.Store(p)
	gate.Admit(c.nc)
	if c.expiry != nil {
		c.expiry.Stop()
		c.expiry = nil
	}
	if !p.Expires.IsZero() {
		c.expiry = time.AfterFunc(p.Expires.Sub(c.srv.o.Now()), func() {
			c.shut(&packet.Error{Reason: packet.MaximumConnectTime, Detail: "the login has ended"})
		})
	}
}

// recheck ends the connections of those who may not be here any more, and the subscriptions that are not allowed any more. It
// is called after users or rules changed. Publishing is asked about anew by itself, since the broker's epoch grows.
func (s *Server) recheck() {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		p := c.shown.Load()
		if p == nil {
			continue
		}
		if err := s.o.Auth.Valid(p); err != nil {
			c.shut(&packet.Error{Reason: packet.NotAuthorized, Detail: "the login does not hold any more"})
			continue
		}
		if sess := c.sess.Load(); sess != nil {
			sess.recheck(p)
		}
	}
}

// recheck ends the deliveries of subscriptions that are not allowed any more. MQTT has no word for that: the client keeps them,
// and gets nothing.
func (s *session) recheck(p *edge.Principal) {
	s.mu.Lock()
	var gone []*subscription
	for _, sub := range s.subs {
		if (sub.from.Load() != ended || sub.waits) && !s.srv.maySubscribe(p, sub.filter) {
			sub.waits = false
			gone = append(gone, sub)
		}
	}
	s.mu.Unlock()
	for _, sub := range gone {
		if sub.share != nil {
			s.srv.leaveShare(sub, false)
			sub.from.Store(ended)
		} else {
			s.srv.tree.remove(sub)
		}
		s.srv.stats.denied.Add(1)
		s.srv.log.Info("subscription ended: it is not allowed any more", "client", s.id, "user", p.Name, "filter", sub.filter)
	}
}

func (s *Server) maySubscribe(p *edge.Principal, filter string) bool {
	return s.broker.Allow(p, edge.OpSubscribe, filter)
}

// mayTake reports whether p may have the client id that owner has, or had when the session was stored. Who has logged in may
// go on with what was made before anyone had to.
func mayTake(p *edge.Principal, owner string) bool { return owner == p.Name || owner == "" }

var errOthersClient = &packet.Error{Reason: packet.NotAuthorized, Detail: "the client identifier belongs to another user"}
