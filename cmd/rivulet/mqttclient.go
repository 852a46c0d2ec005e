package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/mqtt/packet"
)

// mqttFlags say how a verb reaches the broker over MQTT.
type mqttFlags struct {
	r    *remote
	addr string
	ca   string
}

// mqttClient speaks MQTT 5 for the verbs, which need its properties. Its goroutine reads; the verb acknowledges what it is done with.
type mqttClient struct {
	nc       net.Conn
	id       string
	messages chan packet.Publish // what came, each with memory of its own
	ended    chan struct{}       // closed when the connection is lost

	mu     sync.Mutex // guards what follows, and keeps packets whole
	err    error
	nextID uint16
	open   map[uint16]chan answer // by packet id
}

// answer is the last acknowledgement of a packet.
type answer struct {
	err     error
	reasons []packet.Reason // of SUBACK
}

const (
	mqttKeepAlive = 30 * time.Second
	mqttTimeout   = 10 * time.Second
	// mqttWindow is how many messages may wait for who prints them, and how many QoS 1 and 2 messages come unacknowledged.
	mqttWindow = 1000
)

// target is the address to dial, and whether it is TLS.
func (f *mqttFlags) target(ctx context.Context) (network, addr string, secure bool) {
	addr = f.addr
	if addr == "" {
		addr = "127.0.0.1:1883"
		if b, err := f.r.brokerInfo(ctx); err == nil && b.Addresses["mqtt"] != "" {
			addr = b.Addresses["mqtt"]
		}
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", strings.TrimPrefix(path, "//"), false
	}
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		return "tcp", addr, f.ca != ""
	}
	return "tcp", rest, scheme != "tcp" && scheme != "mqtt"
}

func (f *mqttFlags) dial(ctx context.Context) (net.Conn, string, error) {
	network, addr, secure := f.target(ctx)
	ctx, cancel := context.WithTimeout(ctx, mqttTimeout)
	defer cancel()
	if !secure {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return nc, addr, err
	}
	tc, err := clientTLS(&config.ClientTLS{CA: f.ca})
	if err != nil {
		return nil, addr, err
	}
	nc, err := (&tls.Dialer{Config: tc}).DialContext(ctx, network, addr)
	return nc, addr, err
}

// connect logs in. Without an id the session ends with the connection; with one it is kept for a day.
func (f *mqttFlags) connect(ctx context.Context, id string) (*mqttClient, error) {
	user, password, err := f.r.login()
	if err != nil {
		return nil, err
	}
	nc, addr, err := f.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to MQTT at %s: %w; start a broker with `rivulet serve`, or say --mqtt", addr, err)
	}
	c := &mqttClient{
		nc: nc, id: id, messages: make(chan packet.Publish, mqttWindow), ended: make(chan struct{}),
		open: map[uint16]chan answer{},
	}
	p := packet.Connect{Version: packet.V5, CleanStart: id == "", KeepAlive: uint16(mqttKeepAlive / time.Second)}
	p.Properties.ReceiveMaximum = mqttWindow
	p.Properties.Mark(packet.PropReceiveMaximum)
	if id == "" {
		c.id = "rivulet-" + rand.Text()[:12]
	} else {
		p.Properties.SessionExpiry = 24 * 3600
		p.Properties.Mark(packet.PropSessionExpiry)
	}
	p.ClientID = []byte(c.id)
	if user != "" {
		p.User = []byte(user)
		p.Password = []byte(password)
	}
	r := bufio.NewReaderSize(nc, 64<<10)
	if err := c.login(ctx, r, &p); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to MQTT at %s: %w", addr, err), nc.Close())
	}
	go c.read(r)
	go c.ping()
	return c, nil
}

func (c *mqttClient) login(ctx context.Context, r *bufio.Reader, p *packet.Connect) error {
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.nc.SetDeadline(time.Now().Add(mqttTimeout))
	if _, err := c.nc.Write(p.Append(nil)); err != nil {
		return err
	}
	first, body, err := readPacket(r)
	if err != nil {
		return err
	}
	var ack packet.Connack
	if err := ack.Decode(packet.V5, first, body); err != nil {
		return err
	}
	if ack.Reason.Failed() {
		return refusal(ack.Reason, &ack.Properties)
	}
	return c.nc.SetDeadline(time.Time{})
}

// refusal is what the broker answered, as an error.
func refusal(r packet.Reason, p *packet.Properties) error {
	if len(p.ReasonString) > 0 {
		return fmt.Errorf("the broker refuses: %s", p.ReasonString)
	}
	return fmt.Errorf("the broker refuses, reason 0x%02x", byte(r))
}

// readPacket reads one packet into memory of its own.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	head, n := make([]byte, 0, 5), 0
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		head = append(head, b)
		if n = len(head); n > 1 && (b < 0x80 || n == 5) {
			break
		}
	}
	size := 0
	for i, b := range head[1:] {
		size |= int(b&0x7F) << (7 * i)
	}
	if size > packet.MaxSize {
		return 0, nil, errors.New("the broker sent a packet that is too long")
	}
	body = make([]byte, size)
	for at := 0; at < size; {
		k, err := r.Read(body[at:])
		if at += k; err != nil {
			return 0, nil, err
		}
	}
	return head[0], body, nil
}

