package mqtt

import (
	"fmt"

	"rivulet/edge/mqtt/packet"
)

func qosProofs() []proof {
	receiver2 := func(s *scene) {
		topic := s.name("t")
		sub, pub := s.pair(topic, 0)
		send := func(payload string, dup bool) {
			pub.publish(topic, payload, 2, func(m *packet.Publish) { m.ID, m.Dup = 5, dup })
			pub.wantAck(packet.PUBREC, 5, packet.Success)
		}
		release := func() {
			pub.ack(packet.PUBREL, 5)
			pub.wantAck(packet.PUBCOMP, 5, packet.Success)
		}
		send("one", false)
		send("one", true)
		send("one", false) // even so
		release()
		send("two", true) // new, whatever DUP says
		release()
		sub.wantMessage(topic, "one", 0)
		sub.wantMessage(topic, "two", 0)
		sub.wantNothing()
	}
	sender2 := func(s *scene) {
		topic := s.name("t")
		sub, pub := s.pair(topic, 2)
		pub.stored2(topic, "x")
		id := sub.wantQoS2("x", false)
		sub.wantNothing() // not before PUBREC
		sub.ack(packet.PUBREC, id)
		sub.wantAck(packet.PUBREL, id, packet.Success)
		sub.wantNothing()
		sub.ack(packet.PUBREC, id)
		sub.wantAck(packet.PUBREL, id, packet.Success)
		sub.ack(packet.PUBCOMP, id)
		sub.wantNothing()
	}
	return []proof{
		{"3.3.4-1 4.3.2-4 4.3.3-8 4.3.3-11 3.4.2-1 3.5.2-1 3.7.2-1", "3.3.4-1", func(s *scene) {
			p := s.client(nil)
			p.publish(s.name("t"), "x", 0, nil)
			p.wantNothing()
			p.stored(s.name("t"), "x", nil)
			p.stored2(s.name("t"), "x")
			p.ack(packet.PUBREL, 77)
			want := packet.Success
			if s.is5() {
				want = packet.PacketIDNotFound
			}
			p.wantAck(packet.PUBCOMP, 77, want)
		}},
		{"4.3.2-5", "4.3.2-2", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 0)
			for i := range 3 {
				pub.publish(topic, fmt.Sprint(i), 1, func(m *packet.Publish) { m.ID, m.Dup = 5, i > 0 })
				pub.wantAck(packet.PUBACK, 5, packet.Success)
				sub.wantMessage(topic, fmt.Sprint(i), 0)
			}
		}},
		{"4.3.3-10 4.3.3-12", "4.3.3-2", receiver2},
		{"4.3.3-4 3.6.2-1", "4.3.3-1", sender2},
		{"4.3.3-9", "", func(s *scene) {
			p := s.client(nil)
			topic := s.name("t")
			watch := s.client(nil)
			watch.subscribe(topic, 0, nil)
			p.publish("$SYS/x", "", 2, func(m *packet.Publish) { m.ID = 9 })
			p.wantAck(packet.PUBREC, 9, packet.NotAuthorized)
			p.publish(topic, "x", 2, func(m *packet.Publish) { m.ID = 9 })
			p.wantAck(packet.PUBREC, 9, packet.Success)
			watch.wantMessage(topic, "x", 0)
		}},
		{"4.3.3-7 4.3.3-13 3.3.2-5 3.3.2-6", "", func(s *scene) {
			clock := newClock()
			r := newRig(s.T, rigOptions{broker: brokerClock(clock), server: func(o *Options) { o.Now = clock.now }})
			sub := r.resume(s.v, "sub", false, nil)
			sub.subscribe("t", 2, nil)
			pub := r.connect(s.v, "pub", nil)
			expiring := func(payload string, seconds uint32) {
				id := pub.publish("t", payload, 2, func(m *packet.Publish) {
					m.Properties.MessageExpiry = seconds
					m.Properties.Mark(packet.PropMessageExpiry)
				})
				pub.wantAck(packet.PUBREC, id, packet.Success)
				pub.ack(packet.PUBREL, id)
				pub.wantAck(packet.PUBCOMP, id, packet.Success)
			}
			expiring("sent", 10)
			id := sub.wantQoS2("sent", false)
			_ = sub.nc.Close()
			eventually(s.T, "it is gone", func() bool { return r.srv.Stats().Clients == 1 })
			expiring("not sent", 10)
			expiring("long", 100)
			// The publisher's own exchange goes on behind the expiry.
			late := pub.publish("t", "y", 2, func(m *packet.Publish) {
				m.Properties.MessageExpiry = 1
				m.Properties.Mark(packet.PropMessageExpiry)
			})
			pub.wantAck(packet.PUBREC, late, packet.Success)
			eventually(s.T, "the dispatcher has seen it before its time passes", func() bool {
				d := &r.srv.dispatch
				d.mu.Lock()
				defer d.mu.Unlock()
				return d.pos >= r.store.LastSeq()
			})
			clock.add(20e9)
			pub.ack(packet.PUBREL, late)
			pub.wantAck(packet.PUBCOMP, late, packet.Success)
			sub = r.resume(s.v, "sub", true, nil)
			if again := sub.wantQoS2("sent", true); again != id {
				s.Errorf("id %d, want %d", again, id)
			}
			m := sub.wantPublish()
			if string(m.Payload) != "long" || m.Properties.MessageExpiry != 80 {
				s.Errorf("got %q, expiry %d, want long, 80", m.Payload, m.Properties.MessageExpiry)
			}
			sub.complete(id)
			sub.wantNothing()
		}},
		{"3.3.4-7", "", func(s *scene) {
			p := s.client(nil)
			for i := range uint16(21) {
				p.publish(s.name("t"), "", 2, func(m *packet.Publish) { m.ID = i + 1 })
			}
			if err := p.ends(packet.ReceiveMaximumExceeded); err != nil {
				s.Error(err)
			}
		}},
		{"3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3", "", func(s *scene) {
			topic := s.name("t")
			sub := s.client(func(c *packet.Connect) {
				c.Properties.ReceiveMaximum = 3
				c.Properties.Mark(packet.PropReceiveMaximum)
			})
			sub.subscribe(topic, 2, nil)
			pub := s.client(nil)
			for i := range 10 {
				pub.stored2(topic, fmt.Sprint(i))
			}
			var ids []uint16
			for i := range 3 {
				ids = append(ids, sub.wantQoS2(fmt.Sprint(i), false))
			}
			sub.wantNothing()
			if got := sub.subscribe(s.name("t"), 0, nil); got[0] != 0 { // everything else goes on
				s.Errorf("SUBACK 0x%02x", byte(got[0]))
			}
			sub.stored(s.name("t"), "x", nil)
			sub.ack(packet.PUBREC, ids[0])
			sub.wantAck(packet.PUBREL, ids[0], packet.Success)
			sub.wantNothing() // PUBREC gives nothing back
			sub.ack(packet.PUBCOMP, ids[0])
			sub.wantQoS2("3", false)
			sub.wantNothing()
			sub.write(packet.AppendAck(nil, packet.PUBREC, s.v, ids[1], packet.QuotaExceeded))
			sub.wantQoS2("4", false)
			sub.wantNothing()
		}},
	}
}
