package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rivulet/edge/mqtt/packet"
)

// proof shows that statements hold. What it names is in testdata/statements.txt, and docs/MQTT.md names it.
type proof struct {
	v5, v3 string // numbers of statements of MQTT 5.0 and 3.1.1
	run    func(s *scene)
}

func proofs() []proof {
	return slices.Concat(connectProofs(), willProofs(), sessionProofs(), publishProofs(), qosProofs(), subscribeProofs(), malformedProofs())
}

// scene is where a proof is run: a server that others use, too, so clients and topics get names of their own.
type scene struct {
	*testing.T
	r *rig
	v packet.Version
	n *int
}

// TestConformance runs, for each statement of both specifications that is the server's, what proves it.
func TestConformance(t *testing.T) {
	for _, v := range []packet.Version{packet.V5, packet.V311} {
		t.Run(v.String(), func(t *testing.T) {
			shared := newRig(t, rigOptions{server: func(o *Options) { o.MaxPacket, o.ReceiveMaximum, o.TopicAliases = 64<<10, 20, 5 }})
			n := 0
			for _, p := range proofs() {
				ids := p.v5
				if v < packet.V5 {
					ids = p.v3
				}
				for id := range strings.FieldsSeq(ids) {
					t.Run("MQTT-"+id, func(t *testing.T) {
						own := *shared
						own.t = t
						p.run(&scene{T: t, r: &own, v: v, n: &n})
					})
				}
			}
		})
	}
}

// name makes a name that no other proof uses.
func (s *scene) name(of string) string {
	*s.n++
	return fmt.Sprintf("%s%d", of, *s.n)
}

func (s *scene) is5() bool { return s.v >= packet.V5 }

// client connects a client with a clean session.
func (s *scene) client(change func(*packet.Connect)) *peer {
	s.Helper()
	return s.r.connect(s.v, s.name("client"), change)
}

// pair is a subscriber with a filter and a publisher.
func (s *scene) pair(filter string, qos byte) (sub, pub *peer) {
	s.Helper()
	sub, pub = s.client(nil), s.client(nil)
	if got := sub.subscribe(filter, qos, nil); got[0] != packet.Reason(qos) {
		s.Fatalf("SUBACK 0x%02x for %s", byte(got[0]), filter)
	}
	return sub, pub
}

// refused checks that bytes from a connected client end the connection, in MQTT 5 with a reason.
func (s *scene) refused(what, bytes string, reason packet.Reason) {
	s.Helper()
	p := s.client(nil)
	p.write([]byte(bytes))
	if err := p.ends(reason); err != nil {
		s.Errorf("%s: %v", what, err)
	}
}

// ends is wantEnd that does not stop the test.
func (p *peer) ends(reason packet.Reason) error {
	first, body, err := p.read()
	for ; err == nil && packet.TypeOf(first) != packet.DISCONNECT; first, body, err = p.read() {
	}
	if p.v < packet.V5 {
		if err == nil {
			return fmt.Errorf("the server sent DISCONNECT to a 3.1.1 client")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("no DISCONNECT 0x%02x: %w", byte(reason), err)
	}
	var d packet.Disconnect
	if err := d.Decode(p.v, first, body); err != nil {
		return err
	}
	if d.Reason != reason || d.Properties.Has(packet.PropSessionExpiry) {
		return fmt.Errorf("DISCONNECT 0x%02x %s, want 0x%02x", byte(d.Reason), d.Properties.ReasonString, byte(reason))
	}
	if _, _, err = p.read(); err == nil {
		return fmt.Errorf("a packet behind DISCONNECT")
	}
	return nil
}

// wire is a packet: first byte, length, body.
func wire(first byte, body string) string {
	return string(packet.AppendVarint([]byte{first}, len(body))) + body
}

// text is a string with its length.
func text(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

// connectWire is a CONNECT of level v with these flags; payload has the client identifier and what follows.
func connectWire(v packet.Version, flags byte, payload string) string {
	props := ""
	if v >= packet.V5 {
		props = "\x00"
	}
	return wire(0x10, text("MQTT")+string([]byte{byte(v), flags, 0, 60})+props+payload)
}

// rejected checks that a CONNECT is refused: in MQTT 5 by CONNACK with that code and session present 0, in 3.1.1 by code, 0 for the
// end without CONNACK.
func (s *scene) rejected(what, connect string, reason packet.Reason, code byte) {
	s.Helper()
	p := s.r.dial(s.v)
	p.write([]byte(connect))
	first, body, err := p.read()
	switch {
	case !s.is5() && code == 0:
		if err == nil {
			s.Errorf("%s: packet %x %x", what, first, body)
		}
		return
	case err != nil:
		s.Errorf("%s: %v", what, err)
		return
	}
	want := code
	if s.is5() {
		want = byte(reason)
	}
	if first != 0x20 || body[0] != 0 || body[1] != want {
		s.Errorf("%s: packet %x %x, want CONNACK 0x%02x", what, first, body, want)
	}
	if _, _, err := p.read(); err == nil {
		s.Errorf("%s: the connection goes on", what)
	}
}

// badTexts are not UTF-8 strings of MQTT.
var badTexts = map[string]string{"surrogate": "a\xed\xa0\x80", "cut off": "a\xc3", "overlong": "a\xc0\xaf", "0xff": "a\xff"}

// prop is a property section.
func prop(s string) string { return string(packet.AppendVarint(nil, len(s))) + s }

// none is the empty property section of MQTT 5, nothing before.
func (s *scene) none() string {
	if s.is5() {
		return "\x00"
	}
	return ""
}
