package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

func withID(id int) func(*packet.Subscribe) {
	return func(s *packet.Subscribe) {
		s.Properties.SubscriptionID = id
		s.Properties.Mark(packet.PropSubscriptionID)
	}
}

func TestMQTT_3_3_4_3_OverlappingSubscriptions(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub, pub := r.connect(packet.V5, "sub", nil), r.connect(packet.V5, "pub", nil)
	old := r.connect(packet.V311, "old", nil)
	for i, f := range []string{"a/#", "a/+", "a/b"} {
		sub.subscribe(f, byte(i%2), withID(i+1))
		old.subscribe(f, byte(i%2), nil)
	}
	pub.stored("a/b", "x", nil)
	m := sub.wantMessage("a/b", "x", 1) // one delivery, at the maximum QoS, with all identifiers
	var ids []int
	for id := range m.Properties.SubscriptionIDs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []int{1, 2, 3}) {
		t.Errorf("subscription ids %v", ids)
	}
	sub.wantNothing()
	old.wantMessage("a/b", "x", 1)
	old.wantNothing()
	sub.unsubscribe("a/+")
	old.unsubscribe("a/+") // what is left is QoS 0
	pub.stored("a/b", "y", nil)
	m = sub.wantMessage("a/b", "y", 0)
	ids = ids[:0]
	for id := range m.Properties.SubscriptionIDs {
		ids = append(ids, id)
	}
	if slices.Sort(ids); !slices.Equal(ids, []int{1, 3}) {
		t.Errorf("subscription ids %v", ids)
	}
	old.wantMessage("a/b", "y", 0)
}

func TestMQTT_4_7_2_1_DollarTopics(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub, pub := r.connect(packet.V311, "sub", nil), r.connect(packet.V311, "pub", nil)
	for _, f := range []string{"#", "+/x", "+"} {
		sub.subscribe(f, 1, nil)
	}
	exact := r.connect(packet.V311, "exact", nil)
	exact.subscribe("$own/#", 1, nil)
	pub.stored("$own/x", "1", nil)
	pub.stored("own/x", "2", nil)
	sub.wantMessage("own/x", "2", 1)
	exact.wantMessage("$own/x", "1", 1)
	sub.wantNothing()
	pub.stored("$SYS/forged", "3", nil) // acknowledged and not stored
	for _, rec := range r.logged(edge.DefaultTopic) {
		if strings.HasPrefix(string(rec.Payload.Key()), "$SYS") {
			t.Error("a client wrote to $SYS")
		}
	}
}

func TestMQTT_3_8_3_3_NoLocal(t *testing.T) {
	r := newRig(t, rigOptions{})
	p, q := r.connect(packet.V5, "p", nil), r.connect(packet.V5, "q", nil)
	p.subscribe("t", 1, func(s *packet.Subscribe) { s.Topics[0].NoLocal = true })
	p.stored("t", "own", nil)
	q.stored("t", "other", nil)
	p.wantMessage("t", "other", 1)
	bridge := r.connect(packet.V311, "bridge", func(c *packet.Connect) { c.Bridge = true })
	bridge.subscribe("t", 1, nil)
	bridge.stored("t", "echo", nil)
	q.stored("t", "news", nil)
	bridge.wantMessage("t", "news", 1)
}

func TestMQTT_3_8_3_4_RetainAsPublished(t *testing.T) {
	r := newRig(t, rigOptions{})
	as, not, pub := r.connect(packet.V5, "as", nil), r.connect(packet.V5, "not", nil), r.connect(packet.V5, "pub", nil)
	as.subscribe("t", 1, func(s *packet.Subscribe) { s.Topics[0].RetainAsPublished = true })
	not.subscribe("t", 1, nil)
	pub.stored("t", "x", func(m *packet.Publish) { m.Retain = true })
	if m := as.wantMessage("t", "x", 1); !m.Retain {
		t.Error("retain as published: the flag is lost")
	}
	if m := not.wantMessage("t", "x", 1); m.Retain {
		t.Error("the flag is set for a live message (MQTT-3.3.1-12)")
	}
}

