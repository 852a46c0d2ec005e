package mqtt

import (
	"fmt"
	"testing"

	"rivulet/edge/mqtt/packet"
)

// TestShareBalance: each message to one member, in turns; a member that does not acknowledge gets no more than its window.
func TestShareBalance(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		pub := r.connect(v, "pub", nil)
		all := r.connect(v, "all", nil)
		all.subscribe("#", 1, nil)
		var members []*peer
		for i := range 3 {
			p := r.connect(v, fmt.Sprint("m", i), nil)
			if got := p.subscribe("$share/g/t/#", 1, nil); got[0] != packet.GrantedQoS1 {
				t.Fatalf("granted %d", got[0])
			}
			members = append(members, p)
		}
		other := r.connect(v, "other", nil)
		other.subscribe("$share/h/t/#", 0, nil)
		eventually(t, "all are live", func() bool { return len(r.srv.notLive()) == 0 && r.srv.sharesLive() })
		const n = 30
		for i := range n {
			pub.stored("t/x", fmt.Sprint(i), nil)
			members[i%3].wantMessage("t/x", fmt.Sprint(i), 1)
			members[i%3].wantNothing() // a PUBACK that was not read counts as a message in flight, and passes the turn on
		}
		for i := range n {
			other.wantMessage("t/x", fmt.Sprint(i), 0)
			all.wantMessage("t/x", fmt.Sprint(i), 1)
		}
		for _, p := range append(members, other, all) {
			p.wantNothing()
		}
		if got := members[0].unsubscribe("$share/g/t/#"); v >= packet.V5 && got[0] != packet.Success {
			t.Errorf("UNSUBACK 0x%02x", byte(got[0]))
		}
		for i := range 4 {
			pub.stored("t/x", fmt.Sprint(i), nil)
			other.wantMessage("t/x", fmt.Sprint(i), 0)
		}
		for _, p := range members[1:] {
			p.wantPublish()
			p.wantPublish()
			p.wantNothing()
		}
		members[0].wantNothing()
	})
}

func (srv *Server) sharesLive() bool {
	srv.dispatch.mu.Lock()
	defer srv.dispatch.mu.Unlock()
	for _, g := range srv.shares {
		if !g.asleep && g.state.Load() != live {
			return false
		}
	}
	return true
}

// TestShareRedelivery: what a member leaves unacknowledged goes to another; QoS 2 waits for its session (MQTT-4.8.2-4).
func TestShareRedelivery(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub := r.connect(packet.V5, "pub", nil)
	a := r.resume(packet.V5, "a", false, nil)
	a.subscribe("$share/g/#", 2, nil)
	for i := range 3 {
		pub.stored("t", fmt.Sprint(i), nil)
		a.wantPublish()
	}
	pub.stored2("t", "twice")
	id := a.wantQoS2("twice", false)
	b := r.resume(packet.V5, "b", false, nil)
	b.subscribe("$share/g/#", 2, nil)
	eventually(t, "all are live", func() bool { return len(r.srv.notLive()) == 0 && r.srv.sharesLive() })
	pub.stored("t", "b's", nil) // it has nothing in flight
	b.wantMessage("t", "b's", 1)
	_ = a.nc.Close()
	for i := range 3 {
		if m := b.wantMessage("t", fmt.Sprint(i), 1); m.Dup {
			t.Error("DUP on the first delivery to this client (MQTT-3.3.1-3)")
		}
	}
	b.wantNothing()
	b.disconnect()
	for i := range 3 {
		pub.stored("t", fmt.Sprint("offline", i), nil)
	}
	r.stop()
	r.start(rigOptions{})
	a = r.resume(packet.V5, "a", true, nil)
	if got := a.wantQoS2("twice", true); got != id {
		t.Errorf("id %d, want %d", got, id)
	}
	for i := range 3 {
		a.wantMessage("t", fmt.Sprint("offline", i), 1)
	}
	a.complete(id)
	a.wantNothing()
	// Nobody holds it any more: who comes next begins anew.
	a.unsubscribe("$share/g/#")
	r.connect(packet.V5, "b", nil).disconnect()
	pub = r.connect(packet.V5, "pub", nil)
	pub.stored("t", "nobody's", nil)
	c := r.resume(packet.V5, "c", false, nil)
	c.subscribe("$share/g/#", 1, nil)
	pub.stored("t", "c's", nil)
	c.wantMessage("t", "c's", 1)
	c.wantNothing()
	c.unsubscribe("$share/g/#")
	if err := r.srv.sweepShares(); err != nil {
		t.Error(err)
	}
	eventually(t, "its position is forgotten", func() bool {
		v, err := r.store.Get(shareSpace, "$share/g/#")
		return v == nil && err == nil
	})
}

// TestShareSlow: members with small windows; all messages arrive once, whoever acknowledges gets more.
func TestShareSlow(t *testing.T) {
	r := newRig(t, rigOptions{})
	small := func(c *packet.Connect) {
		c.Properties.ReceiveMaximum = 5
		c.Properties.Mark(packet.PropReceiveMaximum)
	}
	slow, fast := r.connect(packet.V5, "slow", small), r.connect(packet.V5, "fast", small)
	slow.subscribe("$share/g/#", 1, nil)
	fast.subscribe("$share/g/#", 1, nil)
	pub := r.connect(packet.V311, "pub", nil)
	const n = 500
	for i := range n {
		pub.publish("t", fmt.Sprint(i), 1, nil)
	}
	for i := range n {
		pub.wantAck(packet.PUBACK, uint16(i+1), packet.Success)
	}
	seen := map[string]bool{}
	for range 5 {
		seen[string(slow.wantPublish().Payload)] = true
	}
	slow.wantNothing()
	for len(seen) < n {
		m := fast.wantPublish()
		if seen[string(m.Payload)] {
			t.Fatalf("%s came twice", m.Payload)
		}
		seen[string(m.Payload)] = true
		fast.ack(packet.PUBACK, m.ID)
	}
	fast.wantNothing()
	slow.wantNothing()
	_ = slow.nc.Close()
	for range 5 {
		m := fast.wantPublish()
		if !seen[string(m.Payload)] {
			t.Fatalf("%s came from nowhere", m.Payload)
		}
		fast.ack(packet.PUBACK, m.ID)
	}
	fast.wantNothing()
}
