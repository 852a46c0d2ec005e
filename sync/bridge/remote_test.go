package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang/packets"

	"rivulet/edge"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// remote is another broker whose every packet the test writes itself.
type remote struct {
	t *testing.T
	l net.Listener
}

func newRemote(t *testing.T, network, addr string) *remote {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &remote{t, l}
}

func (r *remote) url() string {
	if r.l.Addr().Network() == "unix" {
		return "unix://" + r.l.Addr().String()
	}
	return "tcp://" + r.l.Addr().String()
}

// peer is one connection of the bridge, at the remote's end.
type peer struct {
	net.Conn
	t *testing.T
}

// accept waits for a connection and its CONNECT.
func (r *remote) accept() *peer {
	r.t.Helper()
	nc, err := r.l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	p := &peer{nc, r.t}
	next[*mqtt.ConnectPacket](p)
	return p
}

// connack answers CONNECT.
func (p *peer) connack(present bool, code byte) {
	p.t.Helper()
	c := mqtt.NewControlPacket(mqtt.Connack).(*mqtt.ConnackPacket)
	c.SessionPresent, c.ReturnCode = present, code
	p.send(c)
}

// granted answers the SUBSCRIBE that has to come next.
func (p *peer) granted(codes ...byte) *mqtt.SubscribePacket {
	p.t.Helper()
	s := next[*mqtt.SubscribePacket](p)
	a := mqtt.NewControlPacket(mqtt.Suback).(*mqtt.SubackPacket)
	a.MessageID, a.ReturnCodes = s.MessageID, codes
	p.send(a)
	return s
}

func (p *peer) send(c mqtt.ControlPacket) {
	p.t.Helper()
	if err := c.Write(p); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) publish(topic string, qos byte, id uint16, dup bool, payload string) {
	p.t.Helper()
	c := mqtt.NewControlPacket(mqtt.Publish).(*mqtt.PublishPacket)
	c.TopicName, c.Qos, c.MessageID, c.Dup, c.Payload = topic, qos, id, dup, []byte(payload)
	p.send(c)
}

func (p *peer) pubrel(id uint16) {
	p.t.Helper()
	c := mqtt.NewControlPacket(mqtt.Pubrel).(*mqtt.PubrelPacket)
	c.MessageID = id
	p.send(c)
}

// next reads the next packet, which has to be of a type; pings are answered.
func next[T mqtt.ControlPacket](p *peer) T {
	p.t.Helper()
	for {
		c, err := mqtt.ReadPacket(p)
		if err != nil {
			p.t.Fatal(err)
		}
		if want, ok := c.(T); ok {
			return want
		}
		if _, ok := c.(*mqtt.PingreqPacket); !ok {
			p.t.Fatalf("the bridge sent %v", c)
		}
		p.send(mqtt.NewControlPacket(mqtt.Pingresp))
	}
}

// ended waits until the bridge has closed the connection, and returns what it still sent.
func (p *peer) ended() (sent []mqtt.ControlPacket) {
	p.t.Helper()
	for {
		c, err := mqtt.ReadPacket(p)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				p.t.Fatal("the bridge keeps the connection")
			}
			return sent
		}
		sent = append(sent, c)
	}
}

// A connection that the other broker refuses says nothing about its session: a message that was stored is known when it comes again.
func TestRefusedConnectionForgetsNothing(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 2})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(2)
	p.publish("a", 2, 5, false, "once")
	next[*mqtt.PubrecPacket](p)
	_ = p.Close()
	p = r.accept()
	p.connack(false, mqtt.ErrRefusedServerUnavailable)
	_ = p.Close()
	p = r.accept()
	p.connack(true, 0)
	p.publish("a", 2, 5, true, "once")
	next[*mqtt.PubrecPacket](p)
	p.pubrel(5)
	next[*mqtt.PubcompPacket](p)
	if got := near.logged("mqtt")["a"]; len(got) != 1 {
		t.Errorf("stored %d times", len(got))
	}
	if st := b.Status(); st.Again != 1 {
		t.Errorf("%+v", st)
	}
}

// What was granted in a session that is gone does not count for the one that took its place.
func TestSubscriptionsBelongToTheirSession(t *testing.T) {
	for name, cut := range map[string]func(p *peer){
		"lost before SUBACK":  func(p *peer) { p.connack(false, 0); next[*mqtt.SubscribePacket](p) },
		"refused":             func(p *peer) { p.connack(false, 0); p.granted(0x80) },
		"lost before CONNACK": func(*peer) {},
	} {
		t.Run(name, func(t *testing.T) {
			near := openSite(t, "near", t.TempDir())
			defer near.close()
			r := newRemote(t, "tcp", "127.0.0.1:0")
			b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1})
			defer stop()
			p := r.accept()
			p.connack(false, 0)
			p.granted(1)
			isUp(t, b)
			_ = p.Close()
			// The other broker has lost the session, and makes a new one.
			p = r.accept()
			cut(p)
			_ = p.Close()
			p = r.accept()
			p.connack(true, 0)
			p.granted(1)
			p.publish("a", 1, 1, false, "it comes")
			next[*mqtt.PubackPacket](p)
		})
	}
}

