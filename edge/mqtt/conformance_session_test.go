package mqtt

import (
	"fmt"

	"rivulet/edge/mqtt/packet"
)

// lost connects a client with a will and loses it.
func (s *scene) lost(change func(*packet.Connect)) {
	s.Helper()
	_ = s.client(change).nc.Close()
}

// will is what a CONNECT says of a will for a topic.
func (s *scene) will(topic string, qos byte, retain bool) func(*packet.Connect) {
	return func(c *packet.Connect) {
		c.HasWill, c.WillTopic, c.WillPayload, c.WillQoS, c.WillRetain = true, []byte(topic), []byte("gone"), qos, retain
	}
}

func willProofs() []proof {
	return []proof{
		{"3.1.2-7 3.1.2-8 3.1.2-9 3.1.2-12 3.1.2-14", "3.1.2-8 3.1.2-9 3.1.2-16", func(s *scene) {
			for qos := range byte(3) {
				topic := s.name("will")
				watch := s.client(nil)
				watch.subscribe(topic, 2, func(sub *packet.Subscribe) { sub.Topics[0].RetainAsPublished = s.is5() })
				s.lost(s.will(topic, qos, false))
				if m := watch.wantMessage(topic, "gone", qos); m.Retain {
					s.Error("the will is retained")
				}
				late := s.client(nil)
				late.subscribe(topic, 0, nil)
				late.wantNothing()
			}
		}},
		{"3.1.2-15", "3.1.2-17", func(s *scene) {
			topic := s.name("will")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			s.lost(s.will(topic, 1, true))
			watch.wantMessage(topic, "gone", 0)
			late := s.client(nil)
			late.subscribe(topic, 1, nil)
			if m := late.wantMessage(topic, "gone", 1); !m.Retain {
				s.Error("the will is not retained")
			}
		}},
		{"3.1.2-10 3.14.4-3", "3.1.2-10 3.14.4-3", func(s *scene) {
			topic, id := s.name("will"), s.name("c")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			p := s.r.connect(s.v, id, s.will(topic, 0, false))
			p.disconnect()
			watch.wantNothing()
			p = s.r.connect(s.v, id, nil) // without a will: the old one is gone
			_ = p.nc.Close()
			s.lost(s.will(topic, 0, false))
			watch.wantMessage(topic, "gone", 0)
			watch.wantNothing() // once
		}},
		{"", "3.1.2-12", func(s *scene) {
			watch := s.client(nil)
			watch.subscribe("will/#", 0, nil)
			s.lost(nil)
			s.lost(s.will("will/x", 0, false))
			watch.wantMessage("will/x", "gone", 0)
			watch.wantNothing()
		}},
		{"3.1.2-11 3.1.2-13", "3.1.2-11 3.1.2-13 3.1.2-14 3.1.2-15", func(s *scene) {
			for what, flags := range map[string]byte{"will QoS": 0x0a, "will QoS 2": 0x12, "will retain": 0x22} {
				s.rejected(what+" without a will", connectWire(s.v, flags, text("x")), packet.MalformedPacket, 0)
			}
			fields := text("t") + text("gone")
			s.rejected("a will without its flag", connectWire(s.v, 2, text("x")+s.none()+fields), packet.MalformedPacket, 0)
			s.rejected("will QoS 3", connectWire(s.v, 0x1e, text("x")+s.none()+fields), packet.MalformedPacket, 0)
		}},
		{"3.1.3-9", "", func(s *scene) {
			topic, id := s.name("will"), s.name("c")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			delayed := func(c *packet.Connect) {
				kept(c)
				s.will(topic, 0, false)(c)
				c.WillProperties.WillDelay = 3600
				c.WillProperties.Mark(packet.PropWillDelay)
			}
			for range 2 {
				_ = s.r.connect(s.v, id, delayed).nc.Close()
			}
			s.r.connect(s.v, id, kept).disconnect()
			watch.wantNothing()
		}},
		{"3.1.3-10", "", func(s *scene) {
			topic := s.name("will")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			var want string
			s.lost(func(c *packet.Connect) {
				s.will(topic, 0, false)(c)
				for i := range 20 {
					k, v := fmt.Sprint("k", i%3), fmt.Sprint("v", i)
					c.WillProperties.UserRaw = packet.AppendUser(c.WillProperties.UserRaw, k, v)
					want += k + v
				}
				c.WillProperties.Mark(packet.PropUser)
			})
			got := ""
			m := watch.wantMessage(topic, "gone", 0)
			for k, v := range m.Properties.User {
				got += string(k) + string(v)
			}
			if got != want {
				s.Errorf("user properties %s, want %s", got, want)
			}
		}},
	}
}

