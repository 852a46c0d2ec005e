package mqtt

import (
	"fmt"
	"slices"
	"strings"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

func brokerClock(c *clock) func(*edge.Options) { return func(o *edge.Options) { o.Now = c.now } }

// filters is a SUBSCRIBE of several filters.
func filters(qos byte, list ...string) func(*packet.Subscribe) {
	return func(s *packet.Subscribe) {
		s.Topics = nil
		for _, f := range list {
			s.Topics = append(s.Topics, packet.Subscription{Filter: []byte(f), QoS: qos})
		}
	}
}

func subscribeProofs() []proof {
	overlapping := func(s *scene) {
		base := s.name("t")
		sub, pub := s.client(nil), s.client(nil)
		for i, f := range []string{"/#", "/+", "/a"} {
			sub.subscribe(base+f, byte(i), func(x *packet.Subscribe) {
				if s.is5() && i != 1 {
					x.Properties.SubscriptionID = 100 + i
					x.Properties.Mark(packet.PropSubscriptionID)
				}
			})
		}
		for qos := range byte(3) {
			switch qos {
			case 0:
				pub.publish(base+"/a", "x", 0, nil)
			case 1:
				pub.stored(base+"/a", "x", nil)
			case 2:
				pub.stored2(base+"/a", "x")
			}
			m := sub.wantMessage(base+"/a", "x", qos)
			var ids []int
			for id := range m.Properties.SubscriptionIDs {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			if s.is5() && !slices.Equal(ids, []int{100, 102}) {
				s.Errorf("subscription identifiers %v", ids)
			}
			sub.wantNothing() // once
		}
	}
	return []proof{
		{"3.3.4-2 3.3.4-3 3.3.4-4", "3.3.5-1", overlapping},
		{
			"2.2.1-6 3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2 3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2",
			"2.3.1-7 3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2 3.10.4-4 3.10.4-5 3.10.4-6",
			func(s *scene) {
				base := s.name("t")
				p := s.client(nil)
				got := p.subscribe("", 0, func(x *packet.Subscribe) {
					for i, f := range []string{"/0", "/bad#", "/2", "/1"} {
						x.Topics = append(x.Topics, packet.Subscription{Filter: []byte(base + f), QoS: []byte{0, 0, 2, 1}[i]})
					}
					x.Topics = x.Topics[1:]
				})
				bad := packet.InvalidFilter
				if !s.is5() {
					bad = packet.Unspecified
				}
				if !slices.Equal(got, []packet.Reason{0, bad, 2, 1}) {
					s.Errorf("SUBACK %v", got)
				}
				u := packet.Unsubscribe{ID: 4711, Filters: [][]byte{[]byte(base + "/2"), []byte("none"), []byte(base + "/1")}}
				p.write(u.Append(nil, s.v))
				first, body := p.want(packet.UNSUBACK)
				var a packet.Suback
				if err := a.Decode(s.v, first, body); err != nil || a.ID != 4711 {
					s.Fatalf("UNSUBACK %d %v", a.ID, err)
				}
				if want := []packet.Reason{0, packet.NoSubscriptionExisted, 0}; s.is5() && !slices.Equal(a.Reasons, want) {
					s.Errorf("UNSUBACK %v, want %v", a.Reasons, want)
				}
				if got := p.unsubscribe("nothing at all"); s.is5() && got[0] != packet.NoSubscriptionExisted {
					s.Errorf("UNSUBACK %v", got)
				}
			},
		},
		{"3.8.3-1 3.10.3-1", "3.8.3-1 3.10.3-1", func(s *scene) {
			for what, bad := range badTexts {
				s.refused("SUBSCRIBE: "+what, wire(0x82, "\x00\x01"+s.none()+text(bad)+"\x00"), packet.MalformedPacket)
				s.refused("UNSUBSCRIBE: "+what, wire(0xa2, "\x00\x01"+s.none()+text(bad)), packet.MalformedPacket)
			}
		}},
		{"3.8.3-2 3.10.3-2", "3.8.3-3 3.10.3-2", func(s *scene) {
			s.refused("SUBSCRIBE without a filter", wire(0x82, "\x00\x01"+s.none()), packet.ProtocolError)
			s.refused("UNSUBSCRIBE without a filter", wire(0xa2, "\x00\x01"+s.none()), packet.ProtocolError)
			s.refused("SUBSCRIBE without options", wire(0x82, "\x00\x01"+s.none()+text("a")), packet.MalformedPacket)
		}},
		{"3.8.3-3", "", func(s *scene) {
			topic := s.name("t")
			p := s.client(nil)
			p.subscribe(topic, 1, func(x *packet.Subscribe) { x.Topics[0].NoLocal = true })
			p.stored(topic, "own", nil)
			s.client(nil).stored(topic, "other", nil)
			p.wantMessage(topic, "other", 1)
		}},
		{"3.8.3-4", "", func(s *scene) {
			s.refused("no local, shared", wire(0x82, "\x00\x01\x00"+text("$share/g/t")+"\x04"), packet.ProtocolError)
		}},
		{"3.8.3-5", "3.8.3-4", func(s *scene) {
			for _, options := range []byte{0x03, 0x40, 0x80, 0xc1} {
				s.refused(fmt.Sprintf("options %02x", options), wire(0x82, "\x00\x01"+s.none()+text("t")+string([]byte{options})), packet.MalformedPacket)
			}
			if s.is5() {
				s.refused("retain handling 3", wire(0x82, "\x00\x01\x00"+text("t")+"\x30"), packet.ProtocolError)
			} else {
				s.refused("options of MQTT 5", wire(0x82, "\x00\x01"+text("t")+"\x04"), packet.MalformedPacket)
			}
		}},
		{"3.8.4-3 3.8.4-4", "3.8.4-3", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair(topic, 1)
			pub.stored(topic, "retained", retained)
			sub.wantMessage(topic, "retained", 1)
			sub.subscribe(topic, 0, nil) // replaced, with the lower QoS
			if m := sub.wantMessage(topic, "retained", 0); !m.Retain {
				s.Error("not retained")
			}
			pub.stored(topic, "x", nil)
			sub.wantMessage(topic, "x", 0)
			sub.wantNothing()
			go func() {
				for i := range 100 {
					m := packet.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i)}
					_, _ = pub.nc.Write(m.Append(nil, s.v))
				}
			}()
			for i := 0; i < 100; { // nothing is lost while it is replaced again and again
				if i%10 == 5 {
					again := packet.Subscribe{ID: sub.nextID(), Topics: []packet.Subscription{{Filter: []byte(topic), QoS: byte(i / 10 % 2)}}}
					sub.write(again.Append(nil, s.v))
				}
				first, body, err := sub.read()
				if err != nil {
					s.Fatal(err)
				}
				var m packet.Publish
				if packet.TypeOf(first) != packet.PUBLISH || m.Decode(s.v, first, body) != nil || m.Retain {
					continue
				}
				if string(m.Payload) != fmt.Sprint(i) {
					s.Fatalf("got %s, want %d", m.Payload, i)
				}
				i++
			}
		}},
		{"3.8.4-8", "3.8.4-6", func(s *scene) {
			topic := s.name("t")
			var subs [3]*peer
			for qos := range subs {
				subs[qos] = s.client(nil)
				subs[qos].subscribe(topic, byte(qos), nil)
			}
			pub := s.client(nil)
			for qos := range byte(3) {
				id := pub.publish(topic, "x", qos, nil)
				if qos == 1 {
					pub.wantAck(packet.PUBACK, id, packet.Success)
				} else if qos == 2 {
					pub.wantAck(packet.PUBREC, id, packet.Success)
				}
				for granted, sub := range subs {
					sub.wantMessage(topic, "x", min(qos, byte(granted)))
				}
			}
		}},
		{"3.10.4-1 3.10.4-2", "3.10.4-1 3.10.4-2", func(s *scene) {
			base := s.name("t")
			sub, pub := s.pair(base+"/+", 1)
			sub.subscribe(base+"/#", 0, nil)
			for _, f := range []string{base + "/a", base + "/+/", strings.ToUpper(base) + "/+", base + "/#/"} {
				sub.unsubscribe(f) // other filters, though they match the same
			}
			pub.stored(base+"/a", "x", nil)
			sub.wantMessage(base+"/a", "x", 1)
			sub.unsubscribe(base + "/+")
			pub.stored(base+"/a", "y", nil)
			sub.wantMessage(base+"/a", "y", 0)
			sub.unsubscribe(base + "/#")
			pub.stored(base+"/a", "z", nil)
			sub.wantNothing()
		}},
		{"3.10.4-3", "3.10.4-3", func(s *scene) {
			id, topic := s.name("c"), s.name("t")
			sub := s.r.resume(s.v, id, false, nil)
			sub.subscribe(topic, 2, nil)
			pub := s.client(nil)
			pub.stored2(topic, "two")
			two := sub.wantQoS2("two", false)
			pub.stored(topic, "one", nil)
			one := sub.wantPublish().ID
			sub.unsubscribe(topic)
			sub.ack(packet.PUBREC, two)
			sub.wantAck(packet.PUBREL, two, packet.Success)
			_ = sub.nc.Close()
			sub = s.r.resume(s.v, id, true, nil)
			sub.wantAck(packet.PUBREL, two, packet.Success)
			if m := sub.wantMessage(topic, "one", 1); m.ID != one || !m.Dup {
				s.Errorf("id %d dup %v, want %d", m.ID, m.Dup, one)
			}
			sub.ack(packet.PUBCOMP, two)
			sub.wantNothing()
		}},
		{"4.7.1-1 4.7.1-2", "4.7.1-2 4.7.1-3", func(s *scene) {
			p := s.client(nil)
			bad := []string{"a#", "a/#/b", "#/a", "a+", "a/b+/c", "+a", "##"}
			for i, r := range p.subscribe("", 0, filters(0, bad...)) {
				if !r.Failed() {
					s.Errorf("%s is accepted", bad[i])
				}
			}
			base := s.name("t")
			for filter, want := range map[string]string{"/#": " /a /a/b /", "/+": "/a /", "/+/+": "/a/b", "/+/#": "/a /a/b /", "": " "} {
				sub, pub := s.pair(base+filter, 0)
				got := map[string]bool{}
				for _, topic := range []string{"", "/a", "/a/b", "/"} {
					pub.stored(base+topic, "x", nil)
				}
				pub.stored(s.name("end"), "x", nil)
				for n := len(strings.Split(want, " ")); len(got) < n && !(want == " " && len(got) == 1); {
					got[strings.TrimPrefix(string(sub.wantPublish().Topic), base)] = true
				}
				sub.wantNothing()
				for topic := range strings.SplitSeq(want, " ") {
					if !got[topic] {
						s.Errorf("%s does not match %q: %v", filter, topic, got)
					}
				}
			}
		}},
		{"4.7.2-1", "4.7.2-1", func(s *scene) {
			r := newRig(s.T, rigOptions{})
			pub := r.connect(s.v, "pub", nil)
			var subs []*peer
			for i, f := range []string{"#", "+/x", "+/#", "$own/#", "$own/+"} {
				p := r.connect(s.v, fmt.Sprint("c", i), nil)
				p.subscribe(f, 0, nil)
				subs = append(subs, p)
			}
			pub.stored("$own/x", "x", nil)
			for _, p := range subs[3:] {
				p.wantMessage("$own/x", "x", 0)
			}
			for _, p := range subs {
				p.wantNothing()
			}
		}},
		{"4.8.2-1 4.8.2-2", "", func(s *scene) {
			p := s.client(nil)
			for _, f := range []string{"$share/", "$share/g", "$share//t", "$share/g/", "$share/+/t", "$share/#/t", "$share/a+b/t"} {
				if got := p.subscribe(f, 0, nil); got[0] != packet.InvalidFilter {
					s.Errorf("%s: SUBACK 0x%02x", f, byte(got[0]))
				}
			}
			if got := p.subscribe("$share/g/"+s.name("t"), 1, nil); got[0] != packet.GrantedQoS1 {
				s.Errorf("SUBACK 0x%02x", byte(got[0]))
			}
		}},
		{"4.8.2-3", "", func(s *scene) {
			topic := s.name("t")
			sub, pub := s.pair("$share/g/"+topic, 0)
			pub.stored(topic, "x", nil)
			sub.wantMessage(topic, "x", 0)
			sub.subscribe("$share/g/"+topic, 1, nil)
			pub.stored2(topic, "x")
			sub.wantMessage(topic, "x", 1)
		}},
		{"4.8.2-4 4.8.2-5", "", func(s *scene) {
			topic, id := s.name("t"), s.name("c")
			filter := "$share/g/" + topic
			first := s.r.resume(s.v, id, false, nil)
			first.subscribe(filter, 2, nil)
			pub := s.client(nil)
			pub.stored2(topic, "x")
			number := first.wantQoS2("x", false)
			second := s.client(nil)
			second.subscribe(filter, 2, nil)
			_ = first.nc.Close()
			second.wantNothing()
			first = s.r.resume(s.v, id, true, nil)
			if again := first.wantQoS2("x", true); again != number {
				s.Errorf("id %d, want %d", again, number)
			}
			_ = first.nc.Close()
			s.r.connect(s.v, id, nil).wantNothing() // its session ends
			pub.stored(topic, "y", nil)
			second.wantMessage(topic, "y", 1)
			second.wantNothing()
		}},
		{"4.8.2-6", "", func(s *scene) {
			topic := s.name("t")
			a, pub := s.pair("$share/g/"+topic, 2)
			pub.stored(topic, "one", nil)
			one := a.wantPublish().ID
			pub.stored2(topic, "two")
			two := a.wantQoS2("two", false)
			b := s.client(nil)
			b.subscribe("$share/g/"+topic, 2, nil)
			a.write(packet.AppendAck(nil, packet.PUBACK, s.v, one, packet.ImplementationSpecific))
			a.write(packet.AppendAck(nil, packet.PUBREC, s.v, two, packet.ImplementationSpecific))
			a.wantNothing()
			_ = a.nc.Close()
			pub.stored(topic, "end", nil)
			b.wantMessage(topic, "end", 1)
			b.wantNothing()
		}},
	}
}