// A new session's packet ids mean other messages than those of the session that is gone.
func TestIDsBelongToTheirSession(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r, other := newRemote(t, "tcp", "127.0.0.1:0"), newRemote(t, "tcp", "127.0.0.1:0")
	o := Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 2}
	_, stop := running(t, o)
	p := r.accept()
	p.connack(false, 0)
	p.granted(2)
	p.publish("a", 2, 5, false, "first")
	next[*mqtt.PubrecPacket](p)
	_ = p.Close()
	// The other broker forgets the session, and its CONNACK that says so is lost.
	p = r.accept()
	_ = p.Close()
	p = r.accept()
	p.connack(true, 0)
	p.granted(2)
	p.publish("a", 2, 5, false, "second")
	next[*mqtt.PubrecPacket](p)
	if got := near.logged("mqtt")["a"]; strings.Join(got, " ") != "first second" {
		t.Error(got)
	}
	stop()
	// The configuration names another broker, which has a session of this client.
	o.URL = other.url()
	_, stop = running(t, o)
	defer stop()
	p = other.accept()
	p.connack(true, 0)
	p.granted(2)
	p.publish("a", 2, 5, true, "third")
	next[*mqtt.PubrecPacket](p)
	if got := near.logged("mqtt")["a"]; strings.Join(got, " ") != "first second third" {
		t.Error(got)
	}
}

// A SUBACK that does not fit its SUBSCRIBE is the end of the connection, not of the program, and grants nothing.
func TestOddSubacks(t *testing.T) {
	for name, codes := range map[string][]byte{"too many": {1, 1, 1}, "too few": {1}, "none": {}} {
		t.Run(name, func(t *testing.T) {
			near := openSite(t, "near", t.TempDir())
			defer near.close()
			r := newRemote(t, "tcp", "127.0.0.1:0")
			b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a", "b"}, QoS: 1})
			defer stop()
			p := r.accept()
			p.connack(false, 0)
			p.granted(codes...)
			p.ended()
			eventually(t, "it shows", func() bool { return strings.Contains(b.Status().Error, "subscribe") })
			if b.Status().Connects != 0 {
				t.Error("it counts as connected")
			}
		})
	}
	t.Run("UNSUBACK", func(t *testing.T) {
		near := openSite(t, "near", t.TempDir())
		defer near.close()
		r := newRemote(t, "tcp", "127.0.0.1:0")
		b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a", "b"}, QoS: 1})
		defer stop()
		p := r.accept()
		p.connack(false, 0)
		a := mqtt.NewControlPacket(mqtt.Unsuback).(*mqtt.UnsubackPacket)
		a.MessageID = next[*mqtt.SubscribePacket](p).MessageID
		p.send(a)
		p.ended()
		if b.Status().Connects != 0 {
			t.Error("it counts as connected")
		}
	})
}

// What is stored is acknowledged before an orderly end: it would be there twice.
func TestPauseAcknowledges(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	isUp(t, b)
	const rounds, each = 20, 10
	for n := range rounds {
		for i := range each {
			p.publish("a", 1, uint16(i+1), false, "x")
		}
		eventually(t, "all are stored", func() bool { return len(near.logged("mqtt")["a"]) >= (n+1)*each })
		b.Pause()
		acked, polite := 0, false
		for _, c := range p.ended() {
			switch c.(type) {
			case *mqtt.PubackPacket:
				acked++
			case *mqtt.DisconnectPacket:
				polite = true
			}
		}
		if acked != each || !polite {
			t.Fatalf("%d of %d stored messages were acknowledged before the end; DISCONNECT: %v", acked, each, polite)
		}
		b.Resume()
		p = r.accept()
		p.connack(true, 0)
	}
}

// Another broker that reads nothing does not hold up the end.
func TestEndWhenNobodyReads(t *testing.T) {
	t.Parallel() // it takes seconds
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "unix", t.TempDir()+"/s")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1})
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	isUp(t, b)
	var all bytes.Buffer
	for i := range 20000 {
		all.Write([]byte{0x32, 6, 0, 1, 'a'})
		all.Write(binary.BigEndian.AppendUint16(nil, uint16(i+1)))
		all.WriteByte('x')
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { _, _ = p.Write(all.Bytes()) }) // as much as the bridge takes
	eventually(t, "acknowledgements are stuck", func() bool { return b.Status().InFlight >= 1024 })
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the bridge does not end")
		_ = p.Close()
		<-ended
	}
}

// A message that could not be stored because the end came is not acknowledged.
func TestEndWhileFull(t *testing.T) {
	dir := t.TempDir()
	near := &site{t: t, dir: dir}
	var err error
	near.store, err = storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 1 << 20, TailBytes: 1 << 20, LogFileBytes: 1 << 20, MaxBytes: 20 << 20, WhenFull: storage.Refuse})
	if err != nil {
		t.Fatal(err)
	}
	if near.broker, err = edge.Open(t.Context(), edge.Options{Edge: "near", Store: near.store, Routes: []edge.Route{{MQTT: "new/+", Topic: "{1}"}}}); err != nil {
		t.Fatal(err)
	}
	defer near.close()
	fillUp(t, near.store)
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"new/#"}, QoS: 1})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	isUp(t, b)
	p.publish("new/t", 1, 1, false, "x")
	eventually(t, "the bridge waits", func() bool { return b.Status().State == StateWaiting })
	b.Pause()
	for _, c := range p.ended() {
		if _, ok := c.(*mqtt.PubackPacket); ok {
			t.Error("acknowledged, and stored nowhere")
		}
	}
	if st := b.Status(); st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// fillUp writes until the store is full.
