package mqtt

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func commitOf(kv ...any) *edge.Commit {
	c := &edge.Commit{}
	for i := 0; i < len(kv); i += 3 {
		c.Puts = append(c.Puts, edge.Put{Space: kv[i].(string), Key: kv[i+1].(string), Value: kv[i+2].([]byte)})
	}
	return c
}

// wantNothingNew waits until the server has handled what was sent, past messages that come meanwhile.
func (p *peer) wantNothingNew() {
	p.t.Helper()
	p.write(packet.AppendPing(nil, packet.PINGREQ))
	for {
		first, _, err := p.read()
		if err != nil {
			p.t.Fatal(err)
		}
		if packet.TypeOf(first) == packet.PINGRESP {
			return
		}
	}
}

// TestSlowSubscribers: some subscribers stop reading; they lose nothing, and the others wait for nobody.
func TestSlowSubscribers(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			r := newRig(t, rigOptions{server: func(o *Options) { o.MaxQueued = 32 << 10 }})
			const n, slow = 8000, 3
			var slows []*peer
			for i := range slow {
				p := r.pipe(packet.V311 + packet.Version(i&1))
				p.login(fmt.Sprint("slow", i), nil)
				p.subscribe("#", qos, nil)
				slows = append(slows, p)
			}
			fast := r.connect(packet.V5, "fast", nil)
			fast.subscribe("#", qos, nil)
			pub := r.connect(packet.V311, "pub", nil)
			payload := strings.Repeat("x", 500)
			go func() {
				var b []byte
				for i := range n {
					m := packet.Publish{Topic: fmt.Appendf(nil, "t/%d", i%5), Payload: fmt.Appendf(nil, "%d %s", i, payload), QoS: 1, ID: uint16(i + 1)}
					b = m.Append(b[:0], packet.V311)
					if _, err := pub.nc.Write(b); err != nil {
						return
					}
				}
			}()
			check := func(p *peer) {
				next := [5]int{0, 1, 2, 3, 4}
				for range n {
					m := p.wantPublish()
					if m.QoS == 1 {
						p.write(packet.AppendAck(nil, packet.PUBACK, p.v, m.ID, packet.Success))
					}
					var i int
					fmt.Sscan(string(m.Payload), &i)
					if i != next[i%5] {
						t.Fatalf("%s: got %d, want %d", m.Topic, i, next[i%5])
					}
					next[i%5] = i + 5
				}
				p.wantNothing()
			}
			for i := range n {
				pub.wantAck(packet.PUBACK, uint16(i+1), packet.Success)
			}
			check(fast) // while the slow ones are stuck
			if r.srv.Stats().FellBehind < slow {
				t.Errorf("nobody fell behind: %+v", r.srv.Stats())
			}
			if q := r.srv.Stats().QueuedBytes; q > (slow+1)*64<<10 {
				t.Errorf("%d bytes are queued", q)
			}
			for _, p := range slows {
				check(p)
			}
			// They are level again and get live messages.
			pub.stored("t/x", "live", nil)
			for _, p := range append(slows, fast) {
				p.wantMessage("t/x", "live", qos)
			}
			eventually(t, "nobody is behind", func() bool { return len(r.srv.notLive()) == 0 })
		})
	}
}

func (srv *Server) notLive() (ids []string) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for id, c := range srv.clients {
		if s := c.sess.Load(); s != nil && s.state.Load() != live {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestWindow: a client acknowledges late, out of order, and one message never.
func TestWindow(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.connect(packet.V5, "sub", func(c *packet.Connect) {
		c.Properties.ReceiveMaximum = 4
		c.Properties.Mark(packet.PropReceiveMaximum)
	})
	sub.subscribe("t", 1, nil)
	pub := r.connect(packet.V311, "pub", nil)
	for i := range 20 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	var ids []uint16
	for i := range 4 {
		m := sub.wantPublish()
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %s", m.Payload)
		}
		ids = append(ids, m.ID)
	}
	sub.wantNothing() // MQTT-3.3.4-9
	never := ids[1]
	got := 4
	for open := []uint16{ids[3], ids[0], ids[2]}; len(open) > 0; {
		sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, open[0], packet.Success))
		open = open[1:]
		if got < 20 {
			m := sub.wantPublish()
			if string(m.Payload) != fmt.Sprint(got) || m.ID == never {
				t.Fatalf("got %s with id %d", m.Payload, m.ID)
			}
			open = append(open, m.ID)
			got++
		}
	}
	sub.wantNothing()
}

