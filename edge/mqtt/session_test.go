package mqtt

import (
	"fmt"
	"testing"
	"time"

	"rivulet/edge/mqtt/packet"
)

// resume connects without a clean start and checks whether there was a session.
func (r *rig) resume(v packet.Version, id string, want bool, change func(*packet.Connect)) *peer {
	r.t.Helper()
	p, a := r.connack(v, id, func(c *packet.Connect) {
		kept(c)
		if change != nil {
			change(c)
		}
	})
	if a.Reason != packet.Success || a.SessionPresent != (want && v != packet.V31) { // 3.1 does not say
		r.t.Fatalf("CONNACK 0x%02x, session present %v, want %v", byte(a.Reason), a.SessionPresent, want)
	}
	return p
}

func TestMQTT_3_1_2_5_SessionResumed(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		p := r.resume(v, "c", false, nil)
		p.subscribe("a/#", 1, nil)
		p.subscribe("zero", 0, nil)
		pub := r.connect(v, "pub", nil)
		pub.stored("a/1", "while there", nil)
		p.wantMessage("a/1", "while there", 1)
		p.disconnect()
		for i := range 20 {
			pub.publish("a/0", "QoS 0 is not kept", 0, nil)
			pub.stored("zero", "x", nil)
			pub.stored("a/1", fmt.Sprint(i), nil)
		}
		p = r.resume(v, "c", true, nil)
		for i := range 20 {
			p.wantMessage("a/1", fmt.Sprint(i), 1)
		}
		p.wantNothing()
		p.disconnect()
		pub.stored("a/1", "before the restart", nil)
		r.stop()
		r.start(rigOptions{})
		pub = r.connect(v, "pub", nil)
		pub.stored("a/1", "after it", nil)
		p = r.resume(v, "c", true, nil)
		p.wantMessage("a/1", "before the restart", 1)
		p.wantMessage("a/1", "after it", 1)
		p.wantNothing()
		p.disconnect()
		p = r.connect(v, "c", nil) // MQTT-3.1.2-4: a clean start forgets
		pub.stored("a/1", "x", nil)
		p.wantNothing()
		p.disconnect()
		r.resume(v, "c", false, nil).disconnect()
	})
}

func TestMQTT_4_4_0_1_Redelivery(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		pub := r.connect(v, "pub", nil)
		pub.stored("t", "retained", func(m *packet.Publish) { m.Retain = true })
		p := r.resume(v, "c", false, nil)
		p.subscribe("t", 1, nil)
		var ids []uint16
		for i := range 10 {
			if i > 0 {
				pub.stored("t", fmt.Sprint(i), nil)
			}
			m := p.wantPublish()
			if i == 3 || i == 5 { // two are acknowledged, out of order
				p.write(packet.AppendAck(nil, packet.PUBACK, v, m.ID, packet.Success))
				continue
			}
			ids = append(ids, m.ID)
		}
		check := func(p *peer) {
			t.Helper()
			want := []string{"retained", "1", "2", "4", "6", "7", "8", "9"}
			for i, id := range ids {
				m := p.wantPublish()
				if !m.Dup || m.ID != id || string(m.Payload) != want[i] || m.Retain != (i == 0) {
					t.Errorf("got %q id %d dup %v retain %v, want %q id %d", m.Payload, m.ID, m.Dup, m.Retain, want[i], id)
				}
			}
		}
		p.wantNothing() // the acknowledgements have arrived
		_ = p.nc.Close()
		p = r.resume(v, "c", true, nil)
		check(p)
		_ = p.nc.Close()
		eventually(t, "the session is put away", func() bool { return r.srv.Stats().Clients == 1 })
		r.stop()
		r.start(rigOptions{})
		p = r.resume(v, "c", true, nil)
		check(p)
		pub = r.connect(v, "pub", nil)
		pub.stored("t", "new", nil)
		m := p.wantMessage("t", "new", 1)
		for _, id := range ids {
			if m.ID == id || m.Dup {
				t.Errorf("a new message has id %d, dup %v", m.ID, m.Dup)
			}
			p.write(packet.AppendAck(nil, packet.PUBACK, v, id, packet.Success))
		}
		p.wantNothing()
		p.disconnect()
		p = r.resume(v, "c", true, nil)
		p.wantNothing()
	})
}

