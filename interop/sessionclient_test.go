package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"rivulet/edge/mqtt/packet"
)

// sessionClient is an MQTT client that keeps its session's state over as many connections as it takes. It publishes numbers to
// topic, or subscribes to filter and takes down the numbers that come.
type sessionClient struct {
	id, addr string
	version  packet.Version

	topic  string
	qos    byte
	window int

	filter  string
	granted byte

	mu       sync.Mutex // guards what follows
	ready    bool
	known    bool // the broker has acknowledged the session
	ending   bool // nothing new is published
	most     int  // numbers that may be published so far; 0: all that the window has room for
	next     int
	flight   []flying // in the order of sending
	open     map[uint16]bool
	got      map[string][]int
	err      error
	subbed   bool
	lastPing int
}

// flying is a message that was published and is not acknowledged.
type flying struct {
	id       uint16
	value    int
	released bool
}

func (c *sessionClient) locked(f func() bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}

func (c *sessionClient) isReady() bool { return c.locked(func() bool { return c.ready }) }
func (c *sessionClient) isDone() bool {
	return c.locked(func() bool { return c.ending && len(c.flight) == 0 })
}
func (c *sessionClient) isQuiet() bool { return c.locked(func() bool { return c.lastPing >= 5 }) }
func (c *sessionClient) finish()       { c.locked(func() bool { c.ending = true; return true }) }

// allow lets n more numbers be published.
func (c *sessionClient) allow(n int) {
	c.locked(func() bool { c.most = c.next + n; return true })
}

// finishAt finishes once n numbers were published.
func (c *sessionClient) finishAt(n int) {
	c.locked(func() bool { c.ending = c.ending || c.next >= n; return true })
}

func (c *sessionClient) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *sessionClient) of(topic string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[topic]
}

// last is the highest number that came.
func (c *sessionClient) last(topic string) int {
	last := -1
	for _, v := range c.of(topic) {
		last = max(last, v)
	}
	return last
}

func (c *sessionClient) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// run connects again and again until ctx ends.
func (c *sessionClient) run(ctx context.Context) {
	c.open = map[uint16]bool{}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
		if err == nil {
			end := context.AfterFunc(ctx, func() { _ = nc.Close() })
			err = c.serve(nc)
			end()
			_ = nc.Close()
		}
		if errors.Is(err, errProtocol) {
			c.locked(func() bool { c.err = err; return true })
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// errProtocol is what the broker must not do, however often it is killed.
var errProtocol = errors.New("broken promise")

// serve lives on one connection.
func (c *sessionClient) serve(nc net.Conn) error {
	r := &packets{nc: nc}
	con := packet.Connect{Version: c.version, ClientID: []byte(c.id), KeepAlive: 60}
	if c.version >= packet.V5 {
		con.Properties.SessionExpiry = 3600
		con.Properties.Mark(packet.PropSessionExpiry)
	}
	if _, err := nc.Write(con.Append(nil)); err != nil {
		return err
	}
	first, body, err := r.next()
	if err != nil {
		return err
	}
	var ack packet.Connack
	if err := ack.Decode(c.version, first, body); err != nil || ack.Reason != packet.Success {
		return fmt.Errorf("%w: CONNACK 0x%02x %w", errProtocol, byte(ack.Reason), err)
	}
	out, err := c.begin(ack.SessionPresent)
	if err != nil {
		return err
	}
	for {
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return err
			}
		}
		_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		first, body, err := r.next()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			out = packet.AppendPing(c.more(out[:0]), packet.PINGREQ)
			continue
		}
		if err != nil {
			return err
		}
		if out, err = c.handle(out[:0], first, body); err != nil {
			return err
		}
	}
}

// begin goes on with the session.
func (c *sessionClient) begin(present bool) (out []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known && !present {
		return nil, fmt.Errorf("%w: the session is gone", errProtocol)
	}
	c.known, c.lastPing = true, 0
	if !present {
		c.open = map[uint16]bool{}
	}
	if c.filter != "" && !c.subbed {
		s := packet.Subscribe{ID: 1, Topics: []packet.Subscription{{Filter: []byte(c.filter), QoS: c.granted}}}
		out = s.Append(out, c.version)
	} else {
		c.ready = true
	}
	for _, f := range c.flight {
		if f.released {
			out = packet.AppendAck(out, packet.PUBREL, c.version, f.id, packet.Success)
		} else {
			out = c.publish(out, f, true)
		}
	}
	return c.fill(out), nil
}

