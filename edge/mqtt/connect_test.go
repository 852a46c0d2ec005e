package mqtt

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// endsWithoutWords checks that the server closes and says nothing.
func endsWithoutWords(t *testing.T, p *peer) {
	t.Helper()
	if first, body, err := p.read(); err == nil {
		t.Fatalf("got %s %x, want the connection closed", packet.TypeOf(first), body)
	}
}

func TestMQTT_3_1_0_1_FirstPacketIsConnect(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.dial(packet.V311)
	p.write(packet.AppendPing(nil, packet.PINGREQ))
	endsWithoutWords(t, p)
	if !strings.Contains(r.log.String(), "MQTT-3.1.0-1") {
		t.Errorf("log does not say why: %s", r.log)
	}
}

func TestMQTT_3_1_0_2_SecondConnect(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		p := r.connect(v, "c", nil)
		p.write((&packet.Connect{Version: v, ClientID: []byte("c"), CleanStart: true}).Append(nil))
		p.wantEnd(packet.ProtocolError)
	})
}

func TestMQTT_3_1_2_1_ProtocolName(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.dial(packet.V311)
	p.write([]byte("\x10\x0d\x00\x04HTTP\x04\x02\x00\x3c\x00\x01a"))
	endsWithoutWords(t, p)
}

func TestMQTT_3_1_2_2_ProtocolLevel(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.dial(packet.V311)
	p.write([]byte("\x10\x0d\x00\x04MQTT\x03\x02\x00\x3c\x00\x01a"))
	if a := p.wantConnack(); a.Reason != packet.UnsupportedVersion {
		t.Errorf("level 3: reason 0x%02x", byte(a.Reason))
	}
	p.wantEnd(packet.Success)
	p = r.dial(packet.V5)
	p.write([]byte("\x10\x0e\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x01a"))
	if a := p.wantConnack(); a.Reason != packet.UnsupportedVersion {
		t.Errorf("level 6: reason 0x%02x", byte(a.Reason))
	}
}

// A client that takes no CONNACK gets none, and no session.
func TestMQTT_3_1_2_24_ConnackTooLarge(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := packet.Connect{Version: packet.V5, KeepAlive: 60, ClientID: []byte("small")}
	c.Properties.SessionExpiry, c.Properties.MaximumPacketSize = 60, 10
	c.Properties.Mark(packet.PropSessionExpiry, packet.PropMaximumPacketSize)
	p := r.dial(packet.V5)
	p.write(c.Append(nil))
	endsWithoutWords(t, p)
	if v, err := r.store.Get(sessionSpace, "small"); v != nil || err != nil {
		t.Errorf("session %s, %v", v, err)
	}
	c.Properties.MaximumPacketSize = 16
	p = r.dial(packet.V5)
	p.write(c.Append(nil))
	if a := p.wantConnack(); a.Reason != packet.Success {
		t.Errorf("reason 0x%02x", byte(a.Reason))
	}
}

// MQTT 3.1 sets DUP in packets with an identifier that are sent again; 3.1.1 has reserved that bit.
func TestMQTT31SendsAgainWithDup(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, c := range []struct {
		bytes string
		want  packet.Type
	}{
		{wire(0x6a, "\x00\x07"), packet.PUBCOMP},
		{wire(0x8a, "\x00\x07"+text("t")+"\x00"), packet.SUBACK},
		{wire(0xaa, "\x00\x07"+text("t")), packet.UNSUBACK},
	} {
		p := r.connect(packet.V31, "c", nil)
		p.write([]byte(c.bytes))
		p.want(c.want)
		p = r.connect(packet.V311, "c", nil)
		p.write([]byte(c.bytes))
		if err := p.ends(packet.Success); err != nil {
			t.Errorf("%x: %v", c.bytes, err)
		}
	}
}

// Before 3.1.1 the byte of session present is reserved.
func TestMQTT31HasNoSessionPresent(t *testing.T) {
	r := newRig(t, rigOptions{})
	kept := func(c *packet.Connect) { c.CleanStart = false }
	for _, v := range []packet.Version{packet.V31, packet.V311} {
		p := r.connect(v, "kept", kept)
		p.disconnect()
		if _, a := r.connack(v, "kept", kept); a.SessionPresent != (v == packet.V311) {
			t.Errorf("%v: session present %v", v, a.SessionPresent)
		}
	}
}

