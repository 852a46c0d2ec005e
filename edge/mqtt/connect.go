package mqtt

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"rivulet/edge/mqtt/packet"
)

// never is a session expiry that does not come (MQTT 5, 3.1.2.11.2).
const never = math.MaxUint32

// maxClientID bounds client ids: they are keys in the store.
const maxClientID = 1024

// connect reads CONNECT and answers it.
func (c *conn) connect() error {
	c.lastRead = c.srv.o.Now()
	// For all of it, TLS and authentication included: however slowly its bytes drip in.
	_ = c.nc.SetDeadline(time.Now().Add(c.srv.o.ConnectTimeout))
	if err := c.handshake(); err != nil {
		return err
	}
	first, body, err := c.nextPacket(true)
	if err != nil {
		return err
	}
	if packet.TypeOf(first) != packet.CONNECT {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "first packet is not CONNECT (MQTT-3.1.0-1)"}
	}
	var p packet.Connect
	if err := p.Decode(first, body); err != nil {
		return c.refuseMalformed(&p, err)
	}
	if p.Properties.Has(packet.PropAuthMethod) { // AUTH will be read into the buffer that p aliases
		if err := p.Decode(first, slices.Clone(body)); err != nil {
			return err
		}
	}
	c.version, c.bridge = p.Version, p.Bridge
	c.wishes(&p)
	ack := &packet.Connack{}
	if err := c.admit(&p, ack); err != nil {
		if errors.Is(err, errLeft) {
			return err
		}
		return c.refuse(err)
	}
	c.limits(&p, ack)
	c.srv.agreedExpiry(&p, ack)
	if len(ack.Append(nil, c.version)) > c.maxSend { // MQTT-3.1.2-24: there is nothing that it could be told
		return &packet.Error{Reason: packet.PacketTooLarge, Detail: "the client takes no packet as long as its CONNACK"}
	}
	_ = c.nc.SetDeadline(time.Time{})
	if err := c.srv.register(c); err != nil {
		return c.refuse(err)
	}
	sess, err := c.srv.openSession(c, &p, ack)
	if err != nil {
		return c.refuse(err)
	}
	if len(ack.Properties.UserRaw) > 0 && len(ack.Append(nil, c.version)) > c.maxSend { // MQTT-3.2.2-20
		ack.Properties.UserRaw = nil
	}
	c.send(func(dst []byte) []byte { return ack.Append(dst, c.version) })
	c.sess.Store(sess)
	c.readOn()
	c.srv.stats.logins.Add(1)
	sess.join()
	return nil
}

// nextPacket reads a packet of a client that is not known yet; the first one must be CONNECT.
func (c *conn) nextPacket(isFirst bool) (first byte, body []byte, err error) {
	for {
		size, body, err := packet.Split(c.buf[c.start:c.end])
		switch {
		case err != nil:
			return 0, nil, err
		case isFirst && c.end > c.start && packet.TypeOf(c.buf[c.start]) != packet.CONNECT: // do not wait for more of it
			return c.buf[c.start], nil, nil
		case size > min(c.o.MaxPacket, maxConnect):
			return 0, nil, &packet.Error{Reason: packet.PacketTooLarge, Detail: "packet is larger than the server takes of a client that it does not know"}
		case body != nil:
			c.start += size
			return c.buf[c.start-size], body, nil
		}
		c.compact()
		c.grow(size)
		n, err := c.nc.Read(c.buf[c.end:])
		if c.end += n; n == 0 && err != nil {
			return 0, nil, errors.Join(errLeft, err) // it said nothing that could be answered
		}
		c.srv.stats.bytesIn.Add(uint64(n))
	}
}

// refuseMalformed answers a CONNECT that cannot be read.
func (c *conn) refuseMalformed(p *packet.Connect, err error) error {
	var e *packet.Error
	if !errors.As(err, &e) || p.Foreign {
		return err // not MQTT at all: nothing to say
	}
	c.version = p.Version
	if e.Reason == packet.UnsupportedVersion {
		if c.version < packet.V5 {
			c.version = packet.V311
		} else {
			c.version = packet.V5
		}
	} else if c.version < packet.V5 {
		return err // the return codes of old know no such reason
	}
	return c.refuse(e)
}