func (c *sessionClient) publish(out []byte, f flying, dup bool) []byte {
	m := packet.Publish{Topic: []byte(c.topic), Payload: strconv.AppendInt(nil, int64(f.value), 10), QoS: c.qos, ID: f.id, Dup: dup}
	return m.Append(out, c.version)
}

// fill publishes as much as the window has room for; with mu held.
func (c *sessionClient) fill(out []byte) []byte {
	for c.topic != "" && !c.ending && len(c.flight) < c.window && (c.most == 0 || c.next < c.most) {
		f := flying{id: uint16(c.next%60000) + 1, value: c.next}
		c.next++
		c.flight = append(c.flight, f)
		out = c.publish(out, f, false)
	}
	return out
}

func (c *sessionClient) more(out []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fill(out)
}

func (c *sessionClient) handle(out []byte, first byte, body []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := packet.TypeOf(first)
	if t == packet.PINGRESP {
		c.lastPing++
		return out, nil
	}
	c.lastPing = 0
	switch t {
	case packet.SUBACK:
		var a packet.Suback
		if err := a.Decode(c.version, first, body); err != nil || a.Reasons[0] != packet.Reason(c.granted) {
			return nil, fmt.Errorf("%w: SUBACK %v %w", errProtocol, a.Reasons, err)
		}
		c.subbed, c.ready = true, true
		return out, nil
	case packet.PUBLISH:
		return c.received(out, first, body)
	case packet.DISCONNECT:
		return out, nil
	}
	var a packet.Ack
	if err := a.Decode(c.version, first, body); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errProtocol, t, err)
	}
	if a.Reason.Failed() && a.Reason != packet.PacketIDNotFound {
		return nil, fmt.Errorf("%w: %s 0x%02x", errProtocol, t, byte(a.Reason))
	}
	switch t {
	case packet.PUBREL:
		delete(c.open, a.ID)
		return packet.AppendAck(out, packet.PUBCOMP, c.version, a.ID, packet.Success), nil
	case packet.PUBREC:
		for i := range c.flight {
			if c.flight[i].id == a.ID {
				c.flight[i].released = true
			}
		}
		return packet.AppendAck(out, packet.PUBREL, c.version, a.ID, packet.Success), nil
	case packet.PUBACK, packet.PUBCOMP:
		for i := range c.flight {
			if c.flight[i].id == a.ID {
				c.flight = append(c.flight[:i], c.flight[i+1:]...)
				break
			}
		}
		return c.fill(out), nil
	}
	return nil, fmt.Errorf("%w: unexpected %s", errProtocol, t)
}

// received takes a message down, unless its QoS 2 identifier says that it was.
func (c *sessionClient) received(out []byte, first byte, body []byte) ([]byte, error) {
	var m packet.Publish
	if err := m.Decode(c.version, first, body); err != nil {
		return nil, fmt.Errorf("%w: PUBLISH: %w", errProtocol, err)
	}
	v, err := strconv.Atoi(string(m.Payload))
	if err != nil || m.QoS != c.granted {
		return nil, fmt.Errorf("%w: payload %q, QoS %d", errProtocol, m.Payload, m.QoS)
	}
	topic := string(bytes.Clone(m.Topic))
	if m.QoS == 1 {
		c.got[topic] = append(c.got[topic], v)
		return packet.AppendAck(out, packet.PUBACK, c.version, m.ID, packet.Success), nil
	}
	if !c.open[m.ID] {
		c.open[m.ID] = true
		c.got[topic] = append(c.got[topic], v)
	} else if !m.Dup {
		return nil, fmt.Errorf("%w: a new message with identifier %d, which is in use", errProtocol, m.ID)
	}
	return packet.AppendAck(out, packet.PUBREC, c.version, m.ID, packet.Success), nil
}

// packets reads packets from a connection.
type packets struct {
	nc  net.Conn
	buf []byte
	mem [32 << 10]byte
}

func (p *packets) next() (first byte, body []byte, err error) {
	for {
		size, body, err := packet.Split(p.buf)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		if body != nil {
			first, p.buf = p.buf[0], p.buf[size:]
			return first, body, nil
		}
		n, err := p.nc.Read(p.mem[:])
		p.buf = append(p.buf, p.mem[:n]...)
		if n == 0 && err != nil {
			return 0, nil, err
		}
	}
}
