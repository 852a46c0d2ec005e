package mqtt

import (
	"slices"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

func withWill(delay, expiry uint32) func(*packet.Connect) {
	return func(c *packet.Connect) {
		c.HasWill, c.WillQoS, c.WillTopic, c.WillPayload = true, 1, []byte("will"), []byte("gone")
		if c.Version >= packet.V5 {
			c.WillProperties.WillDelay = delay
			c.WillProperties.ContentType = []byte("text/plain")
			c.WillProperties.UserRaw = packet.AppendUser(nil, "a", "b")
			c.WillProperties.Mark(packet.PropWillDelay, packet.PropContentType, packet.PropUser)
			c.Properties.SessionExpiry = expiry
			c.Properties.Mark(packet.PropSessionExpiry)
		}
	}
}

func TestMQTT_3_1_2_8_Will(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		watch := r.connect(packet.V5, "watch", nil)
		watch.subscribe("will", 1, nil)
		wanted := func() {
			t.Helper()
			m := watch.wantMessage("will", "gone", 1)
			if v >= packet.V5 && (string(m.Properties.ContentType) != "text/plain" || !m.Properties.Has(packet.PropUser)) {
				t.Errorf("properties are lost: %+v", m.Properties)
			}
		}
		p := r.connect(v, "c", withWill(0, 0))
		_ = p.nc.Close() // lost
		wanted()
		p = r.connect(v, "c", withWill(0, 0))
		p.disconnect() // MQTT-3.14.4-3
		watch.wantNothing()
		p = r.connect(v, "c", withWill(0, 0))
		p.write([]byte{0xf0, 0}) // a protocol error
		p.wantEnd(packet.ProtocolError)
		wanted()
		p = r.connect(v, "c", withWill(0, 0))
		q := r.connect(v, "c", withWill(0, 0)) // taken over
		p.wantEnd(packet.SessionTakenOver)
		wanted()
		if v >= packet.V5 {
			q.write((&packet.Disconnect{Reason: packet.DisconnectWithWill}).Append(nil, packet.DISCONNECT, v))
			wanted()
		}
	})
}

func TestMQTT_3_1_3_9_WillDelay(t *testing.T) {
	r := newRig(t, rigOptions{})
	watch := r.connect(packet.V5, "watch", nil)
	watch.subscribe("will", 1, nil)
	lose := func(delay, expiry uint32) {
		t.Helper()
		p := r.connect(packet.V5, "c", withWill(delay, expiry))
		_ = p.nc.Close()
		eventually(t, "the connection is gone", func() bool { return r.srv.Stats().Clients == 1 })
	}
	start := time.Now()
	lose(3600, 0) // the session ends with the connection: at once
	watch.wantMessage("will", "gone", 1)
	lose(3600, 1) // the session ends first
	watch.wantMessage("will", "gone", 1)
	if d := time.Since(start); d < time.Second {
		t.Errorf("the second came after %v", d)
	}
	lose(3600, 3600)
	resume := func(c *packet.Connect) { withWill(3600, 3600)(c); c.CleanStart = false }
	p := r.connect(packet.V5, "c", resume) // in time: forgotten
	watch.wantNothing()
	_ = p.nc.Close()
	eventually(t, "the connection is gone", func() bool { return r.srv.Stats().Clients == 1 })
	r.connect(packet.V5, "c", nil) // a clean start ends the session
	watch.wantMessage("will", "gone", 1)
}

// TestWillSurvivesRestart: one that waits when the broker stops is published by the next run, in time.
func TestWillSurvivesRestart(t *testing.T) {
	clock := newClock()
	options := rigOptions{server: func(o *Options) { o.Now = clock.now }}
	r := newRig(t, options)
	p := r.connect(packet.V5, "c", func(c *packet.Connect) { withWill(3600, 7200)(c); c.WillRetain = true })
	waiting := func() int {
		r.srv.mu.Lock()
		defer r.srv.mu.Unlock()
		return len(r.srv.wills)
	}
	_ = p.nc.Close()
	eventually(t, "the will waits", func() bool { return waiting() == 1 })
	clock.add(1800 * time.Second)
	r.stop()
	r.start(options)
	if n, _, _ := r.broker.RetainedCount(); n != 0 || waiting() != 1 {
		t.Fatalf("%d retained messages, %d wills wait, too early", n, waiting())
	}
	r.stop()
	clock.add(1801 * time.Second)
	r.start(options)
	watch := r.connect(packet.V5, "watch", nil)
	eventually(t, "the will is published", func() bool { n, _, _ := r.broker.RetainedCount(); return n == 1 })
	watch.subscribe("will", 1, nil)
	m := watch.wantMessage("will", "gone", 1)
	if !m.Retain || string(m.Properties.ContentType) != "text/plain" || !m.Properties.Has(packet.PropUser) {
		t.Errorf("got %+v", m)
	}
	if v, err := r.store.Get(willSpace, "c"); v != nil || err != nil {
		t.Errorf("the will is still stored: %s, %v", v, err)
	}
	if got := headers(r.logged(edge.DefaultTopic)[0]); got[edge.HeaderClient] != "c" {
		t.Errorf("headers %v", got)
	}
}

// TestWillOfACrash: who was connected when the broker died is lost; the next run says so. Who said goodbye has no will.
func TestWillOfACrash(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.connect(packet.V311, "c", withWill(0, 0))
	value, err := r.store.Get(willSpace, "c")
	if value == nil || err != nil {
		t.Fatalf("the will was not stored before CONNACK: %v", err)
	}
	value = slices.Clone(value)
	p := r.connect(packet.V311, "polite", withWill(0, 0))
	p.disconnect()
	eventually(t, "a will is forgotten", func() bool { v, err := r.store.Get(willSpace, "polite"); return v == nil && err == nil })
	r.stop() // publishes it a first time
	r.start(rigOptions{broker: func(o *edge.Options) {
		if err := o.Store.Do(t.Context(), commitOf(willSpace, "c", value)); err != nil {
			t.Fatal(err)
		}
	}})
	eventually(t, "the will is published", func() bool { return len(r.logged(edge.DefaultTopic)) == 2 })
}