// TestPositionSurvivesCrash: the store is not told that the client left.
func TestPositionSurvivesCrash(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.resume(packet.V5, "c", false, nil)
	p.subscribe("t", 1, nil)
	pub := r.connect(packet.V5, "pub", nil)
	for i := range 10 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	for i := range 5 {
		p.wantMessage("t", fmt.Sprint(i), 1)
	}
	for range 5 { // sent, and not acknowledged
		if first, _, err := p.read(); err != nil || packet.TypeOf(first) != packet.PUBLISH {
			t.Fatalf("packet %#x, %v", first, err)
		}
	}
	p.wantNothing() // the answer to the ping: the acknowledgements were read
	eventually(t, "the position is stored", func() bool {
		r.srv.notePositions()
		v, err := r.store.Get(positionSpace, "c")
		s := &session{srv: r.srv}
		return err == nil && s.decodePosition(v) == nil && s.window.used == 5
	})
	r.srv.dispatch.mu.Lock() // nothing is put away from here on, as in a crash
	v, _ := r.store.Get(positionSpace, "c")
	sv, _ := r.store.Get(sessionSpace, "c")
	r.srv.dispatch.mu.Unlock()
	_ = p.nc.Close()
	r.stop()
	r.start(rigOptions{})
	if err := r.store.Do(t.Context(), commitOf(sessionSpace, "c", sv, positionSpace, "c", v)); err != nil {
		t.Fatal(err)
	}
	p = r.resume(packet.V5, "c", true, nil)
	for i := 5; i < 10; i++ {
		if m := p.wantMessage("t", fmt.Sprint(i), 1); !m.Dup {
			t.Errorf("%d: sent again without DUP", i)
		}
	}
	p.wantNothing()
}

func TestSessionExpiry(t *testing.T) {
	clock := newClock()
	r := newRig(t, rigOptions{server: func(o *Options) { o.Now = clock.now }})
	r.resume(packet.V5, "c", false, nil).disconnect()
	clock.add(3599 * time.Second)
	r.resume(packet.V5, "c", true, nil).disconnect()
	clock.add(3602 * time.Second)
	r.resume(packet.V5, "c", false, nil).disconnect()
	clock.add(3602 * time.Second)
	r.resume(packet.V311, "for ever", false, nil).disconnect()
	r.srv.sweep()
	left := 0
	_ = r.store.Scan(sessionSpace, "", func(string, []byte) bool { left++; return true })
	if left != 1 {
		t.Errorf("%d sessions are kept, want 1", left)
	}
	p := r.resume(packet.V5, "c", false, nil) // DISCONNECT ends it
	var d packet.Disconnect
	d.Properties.Mark(packet.PropSessionExpiry)
	p.write(d.Append(nil, packet.DISCONNECT, packet.V5))
	p.wantEnd(packet.Success)
	r.resume(packet.V5, "c", false, nil)
}

func TestMaxSessionExpiry(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxSessionExpiry = time.Minute }})
	_, a := r.connack(packet.V5, "c", kept)
	if !a.Properties.Has(packet.PropSessionExpiry) || a.Properties.SessionExpiry != 60 {
		t.Errorf("session expiry %d", a.Properties.SessionExpiry)
	}
}

// TestTakeOverKeepsOrder: the second connection gets what the first did not acknowledge, then the rest.
func TestTakeOverKeepsOrder(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub := r.connect(packet.V5, "pub", nil)
	p := r.resume(packet.V5, "c", false, nil)
	p.subscribe("t", 1, nil)
	next := 0
	for round := range 5 {
		for i := range 50 {
			pub.stored("t", fmt.Sprint(round*50+i), nil)
		}
		p = r.resume(packet.V5, "c", true, nil)
		for range 20 {
			p.wantMessage("t", fmt.Sprint(next), 1)
			next++
		}
		p.wantNothingNew()
	}
}

// A client that comes back while what is left of its session is removed waits for that, and begins a new one, which nobody removes.
func TestComingBackWhileTheSessionExpires(t *testing.T) {
	clock := newClock()
	r := newRig(t, rigOptions{server: func(o *Options) { o.Now = clock.now }})
	hour := func(c *packet.Connect) {
		c.CleanStart = false
		c.Properties.SessionExpiry = 3600
		c.Properties.Mark(packet.PropSessionExpiry)
	}
	p := r.connect(packet.V5, "c", hour)
	p.subscribe("a/#", 1, nil)
	if _, ok := r.srv.claim("c"); ok {
		t.Fatal("the id of a connected client was claimed")
	}
	p.disconnect()
	eventually(t, "the session is put away", func() bool { return r.srv.Stats().Clients == 0 })
	clock.add(2 * time.Hour)
	release, ok := r.srv.claim("c")
	if _, again := r.srv.claim("c"); !ok || again {
		t.Fatalf("claimed %v, and again %v", ok, again)
	}
	back := r.dial(packet.V5)
	c := packet.Connect{Version: packet.V5, KeepAlive: 60, ClientID: []byte("c")}
	hour(&c)
	back.write(c.Append(nil))
	release()
	if ack := back.wantConnack(); ack.Reason != packet.Success || ack.SessionPresent {
		t.Fatalf("CONNACK 0x%02x, session present %v", byte(ack.Reason), ack.SessionPresent)
	}
	if err := r.srv.expire("c", clock.now()); err != nil {
		t.Fatal(err)
	}
	if value, err := r.store.Get(sessionSpace, "c"); err != nil || value == nil {
		t.Fatalf("the new session was removed: %v", err)
	}
}