// refuse answers CONNECT with an error.
func (c *conn) refuse(err error) error {
	var e *packet.Error
	if !errors.As(err, &e) {
		c.srv.log.Error("cannot open MQTT session", "client", c.id, "err", err)
		e = &packet.Error{Reason: packet.ServerUnavailable, Detail: "session cannot be opened"}
	}
	ack := packet.Connack{Reason: e.Reason}
	ack.Properties.ReasonString = []byte(e.Detail)
	ack.Properties.Mark(packet.PropReasonString)
	if len(ack.Append(nil, c.version)) > c.maxSend && c.maxSend > 0 { // MQTT-3.2.2-19
		ack.Properties = packet.Properties{}
	}
	c.send(func(dst []byte) []byte { return ack.Append(dst, c.version) })
	return e
}

// admit decides who the client is and whether it may come in.
func (c *conn) admit(p *packet.Connect, ack *packet.Connack) error {
	if c.overLimit {
		return &packet.Error{Reason: packet.ServerBusy, Detail: "too many connections"}
	}
	c.id = string(p.ClientID)
	if c.id == "" {
		if c.version == packet.V31 || c.version == packet.V311 && !p.CleanStart {
			return &packet.Error{Reason: packet.InvalidClientID, Detail: "empty client identifier without clean session (MQTT-3.1.3-8)"}
		}
		c.id = c.srv.assignID()
		ack.Properties.AssignedClientID = []byte(c.id)
		ack.Properties.Mark(packet.PropAssignedClientID)
	}
	if len(c.id) > maxClientID {
		return &packet.Error{Reason: packet.InvalidClientID, Detail: "client identifier is longer than 1024 bytes"}
	}
	if err := c.logIn(p, ack); err != nil {
		return err
	}
	if p.HasWill {
		c.will = newWill(c, p)
		if !c.mayPublish(c.will.topic) {
			c.will = nil
			c.srv.stats.denied.Add(1)
			return &packet.Error{Reason: packet.NotAuthorized, Detail: "will topic is not authorized"}
		}
	}
	return nil
}

// assignID makes a client identifier that no session has (MQTT-3.2.2-16).
func (s *Server) assignID() string {
	for {
		s.mu.Lock()
		s.assigned++
		n := s.assigned
		s.mu.Unlock()
		id := fmt.Sprintf("auto-%016x", n)
		if stored, err := s.broker.Store().Get(sessionSpace, id); err != nil || stored == nil {
			return id
		}
	}
}

// wishes takes down what the client says that it can take.
func (c *conn) wishes(p *packet.Connect) {
	c.maxSend, c.problems = packet.MaxSize, true
	if p.Properties.Has(packet.PropMaximumPacketSize) {
		c.maxSend = int(min(p.Properties.MaximumPacketSize, packet.MaxSize))
	}
	if p.Properties.Has(packet.PropRequestProblemInfo) {
		c.problems = p.Properties.RequestProblemInfo != 0
	}
	c.aliasesOut = p.Properties.TopicAliasMaximum
}

// limits agrees on what both sides can take.
func (c *conn) limits(p *packet.Connect, ack *packet.Connack) {
	o := c.o
	keep := time.Duration(p.KeepAlive) * time.Second
	if c.version >= packet.V5 {
		a := &ack.Properties
		if m := o.MaxKeepAlive; m > 0 && (keep == 0 || keep > m) {
			keep = m.Truncate(time.Second)
			a.ServerKeepAlive = uint16(min(keep/time.Second, 65535))
			a.Mark(packet.PropServerKeepAlive)
		}
		if o.ResponsePrefix != "" && p.Properties.RequestResponseInfo == 1 { // MQTT-3.1.2-28
			a.ResponseInfo = []byte(o.ResponsePrefix + c.id)
			a.Mark(packet.PropResponseInfo)
		}
		a.ReceiveMaximum, a.TopicAliasMaximum, a.MaximumPacketSize = o.ReceiveMaximum, o.TopicAliases, uint32(o.MaxPacket)
		a.Mark(packet.PropReceiveMaximum, packet.PropTopicAliasMaximum, packet.PropMaximumPacketSize)
	}
	c.keepAlive = keep + keep/2
}

// register makes c the client of its id. Another connection of that id is ended first, and has put its session away then; if
// it is another user's, it stays, and c is refused.
func (s *Server) register(c *conn) error {
	for {
		s.mu.Lock()
		old, claimed := s.clients[c.id], s.claims[c.id]
		if claimed != nil {
			s.mu.Unlock()
			<-claimed
			continue
		}
		if old == nil {
			s.clients[c.id] = c
			c.registered = true
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if !mayTake(&c.principal, old.shown.Load().Name) {
			return errOthersClient
		}
		old.shut(&packet.Error{Reason: packet.SessionTakenOver, Detail: fmt.Sprintf("another connection has come with this client identifier, from %s", c.nc.RemoteAddr())})
		<-old.detached
	}
}
