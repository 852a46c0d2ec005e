package mqtt

import (
	"bytes"
	"fmt"
	"strings"

	"rivulet/edge/mqtt/packet"
)

// rawPublish reads a PUBLISH as it is on the wire: everything behind the first byte.
func (p *peer) rawPublish() (first byte, rest []byte) {
	p.t.Helper()
	for {
		if size, body, _ := packet.Split(p.buf); body != nil {
			first, rest = p.buf[0], p.buf[1:size]
			p.buf = p.buf[size:]
			return first, rest
		}
		chunk := make([]byte, 64<<10)
		n, err := p.nc.Read(chunk)
		if err != nil {
			p.t.Fatal(err)
		}
		p.buf = append(p.buf, chunk[:n]...)
	}
}

func retained(m *packet.Publish) { m.Retain = true }

func publishProofs() []proof {
	forwarded := func(s *scene) {
		topic := s.name("t")
		sub, pub := s.pair(topic, 1)
		var want []string
		pub.stored(topic, "x", func(m *packet.Publish) {
			p := &m.Properties
			p.PayloadFormat, p.ContentType, p.ResponseTopic, p.CorrelationData = 1, []byte("text/plain; ü"), []byte("reply/to"), []byte{0, 1, 0xff}
			p.Mark(packet.PropPayloadFormat, packet.PropContentType, packet.PropResponseTopic, packet.PropCorrelationData)
			for i := range 30 {
				k, v := fmt.Sprint("k", i%4), fmt.Sprint("v", i)
				p.UserRaw = packet.AppendUser(p.UserRaw, k, v)
				want = append(want, k, v)
			}
		})
		m := sub.wantPublish()
		p := &m.Properties
		if p.PayloadFormat != 1 || string(p.ContentType) != "text/plain; ü" || string(p.ResponseTopic) != "reply/to" || !bytes.Equal(p.CorrelationData, []byte{0, 1, 0xff}) {
			s.Errorf("got %+v", p)
		}
		var got []string
		for k, v := range p.User {
			got = append(got, string(k), string(v))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("user properties %v, want %v", got, want)
		}
	}
	return []proof{
		{"1.5.4-3 4.7.3-4", "1.5.3-3 4.7.3-4", func(s *scene) {
			base := s.name("t")
			for _, topic := range []string{"\ufeff" + base, base + "/\ufeff", base + "/e\u0301", base + "/A", base + "//x", base + "/ "} {
				sub, pub := s.pair(topic, 0)
				others, _ := s.pair(strings.NewReplacer("\ufeff", "", "e\u0301", "é", "A", "a", "//", "/", " ", "").Replace(topic), 0)
				pub.stored(topic, "\ufeffx", nil)
				sub.wantMessage(topic, "\ufeffx", 0)
				others.wantNothing()
			}
		}},
		{"1.5.5-1", "", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 0)
			for _, n := range []int{0, 100, 122, 123, 124, 125, 126, 130, 16370, 16380, 16384, 20000} {
				pub.stored(topic, strings.Repeat("x", n), nil)
				_, rest := sub.rawPublish()
				width := 0
				for rest[width] >= 0x80 {
					width++
				}
				width++
				if body := len(rest) - width; packet.VarintSize(body) != width {
					s.Errorf("the length of %d takes %d bytes", body, width)
				}
			}
		}},
		{"2.2.1-2 2.2.2-1 4.3.1-1", "2.3.1-5 4.3.1-1", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 0)
			pub.stored(topic, "x", nil)
			first, rest := sub.rawPublish()
			want := wire(first, text(topic)+s.none()+"x")
			if first != 0x30 || string(rest) != want[1:] {
				s.Errorf("%x %x, want %x", first, rest, want)
			}
		}},
		{"2.2.1-4 4.3.2-1 4.3.2-2 4.3.3-1 4.3.3-2", "4.3.2-1", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 2)
			open := map[uint16]bool{}
			for i := range 40 {
				if i%2 == 0 {
					pub.stored(topic, "x", nil)
				} else {
					pub.stored2(topic, "x")
				}
				m := sub.wantPublish()
				if m.ID == 0 || open[m.ID] || m.Dup {
					s.Fatalf("id %d, dup %v, in use: %v", m.ID, m.Dup, open)
				}
				if open[m.ID] = true; i%3 == 0 && m.QoS == 1 {
					sub.ack(packet.PUBACK, m.ID)
					delete(open, m.ID)
				}
			}
		}},
		{"2.2.1-5", "2.3.1-6", func(s *scene) {
			p := s.client(nil)
			for _, id := range []uint16{1, 255, 256, 65535} {
				for qos := byte(1); qos <= 2; qos++ {
					p.publish(s.name("t"), "x", qos, func(m *packet.Publish) { m.ID = id })
					if qos == 1 {
						p.wantAck(packet.PUBACK, id, packet.Success)
						continue
					}
					p.wantAck(packet.PUBREC, id, packet.Success)
					p.ack(packet.PUBREL, id)
					p.wantAck(packet.PUBCOMP, id, packet.Success)
				}
			}
		}},
		{"3.3.1-2 3.3.1-4 2.2.1-3", "3.3.1-2 3.3.1-4 2.3.1-1", func(s *scene) {
			rest := text("t") + "\x00\x01" + s.none() + "x"
			s.refused("QoS 3", wire(0x36, rest), packet.MalformedPacket)
			s.refused("DUP and QoS 0", wire(0x38, text("t")+s.none()+"x"), packet.MalformedPacket)
			s.refused("QoS 1, id 0", wire(0x32, text("t")+"\x00\x00"+s.none()+"x"), packet.ProtocolError)
			s.refused("QoS 2, id 0", wire(0x34, text("t")+"\x00\x00"+s.none()+"x"), packet.ProtocolError)
			s.refused("SUBSCRIBE, id 0", wire(0x82, "\x00\x00"+s.none()+text("t")+"\x00"), packet.ProtocolError)
			s.refused("UNSUBSCRIBE, id 0", wire(0xa2, "\x00\x00"+s.none()+text("t")), packet.ProtocolError)
		}},
		{"3.3.1-3", "3.3.1-3", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 1)
			pub.stored(topic, "x", func(m *packet.Publish) { m.Dup = true })
			if m := sub.wantMessage(topic, "x", 1); m.Dup {
				s.Error("DUP was forwarded")
			}
		}},
		{
			"3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8", "3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8 3.3.1-10 3.3.1-11 3.3.1-12",
			func(s *scene) {
				topic := s.name("t")
				old, pub := s.pair(topic, 1)
				holds := func(payload string, qos byte) {
					s.Helper()
					late := s.client(nil)
					late.subscribe(topic, 2, nil)
					if payload == "" {
						late.wantNothing()
					} else if m := late.wantMessage(topic, payload, qos); !m.Retain {
						s.Error("RETAIN is 0 for a new subscription")
					}
				}
				holds("", 0)
				pub.stored(topic, "one", retained)
				holds("one", 1)
				pub.stored(topic, "plain", nil)
				holds("one", 1)
				pub.publish(topic, "zero", 0, retained)
				pub.stored(topic, "", nil) // empty, but not retained
				holds("zero", 0)
				pub.stored(topic, "", retained)
				holds("", 0)
				for _, want := range []string{"one", "plain", "zero", "", ""} {
					if m := old.wantPublish(); string(m.Payload) != want || m.Retain {
						s.Errorf("got %q retain %v, want %q (3.3.1-9)", m.Payload, m.Retain, want)
					}
				}
			},
		},
		{"3.3.1-9 3.3.1-10 3.3.1-11", "", func(s *scene) {
			topic := s.name("t")
			p := s.client(nil)
			p.stored(topic, "x", retained)
			for handling, want := range map[byte][2]bool{0: {true, true}, 1: {true, false}, 2: {false, false}} {
				sub := s.client(nil)
				for again, sent := range want {
					sub.subscribe(topic, 0, func(x *packet.Subscribe) { x.Topics[0].RetainHandling = handling })
					if sent {
						sub.wantMessage(topic, "x", 0)
					}
					sub.wantNothing()
					_ = again
				}
			}
		}},
		{"3.3.1-12 3.3.1-13", "3.3.1-9", func(s *scene) {
			topic := s.name("t")
			plain, pub := s.pair(topic, 0)
			kept := s.client(nil)
			kept.subscribe(topic, 0, func(x *packet.Subscribe) { x.Topics[0].RetainAsPublished = s.is5() })
			for _, retain := range []bool{true, false} {
				pub.stored(topic, "x", func(m *packet.Publish) { m.Retain = retain })
				if plain.wantPublish().Retain {
					s.Error("RETAIN was forwarded")
				}
				if kept.wantPublish().Retain != (retain && s.is5()) {
					s.Errorf("retain as published: want %v", retain)
				}
			}
		}},
		{"3.3.2-1", "3.3.2-1", func(s *scene) {
			for what, bad := range badTexts {
				s.refused("topic: "+what, wire(0x30, text(bad)+s.none()+"x"), packet.MalformedPacket)
			}
			s.refused("no topic", wire(0x30, ""), packet.MalformedPacket)
			s.refused("cut off", wire(0x30, "\x00\x09x"), packet.MalformedPacket)
		}},
		{"3.3.2-2 4.7.0-1", "3.3.2-2 4.7.1-1", func(s *scene) {
			for _, topic := range []string{"#", "a/+/b", "a+", "b#c"} {
				s.refused(topic, wire(0x30, text(topic)+s.none()+"x"), packet.InvalidTopic)
			}
		}},
		{"3.3.2-3", "3.3.2-3", func(s *scene) {
			base := s.name("t")
			sub, pub := s.pair(base+"/+/x", 0)
			for _, topic := range []string{"/a/y", "/a/x", "/a/b/x", "", "/x", "//x", "/b/x"} {
				pub.stored(base+topic, topic, nil)
			}
			for _, topic := range []string{"/a/x", "//x", "/b/x"} {
				sub.wantMessage(base+topic, topic, 0)
			}
			sub.wantNothing()
		}},
		{"3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", "", forwarded},
		{"3.3.2-7", "", func(s *scene) {
			topic, id := s.name("t"), s.name("c")
			aliased := prop("\x23\x00\x01")
			p := s.r.connect(s.v, id, kept)
			p.write([]byte(wire(0x30, text(topic)+aliased+"x")))
			p.write([]byte(wire(0x30, text("")+aliased+"y")))
			p.disconnect()
			p = s.r.resume(s.v, id, true, nil)
			p.write([]byte(wire(0x30, text("")+aliased+"z")))
			if err := p.ends(packet.ProtocolError); err != nil {
				s.Error(err)
			}
		}},
		{"3.3.2-8 3.3.2-9", "", func(s *scene) {
			for _, alias := range []string{"\x00\x00", "\x00\x06", "\xff\xff"} {
				s.refused(fmt.Sprintf("alias %x", alias), wire(0x30, text("t")+prop("\x23"+alias)+"x"), packet.InvalidTopicAlias)
			}
		}},
		{"3.3.2-12", "", func(s *scene) {
			base := s.name("t")
			sub, pub := s.pair(base+"/#", 0)
			for round := range 2 {
				for alias := uint16(5); alias > 0; alias-- {
					topic := fmt.Sprint(base, "/", alias, round/2)
					pub.publish(topic, "", 0, func(m *packet.Publish) {
						m.Properties.TopicAlias = alias
						m.Properties.Mark(packet.PropTopicAlias)
						if round == 1 {
							m.Topic = nil
						}
					})
					sub.wantMessage(topic, "", 0)
				}
			}
		}},
		{"3.3.2-13 3.3.2-14 3.3.2-19 1.5.7-1", "", func(s *scene) {
			for what, bad := range badTexts {
				s.refused("response topic: "+what, wire(0x30, text("t")+prop("\x08"+text(bad))+"x"), packet.MalformedPacket)
				s.refused("content type: "+what, wire(0x30, text("t")+prop("\x03"+text(bad))+"x"), packet.MalformedPacket)
				s.refused("name: "+what, wire(0x30, text("t")+prop("\x26"+text(bad)+text("v"))+"x"), packet.MalformedPacket)
				s.refused("value: "+what, wire(0x30, text("t")+prop("\x26"+text("k")+text(bad))+"x"), packet.MalformedPacket)
			}
			s.refused("response topic with wildcards", wire(0x30, text("t")+prop("\x08"+text("a/#"))+"x"), packet.ProtocolError)
		}},
		{"3.3.4-6", "", func(s *scene) {
			s.refused("subscription identifier", wire(0x30, text("t")+prop("\x0b\x01")+"x"), packet.ProtocolError)
		}},
		{"1.5.4-1 1.5.4-2 4.7.3-2", "1.5.3-1 1.5.3-2 4.7.3-2", func(s *scene) {
			for what, bad := range map[string]string{"surrogate": badTexts["surrogate"], "0xff": badTexts["0xff"], "U+0000": "a\x00b"} {
				s.refused("topic: "+what, wire(0x30, text(bad)+s.none()+"x"), packet.MalformedPacket)
				s.refused("filter: "+what, wire(0x82, "\x00\x01"+s.none()+text(bad)+"\x00"), packet.MalformedPacket)
				s.refused("UNSUBSCRIBE: "+what, wire(0xa2, "\x00\x01"+s.none()+text(bad)), packet.MalformedPacket)
				s.rejected("client identifier: "+what, connectWire(s.v, 2, text(bad)), packet.MalformedPacket, 0)
			}
		}},
		{"4.7.3-1", "4.7.3-1", func(s *scene) {
			s.refused("empty topic", wire(0x30, text("")+s.none()+"x"), packet.ProtocolError)
			p := s.client(nil)
			if got := p.subscribe("", 0, nil); !got[0].Failed() {
				s.Errorf("empty filter: SUBACK 0x%02x", byte(got[0]))
			}
		}},
		{"4.7.3-3", "4.7.3-3", func(s *scene) {
			r := newRig(s.T, rigOptions{})
			long := strings.Repeat("x", 65535) // more cannot be said
			sub, pub := r.connect(s.v, "sub", nil), r.connect(s.v, "pub", nil)
			sub.subscribe("#", 0, nil)
			pub.stored(long, "x", nil)
			sub.wantMessage(long, "x", 0)
		}},
	}
}
