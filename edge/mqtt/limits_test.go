package mqtt

import (
	"strings"
	"testing"
	"time"

	"rivulet/edge/mqtt/packet"
)

func TestBucket(t *testing.T) {
	at := time.Unix(0, 0)
	var b bucket
	rate := Rate{Messages: 10, Bytes: 1000}
	for i, c := range []struct {
		after           time.Duration
		messages, bytes int
		want            time.Duration
	}{
		{0, 10, 0, 0},                                 // a second's worth at once
		{0, 5, 0, 500 * time.Millisecond},             // overdrawn by 5
		{time.Second, 1, 0, 0},                        // 4 left
		{100 * time.Second, 0, 3000, 2 * time.Second}, // bytes count too
		{-time.Second, 0, 0, 2 * time.Second},         // a clock that goes back gives nothing
	} {
		at = at.Add(c.after)
		if got := b.take(rate, at, c.messages, c.bytes); got != c.want {
			t.Errorf("step %d: wait %v, want %v", i, got, c.want)
		}
	}
}

func TestMessageRate(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.Rate.Messages, o.RateDisconnect = 5, true }})
	p := r.connect(packet.V5, "fast", nil)
	for range 20 {
		p.publish("t", "x", 0, nil)
	}
	p.wantEnd(packet.MessageRateTooHigh)
	slow := newRig(t, rigOptions{server: func(o *Options) { o.RateAll.Bytes = 10000 }})
	p = slow.connect(packet.V5, "slow", nil)
	for range 3 {
		p.stored("t", strings.Repeat("x", 8000), nil)
	}
	if s := slow.srv.Stats(); s.Throttled == 0 || s.Published != 3 {
		t.Errorf("%+v", s)
	}
}

func TestTopicLevels(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxTopicLevels, o.MaxSubscriptions = 3, 2 }})
	p := r.connect(packet.V5, "c", nil)
	p.stored("a/b/c", "x", nil)
	p.wantAck(packet.PUBACK, p.publish("a/b/c/d", "x", 1, nil), packet.InvalidTopic)
	for filter, want := range map[string]packet.Reason{"a/+/+/d": packet.InvalidFilter, "$share/g/a/b/c/d": packet.InvalidFilter, "$share/g/a/b/c": packet.GrantedQoS1} {
		if got := p.subscribe(filter, 1, nil); got[0] != want {
			t.Errorf("%s: SUBACK 0x%02x, want 0x%02x", filter, byte(got[0]), byte(want))
		}
	}
	p.subscribe("a", 1, nil)
	if got := p.subscribe("b", 1, nil); got[0] != packet.QuotaExceeded {
		t.Errorf("SUBACK 0x%02x, want 0x97", byte(got[0]))
	}
	if got := p.subscribe("a", 0, nil); got[0] != packet.Success {
		t.Errorf("changing a subscription at the limit: SUBACK 0x%02x", byte(got[0]))
	}
	few := newRig(t, rigOptions{server: func(o *Options) { o.MaxAllSubscriptions = 2 }})
	one, two := few.connect(packet.V5, "one", nil), few.connect(packet.V311, "two", nil)
	one.subscribe("a", 0, nil)
	two.subscribe("a", 0, nil)
	if got := one.subscribe("b", 0, nil); got[0] != packet.QuotaExceeded {
		t.Errorf("SUBACK 0x%02x, want 0x97", byte(got[0]))
	}
	if v, ack := r.connack(packet.V5, "q", func(c *packet.Connect) {
		c.Properties.RequestProblemInfo = 0
		c.Properties.Mark(packet.PropRequestProblemInfo)
	}); ack.Reason == packet.Success {
		v.write((&packet.Publish{Topic: []byte("a/b/c/d"), QoS: 1, ID: 1}).Append(nil, packet.V5))
		if first, body := v.want(packet.PUBACK); first != 0x40 || len(body) != 3 { // MQTT-3.1.2-29
			t.Errorf("PUBACK %x for a client that wants no reason strings", body)
		}
	}
}

// Other limits hold without a connection being lost: what was agreed with a client stays until it comes again, the rest holds at once.
func TestLimitsThatChange(t *testing.T) {
	r := newRig(t, rigOptions{})
	agreed := func(ack packet.Connack) [3]int {
		a := &ack.Properties
		return [3]int{int(a.ReceiveMaximum), int(a.TopicAliasMaximum), int(a.MaximumPacketSize)}
	}
	before, ack := r.connack(packet.V5, "before", nil)
	if got := agreed(ack); got != [3]int{8192, 256, 1 << 20} {
		t.Errorf("at first %v", got)
	}
	if got := before.subscribe("a", 1, nil); got[0] != packet.GrantedQoS1 {
		t.Errorf("SUBACK 0x%02x", byte(got[0]))
	}
	before.stored("a/b/c", "x", nil)
	other := r.srv.o
	other.MaxPacket, other.ReceiveMaximum, other.TopicAliases, other.MaxTopicLevels, other.MaxSubscriptions = 4096, 7, 3, 2, 1
	r.srv.SetLimits(other)
	// At once, also for a topic that the connection remembers.
	before.wantAck(packet.PUBACK, before.publish("a/b/c", "x", 1, nil), packet.InvalidTopic)
	if got := before.subscribe("b", 1, nil); got[0] != packet.QuotaExceeded {
		t.Errorf("one subscription more: SUBACK 0x%02x", byte(got[0]))
	}
	if got := before.subscribe("a/b/c", 1, nil); got[0] != packet.InvalidFilter {
		t.Errorf("a level more: SUBACK 0x%02x", byte(got[0]))
	}
	// As it was agreed.
	before.stored("t", strings.Repeat("x", 8000), nil)
	after, ack := r.connack(packet.V5, "after", nil)
	if got := agreed(ack); got != [3]int{7, 3, 4096} {
		t.Errorf("later %v", got)
	}
	after.publish("t", strings.Repeat("x", 8000), 1, nil)
	after.wantEnd(packet.PacketTooLarge)
	r.srv.SetLimits(Options{MaxConnections: 1})
	if _, ack := r.connack(packet.V5, "more", nil); ack.Reason != packet.ServerBusy {
		t.Errorf("too many connections: %v", ack.Reason)
	}
	before.stored("a/b/c", "x", nil)
	r.srv.SetLimits(Options{})
	third := r.connect(packet.V5, "third", nil)
	r.srv.SetLimits(Options{Rate: Rate{Messages: 5}, RateDisconnect: true})
	third.stored("a/b/c", "x", nil)
	for range 20 {
		third.publish("t", "x", 0, nil)
	}
	third.wantEnd(packet.MessageRateTooHigh)
}