func sessionProofs() []proof {
	return []proof{
		{
			"3.1.2-5 3.1.2-6 3.1.2-23 3.1.3-2 3.1.4-4 3.2.2-3 4.1.0-1 4.5.0-1",
			"3.1.2-4 3.1.2-5 3.1.3-2 3.1.4-3 3.2.2-2 3.2.2-3 4.1.0-1 4.1.0-2 4.5.0-1",
			func(s *scene) {
				id, topic := s.name("c"), s.name("t")
				p := s.r.resume(s.v, id, false, nil)
				p.subscribe(topic, 2, nil)
				pub := s.client(nil)
				pub.stored(topic, "there", nil)
				p.wantMessage(topic, "there", 1)
				p.disconnect()
				s.r.resume(s.v, s.name("other"), false, nil).wantNothing()
				pub.stored(topic, "one", nil)
				pub.stored2(topic, "two")
				p = s.r.resume(s.v, id, true, nil)
				p.wantMessage(topic, "one", 1)
				p.complete(p.wantQoS2("two", false))
				p.wantNothing()
			},
		},
		{"3.1.2-4 3.2.2-2", "3.1.2-6 3.2.2-1", func(s *scene) {
			id, topic := s.name("c"), s.name("t")
			p := s.r.resume(s.v, id, false, nil)
			p.subscribe(topic, 1, nil)
			p.disconnect()
			pub := s.client(nil)
			pub.stored(topic, "x", nil)
			p, a := s.r.connack(s.v, id, nil)
			if a.SessionPresent {
				s.Error("session present")
			}
			pub.stored(topic, "y", nil)
			p.wantNothing()
			p.disconnect()
			s.r.resume(s.v, id, false, nil).wantNothing()
		}},
		{"", "3.1.2-7", func(s *scene) {
			topic := s.name("t")
			p := s.client(nil)
			p.stored(topic, "x", func(m *packet.Publish) { m.Retain = true })
			p.disconnect()
			late := s.client(nil)
			late.subscribe(topic, 1, nil)
			late.wantMessage(topic, "x", 1)
		}},
		{
			"4.4.0-1 3.3.1-1 4.3.2-3 4.3.3-3 4.3.3-5 4.3.3-6",
			"4.4.0-1 3.3.1-1 2.3.1-4 4.6.0-1",
			func(s *scene) {
				id, topic := s.name("c"), s.name("t")
				p := s.r.resume(s.v, id, false, nil)
				p.subscribe(topic, 2, nil)
				pub := s.client(nil)
				var ids [6]uint16
				for i := range ids {
					if i%2 == 0 {
						pub.stored(topic, fmt.Sprint(i), nil)
						ids[i] = p.wantPublish().ID
					} else {
						pub.stored2(topic, fmt.Sprint(i))
						ids[i] = p.wantQoS2(fmt.Sprint(i), false)
					}
				}
				p.ack(packet.PUBACK, ids[2])
				p.ack(packet.PUBREC, ids[3])
				p.wantAck(packet.PUBREL, ids[3], packet.Success)
				p.wantNothing() // nothing is sent again while the connection lasts
				for range 2 {
					_ = p.nc.Close()
					p = s.r.resume(s.v, id, true, nil)
					for i, id := range ids {
						switch i {
						case 2:
						case 3:
							p.wantAck(packet.PUBREL, id, packet.Success)
						default:
							if m := p.wantPublish(); m.ID != id || !m.Dup || string(m.Payload) != fmt.Sprint(i) || m.QoS != byte(1+i%2) {
								s.Errorf("got %s id %d dup %v QoS %d, want %d id %d", m.Payload, m.ID, m.Dup, m.QoS, i, id)
							}
						}
					}
				}
			},
		},
		{"4.4.0-2", "", func(s *scene) {
			id, topic := s.name("c"), s.name("t")
			p := s.r.resume(s.v, id, false, nil)
			p.subscribe(topic, 2, nil)
			pub := s.client(nil)
			pub.stored(topic, "1", nil)
			p.write(packet.AppendAck(nil, packet.PUBACK, s.v, p.wantPublish().ID, packet.QuotaExceeded))
			pub.stored2(topic, "2")
			p.write(packet.AppendAck(nil, packet.PUBREC, s.v, p.wantQoS2("2", false), packet.NotAuthorized))
			p.wantNothing()
			_ = p.nc.Close()
			s.r.resume(s.v, id, true, nil).wantNothing()
		}},
		{"4.6.0-5 4.6.0-6", "4.6.0-5 4.6.0-6", func(s *scene) {
			base := s.name("t")
			sub, pub := s.pair(base+"/#", 1)
			go func() {
				var b []byte
				for i := range 300 {
					m := packet.Publish{Topic: fmt.Appendf(nil, "%s/%d", base, i%3), Payload: fmt.Appendf(nil, "%d", i)}
					b = m.Append(b, s.v)
				}
				_, _ = pub.nc.Write(b)
			}()
			next := [3]int{0, 1, 2}
			for range 300 {
				m := sub.wantPublish()
				var i int
				_, _ = fmt.Sscan(string(m.Payload), &i)
				if next[i%3] != i {
					s.Fatalf("%s: %d, want %d", m.Topic, i, next[i%3])
				}
				next[i%3] += 3
			}
		}},
		{"", "4.6.0-2 4.6.0-3 4.6.0-4", func(s *scene) {
			p := s.client(nil)
			var b []byte
			for i := range uint16(20) {
				m := packet.Publish{Topic: []byte(s.name("t")), QoS: 1 + byte(i&1), ID: i + 1}
				b = m.Append(b, s.v)
			}
			p.write(b)
			for i := range uint16(20) {
				p.wantAck(packet.PUBACK+packet.Type(i&1), i+1, packet.Success)
			}
		}},
	}
}
