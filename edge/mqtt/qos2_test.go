package mqtt

import (
	"fmt"
	"testing"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

func kept(c *packet.Connect) {
	c.CleanStart = false
	if c.Version >= packet.V5 {
		c.Properties.SessionExpiry = 3600
		c.Properties.Mark(packet.PropSessionExpiry)
	}
}

func TestMQTT_4_3_3_QoS2Once(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		p := r.connect(v, "c", kept)
		send := func(id uint16, payload string, dup bool) {
			p.publish("t", payload, 2, func(m *packet.Publish) { m.ID, m.Dup = id, dup })
			p.wantAck(packet.PUBREC, id, packet.Success)
		}
		release := func(id uint16, want packet.Reason) {
			if v < packet.V5 {
				want = packet.Success
			}
			p.write(packet.AppendAck(nil, packet.PUBREL, v, id, packet.Success))
			p.wantAck(packet.PUBCOMP, id, want)
		}
		send(1, "one", false)
		send(1, "one", true) // again, before PUBREL
		send(2, "two", false)
		p.disconnect()
		r.stop()
		r.start(rigOptions{}) // and after a restart
		p = r.connect(v, "c", kept)
		send(1, "one", true)
		release(1, packet.Success)
		release(1, packet.PacketIDNotFound)
		send(1, "another", false) // the id is free again
		release(2, packet.Success)
		release(1, packet.Success)
		if v == packet.V311 {
			p.disconnect()
			p = r.connect(v, "c", nil) // a clean session forgets
			send(5, "clean", false)
			p.disconnect()
			p = r.connect(v, "c", nil)
			send(5, "clean", true)
		}
		want := []string{"one", "two", "another"}
		if v == packet.V311 {
			want = append(want, "clean", "clean")
		}
		var got []string
		for _, rec := range r.logged(edge.DefaultTopic) {
			got = append(got, string(rec.Payload.Value()))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("log holds %v, want %v", got, want)
		}
		left := 0
		_ = r.store.Scan(qos2Space, "", func(string, []byte) bool { left++; return true })
		if left != 0 {
			t.Errorf("%d ids are still remembered", left)
		}
	})
}

// TestQoS2OneFrame: duplicates and releases that come in one read.
func TestQoS2OneFrame(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V5, "c", kept)
	var b []byte
	for i := range 50 {
		m := packet.Publish{Topic: []byte("t"), Payload: fmt.Appendf(nil, "%d", i), QoS: 2, ID: 9}
		b = m.Append(b, packet.V5)
		m.Dup = true
		b = m.Append(b, packet.V5)
		b = packet.AppendAck(b, packet.PUBREL, packet.V5, 9, packet.Success)
	}
	p.write(b)
	for range 50 {
		p.wantAck(packet.PUBREC, 9, packet.Success)
		p.wantAck(packet.PUBREC, 9, packet.Success)
		p.wantAck(packet.PUBCOMP, 9, packet.Success)
	}
	if got := r.logged(edge.DefaultTopic); len(got) != 50 {
		t.Errorf("%d records, want 50", len(got))
	}
}
