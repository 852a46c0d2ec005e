package mqtt

import (
	"fmt"
	"testing"

	"rivulet/edge/mqtt/packet"
)

// wantQoS2 reads a QoS 2 PUBLISH and checks it.
func (p *peer) wantQoS2(payload string, dup bool) uint16 {
	p.t.Helper()
	m := p.wantPublish()
	if string(m.Payload) != payload || m.QoS != 2 || m.Dup != dup {
		p.t.Fatalf("got %q QoS %d dup %v, want %q QoS 2 dup %v", m.Payload, m.QoS, m.Dup, payload, dup)
	}
	return m.ID
}

func (p *peer) ack(t packet.Type, id uint16) {
	p.t.Helper()
	p.write(packet.AppendAck(nil, t, p.v, id, packet.Success))
}

// complete is a receiver's part of a QoS 2 exchange behind PUBLISH.
func (p *peer) complete(id uint16) {
	p.t.Helper()
	p.ack(packet.PUBREC, id)
	p.wantAck(packet.PUBREL, id, packet.Success)
	p.ack(packet.PUBCOMP, id)
}

func (p *peer) stored2(topic, payload string) {
	p.t.Helper()
	id := p.publish(topic, payload, 2, nil)
	p.wantAck(packet.PUBREC, id, packet.Success)
	p.ack(packet.PUBREL, id)
	p.wantAck(packet.PUBCOMP, id, packet.Success)
}

// TestQoS2Outbound: all states of an exchange, through a lost connection and a restart.
func TestQoS2Outbound(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		pub, p := r.connect(v, "pub", nil), r.resume(v, "c", false, nil)
		if got := p.subscribe("t", 2, nil); got[0] != packet.GrantedQoS2 {
			t.Fatalf("granted %d", got[0])
		}
		var ids [5]uint16
		for i := range ids {
			pub.stored2("t", fmt.Sprint(i))
			ids[i] = p.wantQoS2(fmt.Sprint(i), false)
		}
		pub.stored("t", "QoS 1", nil)
		p.wantMessage("t", "QoS 1", 1)
		p.complete(ids[0])
		p.ack(packet.PUBREC, ids[1]) // released
		p.wantAck(packet.PUBREL, ids[1], packet.Success)
		p.ack(packet.PUBREC, ids[1]) // again
		p.wantAck(packet.PUBREL, ids[1], packet.Success)
		p.ack(packet.PUBACK, ids[2])  // not an answer to QoS 2
		p.ack(packet.PUBCOMP, ids[2]) // too early
		if v >= packet.V5 {
			p.write(packet.AppendAck(nil, packet.PUBREC, v, ids[4], packet.QuotaExceeded)) // refused: no PUBREL
			p.ack(packet.PUBREC, 999)
			p.wantAck(packet.PUBREL, 999, packet.PacketIDNotFound)
		}
		p.wantNothing()
		for restart := range 2 {
			if restart > 0 {
				r.stop()
				r.start(rigOptions{})
				pub = r.connect(v, "pub", nil)
			} else {
				_ = p.nc.Close()
				eventually(t, "the connection is gone", func() bool { return r.srv.Stats().Clients == 1 })
			}
			pub.stored2("t", fmt.Sprint("new", restart))
			p = r.resume(v, "c", true, nil)
			p.wantAck(packet.PUBREL, ids[1], packet.Success)
			for i := 2; i < 5; i++ {
				if i == 4 && v >= packet.V5 {
					continue
				}
				if id := p.wantQoS2(fmt.Sprint(i), true); id != ids[i] {
					t.Errorf("%d: id %d, want %d", i, id, ids[i])
				}
			}
			p.complete(p.wantQoS2(fmt.Sprint("new", restart), false))
			p.wantNothing()
		}
		p.ack(packet.PUBCOMP, ids[1])
		p.complete(ids[2])
		p.complete(ids[3])
		if v < packet.V5 {
			p.complete(ids[4])
		}
		p.wantNothing()
		p.disconnect()
		p = r.resume(v, "c", true, nil)
		p.wantNothing()
		left := 0
		_ = r.store.Scan(outboundSpace, "", func(string, []byte) bool { left++; return true })
		if left != 0 {
			t.Errorf("%d messages are still remembered", left)
		}
	})
}

// TestQoS2ManyToManyKept: a burst to sessions that are kept, read slowly, in order and once.
func TestQoS2Burst(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxQueued, o.MaxInFlight = 32<<10, 100 }})
	const n = 2000
	var subs []*peer
	for i := range 3 {
		v := packet.V311 + packet.Version(i&1)
		p := r.resume(v, fmt.Sprint("c", i), false, nil)
		p.subscribe("#", 2, nil)
		subs = append(subs, p)
	}
	pub := r.connect(packet.V311, "pub", nil)
	go func() {
		var b []byte
		for i := range n {
			m := packet.Publish{Topic: []byte("t"), Payload: fmt.Appendf(nil, "%d %0100d", i, 0), QoS: 2, ID: uint16(i + 1)}
			b = m.Append(b, packet.V311)
		}
		for i := range n {
			b = packet.AppendAck(b, packet.PUBREL, packet.V311, uint16(i+1), packet.Success)
		}
		_, _ = pub.nc.Write(b)
	}()
	for _, p := range subs {
		next := 0
		for next < n {
			first, body, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			switch packet.TypeOf(first) {
			case packet.PUBLISH:
				var m packet.Publish
				if err := m.Decode(p.v, first, body); err != nil {
					t.Fatal(err)
				}
				var i int
				fmt.Sscan(string(m.Payload), &i)
				if i != next || m.Dup {
					t.Fatalf("got %d dup %v, want %d", i, m.Dup, next)
				}
				next++
				p.ack(packet.PUBREC, m.ID)
			case packet.PUBREL:
				p.ack(packet.PUBCOMP, uint16(body[0])<<8|uint16(body[1]))
			}
		}
	}
}