func TestSuback(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V5, "p", nil)
	got := p.subscribe("ok", 2, func(s *packet.Subscribe) {
		for _, f := range []string{"bad#", "$share/g/t", "$share/+/t", "zero"} {
			s.Topics = append(s.Topics, packet.Subscription{Filter: []byte(f)})
		}
	})
	want := []packet.Reason{packet.GrantedQoS2, packet.InvalidFilter, packet.Success, packet.InvalidFilter, packet.Success}
	if !slices.Equal(got, want) {
		t.Errorf("SUBACK %v, want %v", got, want)
	}
	if got := p.unsubscribe("none"); got[0] != packet.NoSubscriptionExisted {
		t.Errorf("UNSUBACK %v", got)
	}
	if got := p.unsubscribe("ok"); got[0] != packet.Success {
		t.Errorf("UNSUBACK %v", got)
	}
	pub := r.connect(packet.V311, "pub", nil)
	if got := pub.subscribe("bad#", 0, nil); got[0] != packet.Unspecified {
		t.Errorf("SUBACK 3.1.1: %v", got)
	}
	pub.stored("ok", "x", nil) // MQTT-3.10.4-2
	p.wantNothing()
	if n := r.srv.Stats().Subscriptions; n != 2 {
		t.Errorf("%d subscriptions left", n)
	}
}

func TestMQTT_3_3_1_Retained(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r := newRig(t, rigOptions{})
		pub := r.connect(v, "pub", nil)
		keep := func(m *packet.Publish) { m.Retain = true }
		pub.stored("a/1", "old", keep)
		pub.stored("a/1", "one", keep)
		pub.stored("a/2", "two", keep)
		pub.stored("a/3", "gone", keep)
		pub.stored("a/3", "", keep) // MQTT-3.3.1-6
		pub.stored("b", "else", keep)
		pub.stored("$x/y", "dollar", keep)
		sub := r.connect(v, "sub", nil)
		sub.subscribe("a/+", 1, nil)
		for _, want := range [][2]string{{"a/1", "one"}, {"a/2", "two"}} {
			if m := sub.wantMessage(want[0], want[1], 1); !m.Retain {
				t.Error("a retained message without the flag (MQTT-3.3.1-8)")
			}
		}
		sub.wantNothing()
		sub.subscribe("a/+", 0, nil) // again: they come again
		sub.wantMessage("a/1", "one", 0)
		sub.wantMessage("a/2", "two", 0)
		all := r.connect(v, "all", nil)
		all.subscribe("#", 1, nil)
		got := map[string]bool{}
		for range 3 {
			m := all.wantPublish()
			got[string(m.Topic)] = true
		}
		if !got["a/1"] || !got["a/2"] || !got["b"] {
			t.Errorf("got %v", got)
		}
		all.wantNothing()
		pub.stored("a/1", "live", nil)
		if m := all.wantPublish(); m.Retain || string(m.Payload) != "live" {
			t.Errorf("got %q, retain %v", m.Payload, m.Retain)
		}
	})
}

func TestRetainHandling(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.connect(packet.V5, "p", nil)
	p.stored("t", "x", func(m *packet.Publish) { m.Retain = true })
	handling := func(h byte) func(*packet.Subscribe) {
		return func(s *packet.Subscribe) { s.Topics[0].RetainHandling = h }
	}
	p.subscribe("t", 1, handling(2))
	p.wantNothing()
	p.subscribe("t", 1, handling(1)) // it is there already
	p.wantNothing()
	p.unsubscribe("t")
	p.subscribe("t", 1, handling(1))
	p.wantMessage("t", "x", 1)
	p.subscribe("t", 1, handling(0))
	p.wantMessage("t", "x", 1)
}

