package mqtt

import (
	"testing"
	"time"

	"rivulet/edge/mqtt/packet"
)

// parkRig is a rig that parks connections at once, and a function that waits until n are.
func parkRig(t *testing.T, change func(*Options)) (*rig, func(n int64)) {
	r := newRig(t, rigOptions{server: func(o *Options) {
		o.parkAfter = time.Millisecond
		if change != nil {
			change(o)
		}
	}})
	return r, func(n int64) {
		t.Helper()
		eventually(t, "connections are parked", func() bool { return r.srv.stats.parked.Load() >= n })
	}
}

// TestParkedConnection: what a parked connection is sent reaches it, what it sends is handled, byte by byte, and it is parked again.
func TestParkedConnection(t *testing.T) {
	r, parked := parkRig(t, nil)
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V5, "pub", func(c *packet.Connect) { c.KeepAlive = 0 })
	sub.subscribe("#", 1, nil)
	for range 5 {
		parked(2)
		pub.stored("t", "x", nil)
		m := sub.wantMessage("t", "x", 1)
		sub.write(packet.AppendAck(nil, packet.PUBACK, packet.V5, m.ID, packet.Success))
	}
	m := packet.Publish{Topic: []byte("t"), Payload: []byte("bytes"), QoS: 1, ID: 77}
	for i, b := range m.Append(nil, packet.V5) {
		if i == 0 { // with half a packet it is not parked
			parked(2)
		}
		pub.write([]byte{b})
	}
	pub.wantAck(packet.PUBACK, 77, packet.Success)
	sub.wantMessage("t", "bytes", 1)
	parked(2)
	sub.write(packet.AppendPing(nil, packet.PINGREQ))
	sub.want(packet.PINGRESP)
}

// TestParkedConnectionEnds: by its keep-alive, by another of its id, with the server, and by itself.
func TestParkedConnectionEnds(t *testing.T) {
	r, parked := parkRig(t, nil)
	watch := r.connect(packet.V5, "watch", nil)
	watch.subscribe("gone", 0, nil)
	silent := r.connect(packet.V5, "silent", func(c *packet.Connect) {
		c.KeepAlive, c.HasWill, c.WillTopic, c.WillPayload = 1, true, []byte("gone"), []byte("silent")
	})
	taken := r.connect(packet.V5, "taken", nil)
	left := r.connect(packet.V5, "left", func(c *packet.Connect) { c.HasWill, c.WillTopic, c.WillPayload = true, []byte("gone"), []byte("left") })
	parked(4)
	again := r.connect(packet.V5, "taken", nil)
	taken.wantEnd(packet.SessionTakenOver)
	_ = left.nc.Close()
	watch.wantMessage("gone", "left", 0)
	silent.wantEnd(packet.KeepAliveTimeout)
	watch.wantMessage("gone", "silent", 0)
	parked(2)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	again.wantEnd(packet.ServerShuttingDown)
	<-stopped
}

func TestTidier(t *testing.T) {
	d := tidier{since: tidyRest}
	for i, look := range []struct {
		parked int64
		want   bool
	}{
		{400, false}, {1000, false}, {4000, false}, {5000, false}, {5010, true}, // when they have come
		{5010, false}, {5010, false}, {5010, false}, {5600, false}, {5600, false}, {5600, false}, // a few more
		{100, false}, {3000, false}, {3000, true}, {0, false}, {900, false}, {900, false}, // too soon
		{900, false}, {900, true},
	} {
		if got := d.due(look.parked); got != look.want {
			t.Errorf("look %d, %d parked: %v", i, look.parked, got)
		}
	}
}
