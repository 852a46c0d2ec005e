package mqtt

import (
	"errors"
	"strings"

	"rivulet/edge/auth"
	"rivulet/edge/mqtt/packet"
)

// Enhanced authentication (MQTT 5, 4.12): the messages of a SASL mechanism in CONNECT, AUTH and CONNACK, and, when the client
// wants it, again in AUTH while the connection goes on.

// enhanced authenticates as CONNECT asks for.
func (c *conn) enhanced(p *packet.Connect, ack *packet.Connack) error {
	if c.srv.o.Auth == nil {
		return &packet.Error{Reason: packet.BadAuthenticationMethod, Detail: "no authentication is configured"}
	}
	c.method = strings.Clone(string(p.Properties.AuthMethod))
	x, err := c.srv.o.Auth.Begin(c.method, c.loginConn())
	if err != nil {
		return c.refusal(err)
	}
	message := p.Properties.AuthData
	for {
		answer, who, err := x.Step(c.ctx, message)
		if err != nil {
			return c.refusal(err)
		}
		if who != nil {
			c.become(who)
			ack.Properties.AuthMethod = []byte(c.method)
			ack.Properties.Mark(packet.PropAuthMethod) // MQTT-4.12.0-5
			if answer != nil {
				ack.Properties.AuthData = answer
				ack.Properties.Mark(packet.PropAuthData)
			}
			return nil
		}
		c.sendAuth(packet.ContinueAuthentication, answer) // MQTT-4.12.0-2
		first, body, err := c.nextPacket(false)
		if err != nil {
			return err
		}
		if message, err = c.continued(first, body); err != nil {
			return err
		}
	}
}

// continued reads the client's AUTH, the only packet but DISCONNECT that may come before CONNACK (MQTT-4.12.0-3).
func (c *conn) continued(first byte, body []byte) (message []byte, err error) {
	switch packet.TypeOf(first) {
	case packet.AUTH:
	case packet.DISCONNECT:
		return nil, errLeft
	default:
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: packet.TypeOf(first).String() + " during authentication (MQTT-3.1.2-30)"}
	}
	var a packet.Disconnect
	if err := a.Decode(c.version, first, body); err != nil {
		return nil, err
	}
	if a.Reason != packet.ContinueAuthentication {
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH does not continue (MQTT-4.12.0-3)"}
	}
	return c.sameMethod(&a)
}

// sameMethod holds that the method is the one of CONNECT, in every AUTH (MQTT-4.12.0-5, MQTT-4.12.1-1).
func (c *conn) sameMethod(a *packet.Disconnect) ([]byte, error) {
	if !a.Properties.Has(packet.PropAuthMethod) || string(a.Properties.AuthMethod) != c.method {
		return nil, &packet.Error{Reason: packet.ProtocolError, Detail: "authentication method is not that of CONNECT (MQTT-4.12.0-5)"}
	}
	return a.Properties.AuthData, nil
}

func (c *conn) sendAuth(reason packet.Reason, data []byte) {
	a := packet.Disconnect{Reason: reason}
	a.Properties.AuthMethod = []byte(c.method)
	a.Properties.Mark(packet.PropAuthMethod)
	if data != nil {
		a.Properties.AuthData = data
		a.Properties.Mark(packet.PropAuthData)
	}
	c.send(func(dst []byte) []byte { return a.Append(dst, packet.AUTH, c.version) })
}

// onAuth is re-authentication (MQTT 5, 4.12.1). Messages go on meanwhile, under the login of before. A failure ends the
// connection; so does a login as another user.
func (c *conn) onAuth(first byte, body []byte) error {
	var a packet.Disconnect
	if err := a.Decode(c.version, first, body); err != nil {
		return err
	}
	if c.method == "" {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH without an authentication method in CONNECT (MQTT-4.12.0-6)"}
	}
	message, err := c.sameMethod(&a)
	if err != nil {
		return err
	}
	switch {
	case a.Reason == packet.ReAuthenticate && c.exchange == nil:
		if c.exchange, err = c.srv.o.Auth.Begin(c.method, c.loginConn()); err != nil {
			return c.refusal(err)
		}
	case a.Reason == packet.ContinueAuthentication && c.exchange != nil:
	default:
		return &packet.Error{Reason: packet.ProtocolError, Detail: "AUTH neither begins nor continues (MQTT 5, 3.15.2.1)"}
	}
	answer, who, err := c.exchange.Step(c.ctx, message)
	switch {
	case err != nil:
		c.exchange = nil
		if errors.Is(err, auth.ErrDenied) || errors.Is(err, auth.ErrThrottled) {
			c.srv.stats.unknown.Add(1)
			return &packet.Error{Reason: packet.NotAuthorized, Detail: "authentication failed (MQTT-4.12.1-2)"}
		}
		return err
	case who == nil:
		c.sendAuth(packet.ContinueAuthentication, answer)
		return nil
	}
	c.exchange = nil
	if who.Name != c.principal.Name {
		return &packet.Error{Reason: packet.NotAuthorized, Detail: "logged in again as another user"}
	}
	c.become(who)
	c.sendAuth(packet.Success, answer)
	return nil
}