func TestMessageExpiry(t *testing.T) {
	clock := newClock()
	r := newRig(t, rigOptions{broker: func(o *edge.Options) { o.Now = clock.now }, server: func(o *Options) { o.Now = clock.now }})
	sub := r.resume(packet.V5, "sub", false, nil)
	sub.subscribe("t", 1, nil)
	sub.disconnect()
	pub := r.connect(packet.V5, "pub", nil)
	expire := func(seconds uint32) func(*packet.Publish) {
		return func(m *packet.Publish) {
			m.Retain = true
			m.Properties.MessageExpiry = seconds
			m.Properties.Mark(packet.PropMessageExpiry)
		}
	}
	pub.stored("t", "short", expire(5))
	pub.stored("t", "none", nil)
	pub.stored("t", "long", expire(100))
	clock.add(10 * time.Second)
	sub = r.resume(packet.V5, "sub", true, nil)
	if m := sub.wantMessage("t", "none", 1); m.Properties.Has(packet.PropMessageExpiry) {
		t.Error("an expiry came from nowhere")
	}
	if m := sub.wantMessage("t", "long", 1); m.Properties.MessageExpiry != 90 { // MQTT-3.3.2-6
		t.Errorf("expiry %d, want 90", m.Properties.MessageExpiry)
	}
	sub.wantNothing()
	late := r.connect(packet.V5, "late", nil)
	late.subscribe("t", 1, nil)
	if m := late.wantMessage("t", "long", 1); m.Properties.MessageExpiry != 90 || !m.Retain {
		t.Errorf("retained: expiry %d, want 90", m.Properties.MessageExpiry)
	}
	clock.add(100 * time.Second)
	later := r.connect(packet.V5, "later", nil)
	later.subscribe("t", 1, nil)
	later.wantNothing()
}

// TestTransactions: records of a Kafka transaction reach MQTT when it is committed, in the partition's order.
func TestTransactions(t *testing.T) {
	r := newRig(t, rigOptions{})
	topic, err := r.broker.CreateTopic(t.Context(), edge.TopicSpec{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	live := r.connect(packet.V311, "live", nil)
	live.subscribe("#", 1, nil)
	late := r.resume(packet.V311, "late", false, nil)
	late.subscribe("#", 1, nil)
	late.disconnect()
	p := topic.Partitions[0]
	seq := map[int64]int32{}
	add := func(producer int64, values ...string) {
		t.Helper()
		var w batch.Builder
		w.Begin(nil, 0, 0)
		for _, v := range values {
			w.Add(1, batch.AppendPayload(nil, []byte("key"), []byte(v), nil))
		}
		c := &edge.Commit{Appends: []edge.Append{{Partition: p}}}
		if producer > 0 {
			c.Appends[0].Batch = w.End(batch.AttrTransactional, producer, 0, seq[producer])
			c.Producer = &edge.Producer{Partition: p, ID: producer, BaseSequence: seq[producer], Records: int32(len(values)), Transactional: true}
			seq[producer] += int32(len(values))
		} else {
			c.Appends[0].Batch = w.End(0, -1, -1, -1)
		}
		if err := r.store.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	end := func(producer int64, commit bool) {
		t.Helper()
		c := &edge.Commit{Appends: []edge.Append{{Partition: p, Marker: &storage.Marker{ProducerID: producer, Commit: commit}}}}
		if err := r.store.Do(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	add(0, "plain")
	live.wantMessage("k/key", "plain", 1)
	add(1, "a1", "a2")
	add(0, "between")
	add(2, "b1")
	live.wantNothing()
	late = r.resume(packet.V311, "late", true, nil) // while they are open
	late.wantMessage("k/key", "plain", 1)
	late.wantNothing()
	end(1, true)
	live.wantMessage("k/key", "a1", 1)
	live.wantMessage("k/key", "a2", 1)
	live.wantMessage("k/key", "between", 1)
	live.wantNothing()
	late.wantMessage("k/key", "a1", 1)
	late.disconnect()
	add(0, "after")
	end(2, false) // aborted
	live.wantMessage("k/key", "after", 1)
	live.wantNothing()
	late = r.resume(packet.V311, "late", true, nil)
	for _, want := range []string{"a2", "between", "after"} {
		if m := late.wantPublish(); string(m.Payload) != want {
			t.Errorf("got %s, want %s", m.Payload, want)
		}
	}
	late.wantNothing()
}
