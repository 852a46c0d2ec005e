package mqtt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server on a real broker and store.
type rig struct {
	t      testing.TB
	dir    string
	store  *storage.Store
	broker *edge.Broker
	srv    *Server
	addr   string
	served chan error
	log    *syncBuffer
	closed bool
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// rigOptions changes what start uses.
type rigOptions struct {
	store  func(*storage.Options)
	broker func(*edge.Options)
	server func(*Options)
	reader func(*logReader)
}

func newRig(t testing.TB, o rigOptions) *rig {
	r := &rig{t: t, dir: t.TempDir(), log: &syncBuffer{}}
	r.start(o)
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start(o rigOptions) {
	r.t.Helper()
	so := storage.Options{Dir: r.dir, Labels: edge.Labels()}
	if o.store != nil {
		o.store(&so)
	}
	var err error
	if r.store, err = storage.Open(context.Background(), so); err != nil {
		r.t.Fatal(err)
	}
	bo := edge.Options{Edge: "test", Store: r.store}
	if o.broker != nil {
		o.broker(&bo)
	}
	if r.broker, err = edge.Open(context.Background(), bo); err != nil {
		r.t.Fatal(err)
	}
	mo := Options{Broker: r.broker, Log: slog.New(slog.NewTextHandler(r.log, nil)), CloseTimeout: time.Second}
	if o.server != nil {
		o.server(&mo)
	}
	r.srv = New(mo)
	if o.reader != nil {
		o.reader(&r.srv.reader)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr, r.served, r.closed = l.Addr().String(), make(chan error, 1), false
	go func() { r.served <- r.srv.Serve(context.Background(), l) }()
	eventually(r.t, "the server serves", func() bool {
		r.srv.mu.Lock()
		defer r.srv.mu.Unlock()
		return r.srv.started
	})
}

func (r *rig) stop() {
	if r.closed {
		return
	}
	r.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.srv.Close(ctx); err != nil {
		r.t.Errorf("close server: %v", err)
	}
	if err := <-r.served; err != nil {
		r.t.Errorf("serve: %v", err)
	}
	if err := r.broker.Close(); err != nil {
		r.t.Errorf("close broker: %v", err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Errorf("close store: %v", err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// peer is a client that says exactly what a test wants.
type peer struct {
	t   testing.TB
	nc  net.Conn
	v   packet.Version
	buf []byte
	id  uint16

	chunk []byte
}

func (r *rig) dial(v packet.Version) *peer {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	return &peer{t: r.t, nc: nc, v: v}
}

// pipe is dial without a network: nothing is buffered between the two ends.
func (r *rig) pipe(v packet.Version) *peer {
	near, far := net.Pipe()
	r.t.Cleanup(func() { _ = near.Close() })
	r.srv.accept(far)
	return &peer{t: r.t, nc: near, v: v}
}

// connect dials and connects; change may alter the CONNECT.
func (r *rig) connect(v packet.Version, id string, change func(*packet.Connect)) *peer {
	r.t.Helper()
	p, ack := r.connack(v, id, change)
	if ack.Reason != packet.Success {
		r.t.Fatalf("CONNACK: reason 0x%02x %s", byte(ack.Reason), ack.Properties.ReasonString)
	}
	return p
}

func (r *rig) connack(v packet.Version, id string, change func(*packet.Connect)) (*peer, packet.Connack) {
	r.t.Helper()
	p := r.dial(v)
	return p, p.login(id, change)
}

func (p *peer) login(id string, change func(*packet.Connect)) packet.Connack {
	p.t.Helper()
	c := packet.Connect{Version: p.v, CleanStart: true, KeepAlive: 60, ClientID: []byte(id)}
	if change != nil {
		change(&c)
	}
	p.write(c.Append(nil))
	return p.wantConnack()
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// read returns the next packet.
func (p *peer) read() (first byte, body []byte, err error) {
	_ = p.nc.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		size, body, err := packet.Split(p.buf)
		if err != nil {
			return 0, nil, err
		}
		if body != nil {
			first, p.buf = p.buf[0], p.buf[size:]
			return first, body, nil
		}
		if p.chunk == nil {
			p.chunk = make([]byte, 64<<10)
		}
		n, err := p.nc.Read(p.chunk)
		if p.buf = append(p.buf, p.chunk[:n]...); n == 0 && err != nil {
			return 0, nil, err
		}
	}
}

func (p *peer) want(t packet.Type) (first byte, body []byte) {
	p.t.Helper()
	first, body, err := p.read()
	if err != nil {
		p.t.Fatalf("want %s: %v", t, err)
	}
	if packet.TypeOf(first) != t {
		p.t.Fatalf("want %s, got %s %x", t, packet.TypeOf(first), body[:min(len(body), 100)])
	}
	return first, body
}

func (p *peer) wantConnack() (a packet.Connack) {
	p.t.Helper()
	first, body := p.want(packet.CONNACK)
	if err := a.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *peer) wantAck(t packet.Type, id uint16, reason packet.Reason) {
	p.t.Helper()
	first, body := p.want(t)
	var a packet.Ack
	if err := a.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	if a.ID != id || a.Reason != reason {
		p.t.Fatalf("%s: id %d reason 0x%02x, want id %d reason 0x%02x", t, a.ID, byte(a.Reason), id, byte(reason))
	}
}

func (p *peer) wantPublish() packet.Publish {
	p.t.Helper()
	first, body := p.want(packet.PUBLISH)
	var m packet.Publish
	if err := m.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// wantMessage reads a PUBLISH, checks it and acknowledges it.
func (p *peer) wantMessage(topic, payload string, qos byte) packet.Publish {
	p.t.Helper()
	m := p.wantPublish()
	if string(m.Topic) != topic || string(m.Payload) != payload || m.QoS != qos {
		p.t.Fatalf("got %s %.40q QoS %d, want %s %.40q QoS %d", m.Topic, m.Payload, m.QoS, topic, payload, qos)
	}
	if qos == 1 {
		p.write(packet.AppendAck(nil, packet.PUBACK, p.v, m.ID, packet.Success))
	}
	return m
}

// wantNothing checks that nothing comes before the answer to a ping.
func (p *peer) wantNothing() {
	p.t.Helper()
	p.write(packet.AppendPing(nil, packet.PINGREQ))
	p.want(packet.PINGRESP)
}

// wantEnd checks that the server closes, in MQTT 5 after a DISCONNECT with that reason.
func (p *peer) wantEnd(reason packet.Reason) {
	p.t.Helper()
	first, body, err := p.read()
	for ; err == nil && packet.TypeOf(first) != packet.DISCONNECT; first, body, err = p.read() {
	}
	if p.v >= packet.V5 && reason != packet.Success {
		if err != nil {
			p.t.Fatalf("want DISCONNECT 0x%02x: %v", byte(reason), err)
		}
		var d packet.Disconnect
		if err := d.Decode(p.v, first, body); err != nil {
			p.t.Fatal(err)
		}
		if d.Reason != reason {
			p.t.Fatalf("DISCONNECT 0x%02x %s, want 0x%02x", byte(d.Reason), d.Properties.ReasonString, byte(reason))
		}
		_, _, err = p.read()
	}
	if !errors.Is(err, io.EOF) {
		p.t.Fatalf("want the end of the connection, got %v", err)
	}
}

func (p *peer) nextID() uint16 {
	p.id++
	return p.id
}

func (p *peer) publish(topic, payload string, qos byte, change func(*packet.Publish)) uint16 {
	p.t.Helper()
	m := packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
	if qos > 0 {
		m.ID = p.nextID()
	}
	if change != nil {
		change(&m)
	}
	p.write(m.Append(nil, p.v))
	return m.ID
}

// stored publishes with QoS 1 and waits for the acknowledgement.
func (p *peer) stored(topic, payload string, change func(*packet.Publish)) {
	p.t.Helper()
	p.wantAck(packet.PUBACK, p.publish(topic, payload, 1, change), packet.Success)
}

func (p *peer) subscribe(filter string, qos byte, change func(*packet.Subscribe)) []packet.Reason {
	p.t.Helper()
	s := packet.Subscribe{ID: p.nextID(), Topics: []packet.Subscription{{Filter: []byte(filter), QoS: qos}}}
	if change != nil {
		change(&s)
	}
	p.write(s.Append(nil, p.v))
	first, body := p.want(packet.SUBACK)
	var a packet.Suback
	if err := a.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	if a.ID != s.ID {
		p.t.Fatalf("SUBACK of %d, want %d", a.ID, s.ID)
	}
	return a.Reasons
}

func (p *peer) unsubscribe(filter string) []packet.Reason {
	p.t.Helper()
	u := packet.Unsubscribe{ID: p.nextID(), Filters: [][]byte{[]byte(filter)}}
	p.write(u.Append(nil, p.v))
	first, body := p.want(packet.UNSUBACK)
	var a packet.Suback
	if err := a.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	return a.Reasons
}

func (p *peer) disconnect() {
	p.t.Helper()
	p.write((&packet.Disconnect{}).Append(nil, packet.DISCONNECT, p.v))
	p.wantEnd(packet.Success)
}

// versions runs a test with each protocol version.
func versions(t *testing.T, test func(t *testing.T, v packet.Version)) {
	for _, v := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		t.Run(v.String(), func(t *testing.T) { test(t, v) })
	}
}
