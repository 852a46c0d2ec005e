package mqtt

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// withJog is a broker that does not log what is published to jog.
func withJog(o *edge.Options) {
	o.Routes = []edge.Route{{MQTT: "jog/#", Live: true}, {MQTT: "factory/#", Topic: "factory"}}
}

func TestLiveIsDeliveredAndNotLogged(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{broker: withJog})
		sub, pub := r.connect(v, "sub", nil), r.connect(v, "pub", nil)
		sub.subscribe("jog/#", 1, nil)
		before := r.store.LastSeq()
		pub.publish("jog/x", "zero", 0, nil)
		sub.wantMessage("jog/x", "zero", 0)
		pub.stored("jog/x", "one", nil)
		sub.wantMessage("jog/x", "one", 1)
		id := pub.publish("jog", "two", 2, nil)
		pub.wantAck(packet.PUBREC, id, packet.Success)
		sub.wantMessage("jog", "two", 1)
		pub.publish("jog", "two", 2, func(m *packet.Publish) { m.ID, m.Dup = id, true })
		pub.wantAck(packet.PUBREC, id, packet.Success)
		pub.write(packet.AppendAck(nil, packet.PUBREL, v, id, packet.Success))
		pub.wantAck(packet.PUBCOMP, id, packet.Success)
		sub.wantNothing() // the second was the first sent again
		if after := r.store.LastSeq(); after != before {
			t.Errorf("the log grew by %d frames", after-before)
		}
		if topics := r.store.Topics(); len(topics) != 0 {
			t.Errorf("topics were made: %v", topics)
		}
	})
}

func TestLiveCarriesProperties(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog})
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V5, "pub", nil)
	sub.subscribe("jog/#", 1, func(s *packet.Subscribe) {
		s.Properties.SubscriptionID = 7
		s.Properties.Mark(packet.PropSubscriptionID)
	})
	pub.publish("jog/x", "m", 1, func(m *packet.Publish) {
		m.Properties.ResponseTopic, m.Properties.CorrelationData = []byte("answers"), []byte("42")
		m.Properties.Mark(packet.PropResponseTopic, packet.PropCorrelationData)
	})
	m := sub.wantMessage("jog/x", "m", 1)
	if string(m.Properties.ResponseTopic) != "answers" || string(m.Properties.CorrelationData) != "42" || m.Properties.SubscriptionID != 7 {
		t.Errorf("%+v", m.Properties)
	}
	pub.wantAck(packet.PUBACK, pub.id, packet.Success)
	// No local (MQTT-3.8.3-3).
	pub.subscribe("jog/#", 0, func(s *packet.Subscribe) { s.Topics[0].NoLocal = true })
	pub.stored("jog/x", "mine", nil)
	pub.wantNothing()
}

// A retained copy is metadata: it lasts, though the message itself is not logged.
func TestLiveRetained(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog})
	pub := r.connect(packet.V311, "pub", nil)
	pub.stored("jog/state", "on", func(m *packet.Publish) { m.Retain = true })
	pub.disconnect()
	r.stop()
	r.start(rigOptions{broker: withJog})
	sub := r.connect(packet.V311, "sub", nil)
	sub.subscribe("jog/#", 1, nil)
	if m := sub.wantMessage("jog/state", "on", 1); !m.Retain {
		t.Error("not marked as retained")
	}
	if topics := r.store.Topics(); len(topics) != 0 {
		t.Errorf("topics were made: %v", topics)
	}
}

// One slice with both kinds: each topic in its publisher's order, the acknowledgements in theirs (MQTT-4.6.0-2).
func TestLiveAndLoggedTogether(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog})
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V5, "pub", nil)
	sub.subscribe("#", 1, nil)
	const n = 500
	var out []byte
	for i := range n {
		for k, topic := range []string{"jog/x", "factory/x"} {
			m := packet.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: 1, ID: uint16(2*i + k + 1)}
			out = m.Append(out, pub.v)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { pub.write(out) })
	wg.Go(func() {
		for id := range 2 * n {
			pub.wantAck(packet.PUBACK, uint16(id+1), packet.Success)
		}
	})
	next := map[string]int{}
	for range 2 * n {
		m := sub.wantPublish()
		sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
		if string(m.Payload) != fmt.Sprint(next[string(m.Topic)]) {
			t.Fatalf("%s: got %s, want %d", m.Topic, m.Payload, next[string(m.Topic)])
		}
		next[string(m.Topic)]++
	}
	wg.Wait()
	if got := len(r.logged("factory")); got != n {
		t.Errorf("%d records are logged, want %d", got, n)
	}
}