func TestMQTT_3_1_3_8_EmptyClientID(t *testing.T) {
	r := newRig(t, rigOptions{})
	dirty := func(c *packet.Connect) { c.CleanStart = false }
	if _, a := r.connack(packet.V311, "", dirty); a.Reason != packet.InvalidClientID {
		t.Errorf("3.1.1, clean session 0: reason 0x%02x", byte(a.Reason))
	}
	if _, a := r.connack(packet.V31, "", nil); a.Reason != packet.InvalidClientID {
		t.Errorf("3.1: reason 0x%02x", byte(a.Reason))
	}
	if _, a := r.connack(packet.V311, "", nil); a.Reason != packet.Success {
		t.Errorf("3.1.1, clean session 1: reason 0x%02x", byte(a.Reason))
	}
	_, a := r.connack(packet.V5, "", dirty)
	_, b := r.connack(packet.V5, "", dirty)
	if a.Reason != packet.Success || len(a.Properties.AssignedClientID) == 0 || string(a.Properties.AssignedClientID) == string(b.Properties.AssignedClientID) {
		t.Errorf("5: reason 0x%02x, assigned %q and %q", byte(a.Reason), a.Properties.AssignedClientID, b.Properties.AssignedClientID)
	}
}

func TestOddClientIDs(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, id := range []string{"with space", "ümlaut/+/#$%", strings.Repeat("x", 1024)} {
		p := r.connect(packet.V311, id, func(c *packet.Connect) { c.CleanStart = false })
		p.stored("t", "x", nil)
		p.disconnect()
	}
	if _, a := r.connack(packet.V5, strings.Repeat("x", 1025), nil); a.Reason != packet.InvalidClientID {
		t.Errorf("1025 bytes: reason 0x%02x", byte(a.Reason))
	}
}

func TestConnectMalformed(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.dial(packet.V5) // reserved flag
	p.write([]byte("\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01a"))
	if a := p.wantConnack(); a.Reason != packet.MalformedPacket {
		t.Errorf("reason 0x%02x", byte(a.Reason))
	}
	p.wantEnd(packet.Success)
	if r.srv.Stats().Malformed == 0 {
		t.Error("not counted")
	}
}

type acl func(p *edge.Principal, op edge.Op, resource string) bool

func (a acl) Allow(p *edge.Principal, op edge.Op, resource string) bool { return a(p, op, resource) }

func TestAuthorize(t *testing.T) {
	r := newRig(t, rigOptions{broker: func(o *edge.Options) {
		o.Authorize = acl(func(p *edge.Principal, _ edge.Op, resource string) bool {
			return strings.HasPrefix(resource, p.Client+"/")
		})
	}})
	versions(t, func(t *testing.T, v packet.Version) {
		c := r.connect(v, "c", nil)
		want := packet.Unspecified
		if v >= packet.V5 {
			want = packet.NotAuthorized
		}
		if got := c.subscribe("d/#", 1, nil); got[0] != want {
			t.Errorf("SUBACK 0x%02x, want 0x%02x", byte(got[0]), byte(want))
		}
		c.stored("c/x", "yes", nil)
		// Before MQTT 5 a refused message is acknowledged like any other (MQTT-3.3.5-2).
		denied := packet.Success
		if v >= packet.V5 {
			denied = packet.NotAuthorized
		}
		c.wantAck(packet.PUBACK, c.publish("d/x", "no", 1, nil), denied)
		c.wantAck(packet.PUBREC, c.publish("d/x", "no", 2, nil), denied)
		c.wantNothing()
		c.disconnect()
	})
	if got := r.srv.Stats().Denied; got != 9 {
		t.Errorf("%d refusals counted", got)
	}
}

func TestMaxConnections(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxConnections = 1 }})
	r.connect(packet.V5, "a", nil)
	if _, a := r.connack(packet.V5, "b", nil); a.Reason != packet.ServerBusy {
		t.Errorf("reason 0x%02x", byte(a.Reason))
	}
	eventually(t, "the refused connection is forgotten", func() bool { return r.srv.Stats().Connections == 1 })
}

func TestConnectTimeout(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.ConnectTimeout = 20 * time.Millisecond }})
	endsWithoutWords(t, r.dial(packet.V311))
}