func fillUp(t *testing.T, s *storage.Store) {
	t.Helper()
	tp, err := s.CreateTopic(t.Context(), "full", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 128<<10)
	x := uint64(1)
	for n := 0; ; n++ {
		for i := range noise {
			x = x*6364136223846793005 + 1442695040888963407
			noise[i] = byte(x >> 56)
		}
		err := s.Do(t.Context(), &storage.Commit{Appends: []storage.Append{{
			Partition: tp.Partitions[0], Records: []batch.Record{{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, noise, nil)}},
		}}})
		if errors.Is(err, edge.ErrFull) {
			return
		}
		if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
	}
}

// A store that is being closed refuses a message, which is not the message's fault.
func TestClosedStoreAcknowledgesNothing(t *testing.T) {
	near := openSite(t, "near", t.TempDir(), edge.Route{MQTT: "new/+", Topic: "{1}"})
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"#"}, QoS: 1})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	isUp(t, b)
	near.close()
	p.publish("new/t", 1, 1, false, "x")
	if sent := p.ended(); len(sent) > 0 {
		if _, ok := sent[0].(*mqtt.PubackPacket); ok {
			t.Error("acknowledged, and stored nowhere")
		}
	}
	if st := b.Status(); st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// QoS 3 is the end of the connection.
func TestQoS3(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	p.publish("a", 3, 1, false, "x")
	p.ended()
	eventually(t, "it shows", func() bool { return strings.Contains(b.Status().Error, "QoS 3") })
	if got := near.logged("mqtt"); len(got) != 0 {
		t.Error(got)
	}
}

// A message larger than any that can be stored is dropped before it is in memory, and does not hold up what is behind it.
func TestGiantMessages(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 2})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(2)
	giant := strings.Repeat("x", maxPacket)
	for _, qos := range []byte{2, 0, 1} {
		p.publish("a", 1, 1, false, "before")
		next[*mqtt.PubackPacket](p)
		p.publish("a", qos, 2, false, giant)
		switch qos {
		case 1:
			next[*mqtt.PubackPacket](p)
		case 2:
			next[*mqtt.PubrecPacket](p)
			p.pubrel(2)
			next[*mqtt.PubcompPacket](p)
		}
		p.publish("a", 1, 3, false, "behind")
		next[*mqtt.PubackPacket](p)
	}
	if st := b.Status(); st.Refused != 3 || st.Committed != 6 {
		t.Errorf("%+v", st)
	}
	if got := near.logged("mqtt")["a"]; strings.Join(got, " ") != strings.TrimSpace(strings.Repeat("before behind ", 3)) {
		t.Error(got)
	}
}

// While the store takes nothing, nothing is read; that is no reason to give the connection up, for either side.
func TestWaitingKeepsTheConnection(t *testing.T) {
	t.Parallel() // it takes seconds
	dir := t.TempDir()
	near := &site{t: t, dir: dir}
	var err error
	near.store, err = storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 1 << 20, TailBytes: 1 << 20, LogFileBytes: 1 << 20, MaxBytes: 20 << 20, WhenFull: storage.Refuse})
	if err != nil {
		t.Fatal(err)
	}
	if near.broker, err = edge.Open(t.Context(), edge.Options{Edge: "near", Store: near.store}); err != nil {
		t.Fatal(err)
	}
	defer near.close()
	fillUp(t, near.store)
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1, InFlight: 1, KeepAlive: 3 * time.Second})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	for id := range uint16(20) {
		p.publish("a", 1, id+1, false, "x")
	}
	eventually(t, "the bridge waits", func() bool { return b.Status().State == StateWaiting && b.Status().Received >= 2 })
	lost := b.Status().Lost
	for range 4 { // pings go on, although nobody reads what answers them
		next[*mqtt.PingreqPacket](p)
		p.send(mqtt.NewControlPacket(mqtt.Pingresp))
	}
	if st := b.Status(); st.Lost != lost || st.State != StateWaiting {
		t.Errorf("%+v", st)
	}
}

// A peer that is there and says nothing, not even to pings, is given up.
func TestSilentPeerIsGivenUp(t *testing.T) {
	t.Parallel() // it takes seconds
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	r := newRemote(t, "tcp", "127.0.0.1:0")
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: r.url(), Subscribe: []string{"a"}, QoS: 1, KeepAlive: 3 * time.Second})
	defer stop()
	p := r.accept()
	p.connack(false, 0)
	p.granted(1)
	p.ended()
	eventually(t, "it shows", func() bool { return b.Status().Error != "" })
}