// A subscriber that waits for room gets what fits, in order, and the rest is counted; the publisher waits for nobody.
func TestLiveToASlowSubscriber(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog, server: func(o *Options) { o.MaxQueued = 64 << 10 }})
	sub := r.connect(packet.V5, "sub", func(c *packet.Connect) {
		c.Properties.ReceiveMaximum = 1
		c.Properties.Mark(packet.PropReceiveMaximum)
	})
	sub.subscribe("jog/#", 1, nil)
	pub := r.connect(packet.V5, "pub", nil)
	payload := strings.Repeat("x", 1000)
	for i := range 200 {
		pub.stored("jog/x", fmt.Sprintf("%03d%s", i, payload), nil)
	}
	r.srv.mu.Lock()
	s := r.srv.clients["sub"].sess.Load()
	r.srv.mu.Unlock()
	eventually(t, "each was sent, set aside or dropped", func() bool {
		s.mu.Lock()
		aside := len(s.aside)
		s.mu.Unlock() // the dispatcher's lock, which Stats takes, comes before it
		return 1+aside+int(r.srv.Stats().LiveDropped) == 200
	})
	last := -1
	for dropped := int(r.srv.Stats().LiveDropped); last < 199-dropped; {
		m := sub.wantPublish()
		var n int
		if _, err := fmt.Sscanf(string(m.Payload[:3]), "%d", &n); err != nil || n != last+1 {
			t.Fatalf("got %d behind %d, %v", n, last, err)
		}
		last = n
		sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
	}
	sub.wantNothing()
	pub.stored("jog/x", "again", nil)
	sub.wantMessage("jog/x", "again", 1)
}

// A persistent session gets live messages while its client is there, and none for the time when it was not.
func TestLiveIsForWhoIsThere(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog})
	pub := r.connect(packet.V5, "pub", nil)
	sub := r.connect(packet.V5, "sub", kept)
	sub.subscribe("#", 1, nil)
	pub.stored("jog/x", "unanswered", nil)
	if m := sub.wantPublish(); string(m.Payload) != "unanswered" {
		t.Fatal(string(m.Payload))
	}
	sub.disconnect()
	pub.stored("jog/x", "missed", nil)
	pub.stored("factory/x", "logged", nil)
	sub = r.connect(packet.V5, "sub", func(c *packet.Connect) { kept(c); c.CleanStart = false })
	sub.wantMessage("factory/x", "logged", 1)
	sub.wantNothing()
	pub.stored("jog/x", "here", nil)
	sub.wantMessage("jog/x", "here", 1)
}

// What is not logged needs no room in the log.
func TestLiveWhenTheStoreIsFull(t *testing.T) {
	r := newRig(t, rigOptions{store: smallStore, broker: withJog})
	free := r.fill()
	defer free()
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V311, "pub", nil)
	sub.subscribe("jog/#", 1, nil)
	pub.stored("jog/x", "stop", nil)
	sub.wantMessage("jog/x", "stop", 1)
}

func TestLiveWill(t *testing.T) {
	r := newRig(t, rigOptions{broker: withJog})
	sub := r.connect(packet.V5, "sub", nil)
	sub.subscribe("jog/#", 1, nil)
	dying := r.connect(packet.V311, "dying", func(c *packet.Connect) {
		c.HasWill, c.WillTopic, c.WillPayload, c.WillQoS = true, []byte("jog/will"), []byte("gone"), 1
	})
	_ = dying.nc.Close()
	sub.wantMessage("jog/will", "gone", 1)
}

// BenchmarkLive: QoS 0, not logged, to nobody and to one subscriber.
func BenchmarkLive(b *testing.B) {
	for _, subs := range []int{0, 1, 10} {
		b.Run(fmt.Sprint("subs", subs), func(b *testing.B) {
			r := newRig(b, rigOptions{broker: withJog, server: func(o *Options) { o.MaxQueued, o.MaxQueuedAll = 64<<20, 1<<30 }})
			var wg sync.WaitGroup
			for i := range subs {
				s := r.connect(packet.V311, fmt.Sprint("sub", i), nil)
				s.subscribe("#", 0, nil)
				wg.Go(func() { s.drain(b.N) })
			}
			pub := r.connect(packet.V311, "pub", nil)
			one := (&packet.Publish{Topic: []byte("jog/x"), Payload: make([]byte, 200)}).Append(nil, pub.v)
			many := make([]byte, 0, 64<<10)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; {
				for many = many[:0]; left > 0 && len(many)+len(one) <= cap(many); left-- {
					many = append(many, one...)
				}
				pub.write(many)
			}
			pub.wantNothing()
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(r.srv.Stats().LiveDropped), "dropped")
		})
	}
}
