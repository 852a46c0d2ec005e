package mqtt

import (
	"fmt"

	"rivulet/edge/mqtt/packet"
)

// malformedKinds are packets that are wrong, with what MQTT 5 says of them; 3.1.1 closes.
func malformedKinds(v packet.Version) []struct {
	what, bytes string
	reason      packet.Reason
} {
	none := ""
	if v >= packet.V5 {
		none = "\x00"
	}
	type kind = struct {
		what, bytes string
		reason      packet.Reason
	}
	kinds := []kind{
		{"reserved packet type", "\x00\x00", packet.ProtocolError},
		{"length of five bytes", "\x30\xff\xff\xff\xff\x01", packet.MalformedPacket},
		{"packet too large", "\x30\xff\xff\xff\x7f", packet.PacketTooLarge},
		{"PUBLISH that ends in its topic", wire(0x30, "\x00\x05ab"), packet.MalformedPacket},
		{"PUBLISH that ends before its id", wire(0x32, text("t")+"\x01"), packet.MalformedPacket},
		{"PUBLISH with QoS 3", wire(0x36, text("t")+"\x00\x01"+none), packet.MalformedPacket},
		{"PUBLISH with DUP and QoS 0", wire(0x38, text("t")+none), packet.MalformedPacket},
		{"PUBLISH with id 0", wire(0x32, text("t")+"\x00\x00"+none), packet.ProtocolError},
		{"PUBLISH to a wildcard", wire(0x30, text("a/#")+none), packet.InvalidTopic},
		{"PUBLISH without topic", wire(0x30, text("")+none), packet.ProtocolError},
		{"PUBLISH with U+0000", wire(0x30, text("a\x00")+none), packet.MalformedPacket},
		{"PUBLISH that is not UTF-8", wire(0x30, text("a\xff")+none), packet.MalformedPacket},
		{"SUBSCRIBE with wrong bits", wire(0x80, "\x00\x01"+none+text("t")+"\x00"), packet.MalformedPacket},
		{"SUBSCRIBE without filter", wire(0x82, "\x00\x01"+none), packet.ProtocolError},
		{"SUBSCRIBE with QoS 3", wire(0x82, "\x00\x01"+none+text("t")+"\x03"), packet.MalformedPacket},
		{"SUBSCRIBE that ends in its filter", wire(0x82, "\x00\x01"+none+"\x00\x05t"), packet.MalformedPacket},
		{"UNSUBSCRIBE with wrong bits", wire(0xa0, "\x00\x01"+none+text("t")), packet.MalformedPacket},
		{"UNSUBSCRIBE without filter", wire(0xa2, "\x00\x01"+none), packet.ProtocolError},
		{"PUBREL with wrong bits", wire(0x60, "\x00\x01"), packet.MalformedPacket},
		{"PUBACK with wrong bits", wire(0x41, "\x00\x01"), packet.MalformedPacket},
		{"PUBACK of one byte", wire(0x40, "\x01"), packet.MalformedPacket},
		{"PINGREQ with a body", wire(0xc0, "x"), packet.MalformedPacket},
		{"DISCONNECT with wrong bits", wire(0xe1, ""), packet.MalformedPacket},
		{"CONNACK from a client", wire(0x20, "\x00\x00"+none), packet.ProtocolError},
		{"PINGRESP from a client", wire(0xd0, ""), packet.ProtocolError},
		{"second CONNECT", connectWire(v, 2, text("x")), packet.ProtocolError},
	}
	if v < packet.V5 {
		return append(kinds, kind{"AUTH", wire(0xf0, ""), 0}, kind{"DISCONNECT with a body", wire(0xe0, "\x00"), 0}, kind{"PUBACK with a reason", wire(0x40, "\x00\x01\x00"), 0})
	}
	publish := func(props string) string { return wire(0x30, text("t")+prop(props)+"x") }
	return append(kinds,
		kind{"unknown property", publish("\x7f\x00"), packet.MalformedPacket},
		kind{"property of CONNECT", publish("\x11\x00\x00\x00\x01"), packet.ProtocolError},
		kind{"property twice", publish("\x01\x01\x01\x01"), packet.ProtocolError},
		kind{"property that is neither 0 nor 1", publish("\x01\x02"), packet.ProtocolError},
		kind{"property cut off", publish("\x02\x00\x00"), packet.MalformedPacket},
		kind{"properties longer than the packet", wire(0x30, text("t")+"\x50"), packet.MalformedPacket},
		kind{"topic alias 0", publish("\x23\x00\x00"), packet.InvalidTopicAlias},
		kind{"topic alias nobody set up", wire(0x30, text("")+prop("\x23\x00\x05")), packet.ProtocolError},
		kind{"subscription identifier 0", wire(0x82, "\x00\x01"+prop("\x0b\x00")+text("t")+"\x00"), packet.ProtocolError},
		kind{"reason code of another packet", wire(0x40, "\x00\x01\x04"), packet.ProtocolError},
		kind{"DISCONNECT with a code of CONNACK", wire(0xe0, "\x84"), packet.ProtocolError},
		kind{"AUTH that nobody asked for", wire(0xf0, "\x18\x00"), packet.ProtocolError},
	)
}

func malformedProofs() []proof {
	bits := func(s *scene) {
		rest := "\x00\x01" + s.none() + text("t")
		for what, bytes := range map[string]string{
			"SUBSCRIBE": wire(0x80, rest+"\x00"), "SUBSCRIBE 3": wire(0x83, rest+"\x00"), "UNSUBSCRIBE": wire(0xa0, rest), "UNSUBSCRIBE 6": wire(0xa6, rest),
			"PUBREL": wire(0x60, "\x00\x01"), "PUBREL 3": wire(0x63, "\x00\x01"), "PUBACK": wire(0x42, "\x00\x01"), "PUBREC": wire(0x51, "\x00\x01"),
			"PUBCOMP": wire(0x78, "\x00\x01"), "PINGREQ": wire(0xc1, ""), "DISCONNECT": wire(0xe2, ""),
		} {
			s.refused(what, bytes, packet.MalformedPacket)
		}
		if s.is5() {
			s.refused("AUTH", wire(0xf1, "\x19\x00"), packet.MalformedPacket)
			s.refused("AUTH with another code", wire(0xf0, "\x01\x00"), packet.ProtocolError)
		}
		p := s.r.dial(s.v)
		c := []byte(connectWire(s.v, 2, text("x")))
		c[0] |= 1
		p.write(c)
		if first, body, err := p.read(); err == nil && (first != 0x20 || body[1] < 0x80) {
			s.Errorf("CONNECT with wrong bits: %x %x", first, body)
		}
	}
	return []proof{
		{"2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1 3.15.1-1 3.15.2-1", "2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1", bits},
		{"4.13.1-1", "4.8.0-1", func(s *scene) {
			kinds := malformedKinds(s.v)
			if len(kinds) < 24 {
				s.Errorf("only %d kinds", len(kinds))
			}
			topic := s.name("t")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			for i, k := range kinds {
				p := s.client(nil)
				m := packet.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i)}
				p.write(append(m.Append(nil, s.v), k.bytes...))
				if err := p.ends(k.reason); err != nil {
					s.Errorf("%s: %v", k.what, err)
				}
				watch.wantMessage(topic, fmt.Sprint(i), 0) // what came before it counts
			}
		}},
	}
}