func TestMQTT_3_1_2_22_KeepAlive(t *testing.T) {
	r := newRig(t, rigOptions{})
	watch := r.connect(packet.V5, "watch", nil)
	watch.subscribe("will", 0, nil)
	versions(t, func(t *testing.T, v packet.Version) {
		start := time.Now()
		p := r.connect(v, "c", func(c *packet.Connect) {
			c.KeepAlive, c.HasWill, c.WillTopic, c.WillPayload = 1, true, []byte("will"), []byte("gone")
		})
		p.wantEnd(packet.KeepAliveTimeout)
		if d := time.Since(start); d < 1400*time.Millisecond {
			t.Errorf("closed after %v, want 1.5 s", d)
		}
		watch.wantMessage("will", "gone", 0)
	})
}

func TestServerKeepAlive(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxKeepAlive = 30 * time.Second }})
	_, a := r.connack(packet.V5, "c", func(c *packet.Connect) { c.KeepAlive = 0 })
	if !a.Properties.Has(packet.PropServerKeepAlive) || a.Properties.ServerKeepAlive != 30 {
		t.Errorf("server keep alive %d", a.Properties.ServerKeepAlive)
	}
	_, a = r.connack(packet.V5, "c", func(c *packet.Connect) { c.KeepAlive = 20 })
	if a.Properties.Has(packet.PropServerKeepAlive) {
		t.Error("keep alive of 20 s was changed")
	}
}

func TestMQTT_3_1_4_3_TakeOver(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		first := r.connect(v, "c", nil)
		second := r.connect(v, "c", nil)
		first.wantEnd(packet.SessionTakenOver)
		second.stored("t", "x", nil)
	})
}

func TestDisconnectOnShutdown(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		p := r.connect(v, "c", nil)
		p.stored("t", "x", nil)
		id := p.publish("t", "last", 1, nil)
		eventually(t, "the message is committed", func() bool { return r.broker.Counters().MessagesIn == 2 })
		go r.srv.Close(context.Background())
		p.wantAck(packet.PUBACK, id, packet.Success) // what is committed is acknowledged
		p.wantEnd(packet.ServerShuttingDown)
	})
}

func TestServeAfterClose(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.connect(packet.V311, "c", nil).disconnect()
	r.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.srv.Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestMalformedPackets: each closes the connection, in MQTT 5 with the reason, and leaves a line in the log. The codec's
// table has the many; these are the ones that only a server can tell.
func TestMalformedPackets(t *testing.T) {
	for _, c := range []struct {
		name   string
		bytes  string
		reason packet.Reason
	}{
		{"reserved packet type", "\x00\x00", packet.ProtocolError},
		{"CONNACK from a client", "\x20\x03\x00\x00\x00", packet.ProtocolError},
		{"AUTH", "\xf0\x00", packet.ProtocolError},
		{"remaining length", "\x30\xff\xff\xff\xff\x01", packet.MalformedPacket},
		{"too large", "\x30\xff\xff\xff\x7f", packet.PacketTooLarge},
		{"subscription id (MQTT-3.3.4-6)", "\x30\x06\x00\x01t\x02\x0b\x01", packet.ProtocolError},
		{"alias 0 (MQTT-3.3.2-8)", "\x30\x07\x00\x01t\x03\x23\x00\x00", packet.InvalidTopicAlias},
		{"alias too large (MQTT-3.3.2-9)", "\x30\x07\x00\x01t\x03\x23\x7f\x00", packet.InvalidTopicAlias},
		{"alias unknown", "\x30\x06\x00\x00\x03\x23\x00\x01", packet.ProtocolError},
		{"wildcard (MQTT-3.3.2-2)", "\x30\x04\x00\x01#\x00", packet.InvalidTopic},
		{"expiry grows (MQTT-3.1.2-23)", "\xe0\x07\x00\x05\x11\x00\x00\x00\x05", packet.ProtocolError},
		{"SUBSCRIBE flags (MQTT-3.8.1-1)", "\x80\x07\x00\x01\x00\x00\x01a\x00", packet.MalformedPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			p := r.connect(packet.V5, "c", nil)
			good := p.publish("t", "before", 1, nil)
			p.write([]byte(c.bytes))
			p.wantAck(packet.PUBACK, good, packet.Success) // what came before is not lost
			p.wantEnd(c.reason)
			if !strings.Contains(r.log.String(), "MQTT connection closed") {
				t.Error("nothing in the log")
			}
		})
	}
}
