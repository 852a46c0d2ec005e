package kafka

import (
	"bytes"
	"errors"
	"fmt"
)

const mechanismPlain = "PLAIN"

// saslState is how far a client's authentication is.
type saslState struct {
	mechanism string // chosen by SaslHandshake, until it is used
	raw       bool   // the next request is a bare token
	done      bool   // authenticated
	hangUp    bool   // refused: close behind the response
}

// mustAuthenticate reports whether the client has yet to say who it is.
func (c *conn) mustAuthenticate() bool {
	return c.s.o.Authenticate != nil && !c.s.o.Anonymous && !c.sasl.done
}

var errPlain = errors.New("PLAIN token is malformed")

// authenticate takes a PLAIN token (RFC 4616): authorization id, NUL, user, NUL, password. To act for another user is
// not offered.
func (c *conn) authenticate(token []byte) error {
	c.sasl.mechanism, c.sasl.raw = "", false
	parts := bytes.Split(token, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 {
		return errPlain
	}
	authz, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if authz != "" && authz != user {
		return errPlain
	}
	if err := c.s.o.Authenticate(c.ctx(), user, password); err != nil {
		c.log.Warn("Kafka client refused", "user", user, "client", c.who.Client, "err", err)
		return err
	}
	who := *c.who
	who.Name = user
	c.who = &who
	c.sasl.done = true
	return nil
}

// saslToken handles a bare token: PLAIN is answered with an empty one.
func (c *conn) saslToken(sl *slot) error {
	if err := c.authenticate(*sl.body); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	sl.raw = []byte{}
	c.send(sl, true)
	return nil
}
