package mqtt

import (
	"context"
	"testing"
	"time"

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
	if d := time.Since(start); d < time.Second || d > 8*time.Second {
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

func TestRetainedWillOnShutdown(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V5, "c", func(c *packet.Connect) { withWill(3600, 3600)(c); c.WillRetain = true })
	_ = p.nc.Close()
	eventually(t, "the will waits", func() bool {
		r.srv.mu.Lock()
		defer r.srv.mu.Unlock()
		return len(r.srv.wills) == 1
	})
	if err := r.srv.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := r.broker.RetainedCount(); n != 1 {
		t.Errorf("%d retained messages, want the will", n)
	}
}