// TestRetainedMany: more than a window and an outbox hold, while live messages come.
func TestRetainedMany(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxInFlight, o.MaxQueued = 8, 4096 }})
	pub := r.connect(packet.V311, "pub", nil)
	const n = 300
	for i := range n {
		pub.publish(fmt.Sprintf("r/%d", i), strings.Repeat("x", 100), 0, func(m *packet.Publish) { m.Retain = true })
	}
	pub.stored("r/last", "x", nil)
	sub := r.connect(packet.V311, "sub", nil)
	sub.subscribe("#", 1, nil)
	for i := range 50 {
		pub.stored("live", fmt.Sprint(i), nil)
	}
	live, retained := 0, 0
	for live+retained < n+50 {
		m := sub.wantPublish()
		if m.Retain {
			retained++
		} else if live++; string(m.Payload) != fmt.Sprint(live-1) {
			t.Fatalf("live message %s, want %d", m.Payload, live-1)
		}
		if m.QoS == 1 {
			sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
		}
	}
	if retained != n {
		t.Errorf("%d retained, want %d", retained, n)
	}
	sub.wantNothing()
}

// TestTree compares the tree with the definition.
func TestTree(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$x"})
	rapid.Check(t, func(t *rapid.T) {
		var tr tree
		live := map[string]*subscription{}
		sessions := []*session{{id: "0"}, {id: "1"}}
		for range rapid.IntRange(1, 30).Draw(t, "operations") {
			parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$x", "+"}), 1, 4).Draw(t, "filter")
			if rapid.Bool().Draw(t, "hash") {
				parts = append(parts, "#")
			}
			s := sessions[rapid.IntRange(0, 1).Draw(t, "session")]
			f := strings.Join(parts, "/")
			if !packet.ValidFilter([]byte(f)) {
				continue
			}
			if old := live[s.id+f]; old != nil && rapid.Bool().Draw(t, "remove") {
				tr.remove(old)
				delete(live, s.id+f)
				continue
			}
			sub := &subscription{sess: s, filter: f}
			tr.add(sub, func() uint64 { return 0 })
			live[s.id+f] = sub
		}
		if tr.len() != len(live) {
			t.Fatalf("%d subscriptions, want %d", tr.len(), len(live))
		}
		topic := strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, "topic"), "/")
		if topic == "" {
			topic = "a"
		}
		got := map[string]bool{}
		for _, m := range tr.match(topic) {
			for _, sub := range m.subs {
				got[m.sess.id+sub.filter] = true
			}
		}
		for key, sub := range live {
			want := edge.MatchFilter(sub.filter, topic)
			if got[key] != want || matches(sub.filter, []byte(topic)) != want {
				t.Fatalf("filter %q, topic %q: tree %v, matches %v, want %v", sub.filter, topic, got[key], matches(sub.filter, []byte(topic)), want)
			}
		}
		for _, sub := range live {
			tr.remove(sub)
		}
		if len(tr.root.children) != 0 || len(tr.root.rest) != 0 {
			t.Fatal("nodes are left")
		}
	})
}

// What a client publishes before it subscribes is retained by then, although nobody has waited for an acknowledgement; it is not live.
func TestMQTT_3_3_1_8_PublishedJustBefore(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for qos := range byte(3) {
			p := r.connect(v, fmt.Sprint("c", qos), nil)
			for i := range 20 {
				topic := fmt.Sprint("before/", v, qos, i)
				m := packet.Publish{Topic: []byte(topic), Payload: []byte("old"), QoS: qos, Retain: true}
				if qos > 0 {
					m.ID = p.nextID()
				}
				s := packet.Subscribe{ID: p.nextID(), Topics: []packet.Subscription{{Filter: []byte(topic), QoS: 0}}}
				p.write(s.Append(m.Append(nil, v), v)) // in one
				switch qos {
				case 1:
					p.wantAck(packet.PUBACK, m.ID, packet.Success)
				case 2:
					p.wantAck(packet.PUBREC, m.ID, packet.Success)
				}
				p.want(packet.SUBACK)
				if got := p.wantMessage(topic, "old", 0); !got.Retain {
					t.Fatalf("%s came as a live message", topic)
				}
			}
			p.wantNothing()
		}
	}
}