func (c *mqttClient) read(r *bufio.Reader) {
	var err error
	for err == nil {
		var first byte
		var body []byte
		if first, body, err = readPacket(r); err == nil {
			err = c.handle(first, body)
		}
	}
	c.end(err)
}

// end tells everyone who waits.
func (c *mqttClient) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = errors.Join(errLost, err)
	for id, wait := range c.open {
		wait <- answer{err: c.err}
		delete(c.open, id)
	}
	close(c.ended)
	_ = c.nc.Close()
}

func (c *mqttClient) handle(first byte, body []byte) error {
	switch t := packet.TypeOf(first); t {
	case packet.PUBLISH:
		var m packet.Publish
		if err := m.Decode(packet.V5, first, body); err != nil {
			return err
		}
		c.messages <- m
	case packet.PUBACK, packet.PUBREC, packet.PUBCOMP, packet.PUBREL:
		var a packet.Ack
		if err := a.Decode(packet.V5, first, body); err != nil {
			return err
		}
		switch {
		case t == packet.PUBREL:
			return c.write(packet.AppendAck(nil, packet.PUBCOMP, packet.V5, a.ID, packet.Success))
		case t == packet.PUBREC && !a.Reason.Failed():
			return c.write(packet.AppendAck(nil, packet.PUBREL, packet.V5, a.ID, packet.Success))
		}
		var failed error
		if a.Reason.Failed() {
			failed = refusal(a.Reason, &a.Properties)
		}
		c.settle(a.ID, answer{err: failed})
	case packet.SUBACK:
		var a packet.Suback
		if err := a.Decode(packet.V5, first, body); err != nil {
			return err
		}
		ans := answer{reasons: append([]packet.Reason(nil), a.Reasons...)}
		for _, r := range a.Reasons {
			if r.Failed() {
				ans.err = refusal(r, &a.Properties)
			}
		}
		c.settle(a.ID, ans)
	case packet.DISCONNECT:
		var d packet.Disconnect
		if err := d.Decode(packet.V5, first, body); err != nil {
			return err
		}
		return refusal(d.Reason, &d.Properties)
	}
	return nil
}

// acknowledge says that the verb is done with messages. What was not acknowledged comes again to a session that is kept.
func (c *mqttClient) acknowledge(messages ...packet.Publish) error {
	var b []byte
	for i := range messages {
		switch m := &messages[i]; m.QoS {
		case 1:
			b = packet.AppendAck(b, packet.PUBACK, packet.V5, m.ID, packet.Success)
		case 2:
			b = packet.AppendAck(b, packet.PUBREC, packet.V5, m.ID, packet.Success)
		}
	}
	if b == nil {
		return nil
	}
	if err := c.write(b); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

func (c *mqttClient) settle(id uint16, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.open[id]; wait != nil {
		wait <- a
		delete(c.open, id)
	}
}

func (c *mqttClient) write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.nc.Write(b)
	return err
}

// begin takes a packet id and writes the packet that put makes with it; what comes back is the answer.
func (c *mqttClient) begin(put func(id uint16) []byte) <-chan answer {
	wait := make(chan answer, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		wait <- answer{err: c.err}
		return wait
	}
	for c.nextID++; c.nextID == 0 || c.open[c.nextID] != nil; c.nextID++ {
	}
	c.open[c.nextID] = wait
	if _, err := c.nc.Write(put(c.nextID)); err != nil {
		_ = c.nc.Close() // the reader ends everything
	}
	return wait
}

// publish sends a message; with QoS 0 the answer is there at once.
func (c *mqttClient) publish(m packet.Publish) <-chan answer {
	if m.QoS == 0 {
		wait := make(chan answer, 1)
		wait <- answer{err: c.write(m.Append(nil, packet.V5))}
		return wait
	}
	return c.begin(func(id uint16) []byte {
		m.ID = id
		return m.Append(nil, packet.V5)
	})
}

func (c *mqttClient) subscribe(ctx context.Context, s packet.Subscribe) error {
	_, err := awaitAnswer(ctx, c.begin(func(id uint16) []byte {
		s.ID = id
		return s.Append(nil, packet.V5)
	}))
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

func awaitAnswer(ctx context.Context, wait <-chan answer) (answer, error) {
	select {
	case a := <-wait:
		return a, a.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (c *mqttClient) ping() {
	tick := time.NewTicker(mqttKeepAlive / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.write(packet.AppendPing(nil, packet.PINGREQ)) != nil {
				return
			}
		case <-c.ended:
			return
		}
	}
}

// close says goodbye. The server closes; messages that nobody takes any more are dropped, and not acknowledged.
func (c *mqttClient) close() {
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.write((&packet.Disconnect{}).Append(nil, packet.DISCONNECT, packet.V5))
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
	for {
		select {
		case <-c.messages:
		case <-c.ended:
			return
		}
	}
}

func checkQoS(qos int) error {
	if qos < 0 || qos > 2 {
		return usageError("--qos %d: want 0, 1 or 2", qos)
	}
	return nil
}

var errLost = errors.New("the broker closed the connection")
