package mqtt

import (
	"strings"
	"time"

	"rivulet/edge/mqtt/packet"
)

func connectProofs() []proof {
	return []proof{
		{"3.1.0-1", "3.1.0-1", func(s *scene) {
			for what, bytes := range map[string]string{
				"PUBLISH": wire(0x30, text("t")+s.none()+"x"), "PINGREQ": "\xc0\x00", "DISCONNECT": "\xe0\x00", "reserved": "\x00\x00",
				"SUBSCRIBE": wire(0x82, "\x00\x01"+s.none()+text("t")+"\x00"),
			} {
				p := s.r.dial(s.v)
				p.write([]byte(bytes))
				if first, _, err := p.read(); err == nil {
					s.Errorf("%s is answered by 0x%x", what, first)
				}
			}
		}},
		{"3.1.0-2 4.13.1-1 4.13.2-1", "3.1.0-2 4.8.0-1", func(s *scene) {
			s.refused("second CONNECT", connectWire(s.v, 2, text("x")), packet.ProtocolError)
		}},
		{"3.1.2-1", "3.1.2-1", func(s *scene) {
			for _, name := range []string{"MQTTX", "mqtt", "", "MQIsdP"} {
				p := s.r.dial(s.v)
				p.write([]byte(wire(0x10, text(name)+string([]byte{byte(s.v), 2, 0, 60})+s.none()+text("x"))))
				if first, _, err := p.read(); err == nil {
					s.Errorf("%q is answered by 0x%x", name, first)
				}
			}
		}},
		{"3.1.2-2 3.2.2-8", "3.1.2-2", func(s *scene) {
			for _, level := range []byte{0, 1, 2, 6, 7, 127} {
				p := s.r.dial(s.v)
				p.write([]byte(wire(0x10, text("MQTT")+string([]byte{level, 2, 0, 60})+text("x"))))
				first, body, err := p.read()
				if want := byte(packet.UnsupportedVersion); err != nil || first != 0x20 || (body[1] != 1 && body[1] != want) || level >= 5 != (body[1] == want) {
					s.Errorf("level %d: %x %x %v", level, first, body, err)
				}
				if _, _, err := p.read(); err == nil {
					s.Errorf("level %d: the connection goes on", level)
				}
			}
		}},
		{"3.1.2-3 3.1.4-1", "3.1.2-3 3.1.4-1", func(s *scene) {
			s.rejected("reserved flag", connectWire(s.v, 3, text("x")), packet.MalformedPacket, 0)
		}},
		{"3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19", "3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21", func(s *scene) {
			for what, c := range map[string]string{
				"user without its flag":     connectWire(s.v, 0x02, text("x")+text("user")),
				"no user with its flag":     connectWire(s.v, 0x82, text("x")),
				"password without its flag": connectWire(s.v, 0x82, text("x")+text("user")+text("secret")),
				"no password with its flag": connectWire(s.v, 0xc2, text("x")+text("user")),
			} {
				s.rejected(what, c, packet.MalformedPacket, 0)
			}
			p := s.r.dial(s.v)
			p.write([]byte(connectWire(s.v, 0xc2, text(s.name("x"))+text("user")+text("secret"))))
			if a := p.wantConnack(); a.Reason != packet.Success {
				s.Errorf("user and password: 0x%02x", byte(a.Reason))
			}
		}},
		{"", "3.1.2-22", func(s *scene) {
			s.rejected("password without user", connectWire(s.v, 0x42, text("x")+text("secret")), packet.MalformedPacket, 0)
		}},
		{"3.1.2-22 3.2.2-22", "3.1.2-24", func(s *scene) {
			p := s.client(func(c *packet.Connect) { c.KeepAlive = 1 })
			start := time.Now()
			if err := p.ends(packet.KeepAliveTimeout); err != nil {
				s.Error(err)
			}
			if d := time.Since(start); d < 1400*time.Millisecond {
				s.Errorf("closed after %v", d)
			}
		}},
		{"3.1.2-24 3.1.2-25", "", func(s *scene) {
			topic := s.name("t")
			p := s.client(func(c *packet.Connect) {
				c.Properties.MaximumPacketSize = 100
				c.Properties.Mark(packet.PropMaximumPacketSize)
			})
			p.subscribe(topic, 2, nil)
			pub := s.client(nil)
			for range 3 {
				pub.stored(topic, strings.Repeat("x", 100), nil)
				pub.stored2(topic, strings.Repeat("x", 100))
			}
			pub.stored(topic, "small", nil)
			p.wantMessage(topic, "small", 1)
		}},
		{"3.1.2-26 3.1.2-27 3.3.2-11", "", func(s *scene) {
			for _, most := range []uint16{0, 2} {
				base := s.name("t")
				p := s.client(func(c *packet.Connect) {
					c.Properties.TopicAliasMaximum = most
					if most > 0 {
						c.Properties.Mark(packet.PropTopicAliasMaximum)
					}
				})
				p.subscribe(base+"/#", 0, nil)
				pub := s.client(nil)
				known := map[uint16]string{}
				for i := range 12 {
					topic := base + "/" + string(rune('a'+i%4))
					pub.stored(topic, "x", nil)
					m := p.wantPublish()
					alias := m.Properties.TopicAlias
					if alias > most {
						s.Errorf("alias %d, the maximum is %d", alias, most)
					}
					if len(m.Topic) > 0 && alias > 0 {
						known[alias] = string(m.Topic)
					}
					if len(m.Topic) == 0 && known[alias] != topic {
						s.Errorf("alias %d stands for %q, want %q", alias, known[alias], topic)
					}
				}
				if len(known) != int(most) {
					s.Errorf("%d aliases, want %d", len(known), most)
				}
			}
		}},
		{"3.1.2-28", "", func(s *scene) {
			r := newRig(s.T, rigOptions{server: func(o *Options) { o.ResponsePrefix = "reply/" }})
			for _, asked := range []byte{0, 1} {
				_, a := r.connack(s.v, "c", func(c *packet.Connect) {
					c.Properties.RequestResponseInfo = asked
					c.Properties.Mark(packet.PropRequestResponseInfo)
				})
				if got := string(a.Properties.ResponseInfo); (got == "reply/c") != (asked == 1) || a.Properties.Has(packet.PropResponseInfo) != (asked == 1) {
					s.Errorf("asked %d: response information %q", asked, got)
				}
			}
		}},
		{"3.1.2-29 3.4.2-2 3.5.2-2 3.7.2-2 3.9.2-1", "", func(s *scene) {
			for _, c := range []struct {
				problems byte
				size     uint32
				want     bool
			}{{1, 0, true}, {0, 0, false}, {1, 20, false}} {
				p := s.client(func(o *packet.Connect) {
					o.Properties.RequestProblemInfo, o.Properties.MaximumPacketSize = c.problems, c.size
					o.Properties.Mark(packet.PropRequestProblemInfo)
					if c.size > 0 {
						o.Properties.Mark(packet.PropMaximumPacketSize)
					}
				})
				check := func(typ packet.Type) {
					first, body := p.want(typ)
					has := false
					switch typ {
					case packet.SUBACK:
						var a packet.Suback
						_ = a.Decode(s.v, first, body)
						has = a.Properties.Has(packet.PropReasonString)
					default:
						var a packet.Ack
						_ = a.Decode(s.v, first, body)
						has = a.Properties.Has(packet.PropReasonString) || a.Properties.Has(packet.PropUser)
					}
					if has && !c.want || len(body)+2 > int(c.size) && c.size > 0 {
						s.Errorf("%s %x: reason string %v, want %v", typ, body, has, c.want)
					}
				}
				p.publish("$SYS/x", "", 1, nil) // refused
				check(packet.PUBACK)
				p.publish("$SYS/x", "", 2, nil)
				check(packet.PUBREC)
				p.ack(packet.PUBREL, 999)
				check(packet.PUBCOMP)
				p.write([]byte(wire(0x82, "\x00\x07\x00"+text("a#")+"\x00")))
				check(packet.SUBACK)
			}
		}},
		{"3.1.3-1 3.1.3-3", "3.1.3-1 3.1.3-3", func(s *scene) {
			will := text("will/t") + text("gone")
			if s.is5() {
				will = "\x00" + will
			}
			id := s.name("x")
			watch := s.client(nil)
			watch.subscribe("will/t", 0, nil)
			p := s.r.dial(s.v)
			p.write([]byte(connectWire(s.v, 0xc6, text(id)+will+text("user")+text("secret"))))
			if a := p.wantConnack(); a.Reason != packet.Success {
				s.Fatalf("0x%02x", byte(a.Reason))
			}
			_ = p.nc.Close()
			watch.wantMessage("will/t", "gone", 0)
			s.rejected("no client identifier", connectWire(s.v, 2, ""), packet.MalformedPacket, 0)
		}},
		{"3.1.3-4 3.1.3-11 3.1.3-12", "3.1.3-4 3.1.3-10 3.1.3-11", func(s *scene) {
			for what, bad := range badTexts {
				s.rejected("client identifier: "+what, connectWire(s.v, 2, text(bad)), packet.MalformedPacket, 0)
				s.rejected("will topic: "+what, connectWire(s.v, 6, text("x")+s.none()+text(bad)+text("gone")), packet.MalformedPacket, 0)
				s.rejected("user: "+what, connectWire(s.v, 0x82, text("x")+text(bad)), packet.MalformedPacket, 0)
			}
		}},
		{"3.1.3-5", "3.1.3-5", func(s *scene) {
			for _, id := range []string{"a", "0123456789abcdefghijklm", "NOPQRSTUVWXYZ", "with space/and # odd ü"} {
				s.r.connect(s.v, id, nil).disconnect()
			}
		}},
		{"3.1.3-6 3.1.3-7 3.2.2-16", "3.1.3-6", func(s *scene) {
			seen := map[string]bool{}
			for range 5 {
				p, a := s.r.connack(s.v, "", nil)
				if a.Reason != packet.Success {
					s.Fatalf("0x%02x", byte(a.Reason))
				}
				if s.is5() {
					id := string(a.Properties.AssignedClientID)
					if id == "" || seen[id] {
						s.Errorf("assigned %q", id)
					}
					seen[id] = true
				}
				p.wantNothing() // none of them took another one's place
				defer p.wantNothing()
			}
		}},
		{"3.1.3-8 3.2.2-6 3.2.2-7 3.2.2-19 3.2.2-20", "3.1.3-9 3.2.2-4 3.2.2-5", func(s *scene) {
			long := text(strings.Repeat("x", 2000))
			s.rejected("long identifier", connectWire(s.v, 2, long), packet.InvalidClientID, 2)
			if s.is5() { // a client that takes little gets the code without words
				c := wire(0x10, text("MQTT")+"\x05\x02\x00\x3c"+prop("\x27\x00\x00\x00\x06")+long)
				p := s.r.dial(s.v)
				p.write([]byte(c))
				if first, body := p.want(packet.CONNACK); first != 0x20 || len(body) != 3 || body[1] != byte(packet.InvalidClientID) {
					s.Errorf("CONNACK %x", body)
				}
			}
		}},
		{"", "3.1.3-8", func(s *scene) {
			s.rejected("empty identifier, clean session 0", connectWire(s.v, 0, text("")), packet.InvalidClientID, 2)
		}},
		{"", "3.2.2-6", func(s *scene) {
			s.rejected("malformed", connectWire(s.v, 2, "\x00\x05x"), packet.MalformedPacket, 0)
		}},
		{"3.1.4-3", "3.1.4-2", func(s *scene) {
			id := s.name("c")
			first := s.r.connect(s.v, id, nil)
			second := s.r.connect(s.v, id, nil)
			if err := first.ends(packet.SessionTakenOver); err != nil {
				s.Error(err)
			}
			second.wantNothing()
		}},
		{"3.1.4-5 3.2.0-1 3.2.0-2 3.2.2-1", "3.1.4-4 3.2.0-1", func(s *scene) {
			p := s.r.dial(s.v)
			id := s.name("c")
			sub := packet.Subscribe{ID: 1, Topics: []packet.Subscription{{Filter: []byte(id)}}}
			c := packet.Connect{Version: s.v, CleanStart: true, ClientID: []byte(id)}
			b := sub.Append(c.Append(nil), s.v) // all in one write
			p.write(packet.AppendPing(b, packet.PINGREQ))
			if _, body := p.want(packet.CONNACK); body[0] != 0 || body[1] != 0 {
				s.Errorf("CONNACK %x", body)
			}
			p.want(packet.SUBACK)
			p.want(packet.PINGRESP)
			p.wantNothing()
		}},
		{"3.1.4-6 3.14.0-1", "3.1.4-5", func(s *scene) {
			topic := s.name("t")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			p := s.r.dial(s.v)
			m := packet.Publish{Topic: []byte(topic), Payload: []byte("x")}
			p.write(m.Append([]byte(connectWire(s.v, 2, text(strings.Repeat("x", 2000)))), s.v))
			p.want(packet.CONNACK)
			if first, _, err := p.read(); err == nil {
				s.Errorf("packet 0x%x behind a CONNACK that refuses", first)
			}
			watch.wantNothing()
		}},
		{"3.2.2-15", "", func(s *scene) {
			s.refused("packet too large", wire(0x30, text("t")+"\x00"+strings.Repeat("x", 65<<10)), packet.PacketTooLarge)
		}},
		{"3.12.4-1", "3.12.4-1", func(s *scene) {
			p := s.client(nil)
			for range 3 {
				p.wantNothing()
			}
		}},
		{"3.14.2-1 3.14.2-2 3.14.4-1 3.14.4-2", "", func(s *scene) {
			s.refused("reserved type", "\x00\x00", packet.ProtocolError)
			s.refused("malformed", "\x30\x01x", packet.MalformedPacket)
		}},
		{"3.14.2-3", "", func(s *scene) {
			p := s.client(func(c *packet.Connect) {
				c.Properties.MaximumPacketSize = 16
				c.Properties.Mark(packet.PropMaximumPacketSize)
			})
			p.write([]byte("\xf0\x00"))
			if _, body := p.want(packet.DISCONNECT); len(body) != 1 || body[0] != byte(packet.ProtocolError) {
				s.Errorf("DISCONNECT %x", body)
			}
		}},
		{"4.2-1", "7.0.0-2 7.1.1-1", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 1)
			m := packet.Publish{Topic: []byte(topic), Payload: []byte("byte by byte"), QoS: 1, ID: 7}
			for _, b := range m.Append(nil, s.v) {
				pub.write([]byte{b})
			}
			pub.wantAck(packet.PUBACK, 7, packet.Success)
			sub.wantMessage(topic, "byte by byte", 1)
		}},
		{"4.12.0-6", "", func(s *scene) {
			_, a := s.r.connack(s.v, s.name("c"), nil)
			if a.Properties.Has(packet.PropAuthMethod) || a.Properties.Has(packet.PropAuthData) {
				s.Error("an authentication method in CONNACK")
			}
		}},
		{"4.12.0-7", "", func(s *scene) { s.refused("AUTH", wire(0xf0, "\x19\x00"), packet.ProtocolError) }},
	}
}
