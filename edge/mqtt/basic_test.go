package mqtt

import (
	"fmt"
	"testing"

	"rivulet/edge/mqtt/packet"
)

func TestPublishSubscribe(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		sub, pub := r.connect(v, "sub", nil), r.connect(v, "pub", nil)
		if got := sub.subscribe("a/+/c", 1, nil); got[0] != packet.GrantedQoS1 {
			t.Fatalf("granted %d", got)
		}
		for i := range 100 {
			pub.stored("a/b/c", fmt.Sprint(i), nil)
		}
		pub.stored("a/b/d", "not this", nil)
		pub.publish("a/x/c", "zero", 0, nil)
		for i := range 100 {
			sub.wantMessage("a/b/c", fmt.Sprint(i), 1)
		}
		sub.wantMessage("a/x/c", "zero", 0)
		sub.wantNothing()
		sub.disconnect()
		pub.disconnect()
	})
}

func TestPipelined(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub, sub := r.connect(packet.V311, "pub", nil), r.connect(packet.V5, "sub", nil)
	sub.subscribe("#", 1, nil)
	before := r.store.Stats().Frames
	var all []byte
	const n = 1000
	for i := range n {
		m := packet.Publish{Topic: []byte("t"), Payload: fmt.Appendf(nil, "%d", i), QoS: 1, ID: uint16(i + 1)}
		all = m.Append(all, packet.V311)
	}
	pub.write(all)
	for i := range n {
		pub.wantAck(packet.PUBACK, uint16(i+1), packet.Success)
	}
	if frames := r.store.Stats().Frames - before; frames > 6 { // the topic takes some
		t.Errorf("%d messages in flight took %d commits", n, frames)
	}
	for i := range n {
		sub.wantMessage("t", fmt.Sprint(i), 1)
	}
}
