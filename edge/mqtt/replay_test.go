package mqtt

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

// asking is a SUBSCRIBE with replay-from.
func asking(from ...string) func(*packet.Subscribe) {
	return func(s *packet.Subscribe) {
		for _, f := range from {
			s.Properties.UserRaw = packet.AppendUser(s.Properties.UserRaw, replayProperty, f)
		}
	}
}

func TestReplayFromEarliestThenLive(t *testing.T) {
	for _, c := range []struct {
		name    string
		qos     byte
		connect func(*packet.Connect)
	}{
		{"clean QoS 0", 0, nil},
		{"clean QoS 1", 1, nil},
		{"clean QoS 1, one at a time", 1, func(c *packet.Connect) {
			c.Properties.ReceiveMaximum = 1
			c.Properties.Mark(packet.PropReceiveMaximum)
		}},
		{"kept QoS 0", 0, kept},
		{"kept QoS 1", 1, kept},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			pub := r.connect(packet.V5, "pub", nil)
			const before, after = 300, 100
			for i := range before {
				pub.stored("t", fmt.Sprint(i), func(m *packet.Publish) { m.Retain = i == before-1 })
			}
			sub := r.connect(packet.V5, "sub", c.connect)
			if got := sub.subscribe("t", c.qos, asking("earliest")); got[0] != packet.Reason(c.qos) {
				t.Fatal(got)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range after {
					pub.stored("t", fmt.Sprint(before+i), nil)
				}
			})
			for i := range before + after { // and no retained copy besides
				sub.wantMessage("t", fmt.Sprint(i), c.qos)
			}
			wg.Wait()
			sub.wantNothing()
		})
	}
}

func TestReplayFromTime(t *testing.T) {
	clock := newClock()
	r := newRig(t, rigOptions{broker: func(o *edge.Options) { o.Now = clock.now }, server: func(o *Options) { o.Now = clock.now }})
	pub := r.connect(packet.V5, "pub", nil)
	for _, m := range []string{"old", "older", "new", "newer"} {
		pub.stored("t", m, nil)
		clock.add(time.Hour)
	}
	for _, c := range []struct {
		from string
		want []string
	}{
		{"earliest", []string{"old", "older", "new", "newer"}},
		{"-90m", []string{"newer"}},
		{"-2h30m", []string{"new", "newer"}},
		{"-1000h", []string{"old", "older", "new", "newer"}},
		{clock.now().Add(-150 * time.Minute).UTC().Format(time.RFC3339), []string{"new", "newer"}},
		{clock.now().Add(-90 * time.Minute).In(time.FixedZone("", 7200)).Format(time.RFC3339Nano), []string{"newer"}},
		{clock.now().Add(time.Hour).Format(time.RFC3339), nil},
		{"-1ns", nil},
	} {
		sub := r.connect(packet.V5, "sub", nil)
		sub.subscribe("t", 1, asking(c.from))
		for _, m := range c.want {
			sub.wantMessage("t", m, 1)
		}
		sub.wantNothing()
		sub.disconnect()
	}
}

func TestReplayFromNonsense(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.connect(packet.V5, "sub", nil)
	for _, from := range [][]string{{""}, {"yesterday"}, {"1h"}, {"-1"}, {"2026-01-02"}, {"latest"}, {"earliest", "-1h"}} {
		s := packet.Subscribe{ID: 9, Topics: []packet.Subscription{{Filter: []byte("a")}, {Filter: []byte("b")}}}
		asking(from...)(&s)
		sub.write(s.Append(nil, sub.v))
		first, body := sub.want(packet.SUBACK)
		var a packet.Suback
		if err := a.Decode(sub.v, first, body); err != nil {
			t.Fatal(err)
		}
		if len(a.Reasons) != 2 || a.Reasons[0] != packet.ImplementationSpecific || !strings.Contains(string(a.Properties.ReasonString), replayProperty) {
			t.Errorf("%q: %v %q", from, a.Reasons, a.Properties.ReasonString)
		}
	}
	r.connect(packet.V5, "pub", nil).stored("a", "x", nil)
	sub.wantNothing()
}

// What other subscriptions of the session have had does not come again, and what they have not had is not lost.
func TestReplayBesideOthers(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub := r.connect(packet.V5, "pub", nil)
	sub := r.connect(packet.V5, "sub", kept)
	sub.subscribe("a/#", 1, nil)
	for i := range 10 {
		pub.stored("a/x", fmt.Sprint(i), nil)
		pub.stored("b/x", fmt.Sprint(i), nil)
		sub.wantMessage("a/x", fmt.Sprint(i), 1)
	}
	sub.subscribe("b/#", 1, asking("earliest"))
	pub.stored("a/x", "10", nil)
	pub.stored("b/x", "10", nil)
	next := map[string]int{"a/x": 10}
	for range 12 {
		m := sub.wantPublish()
		sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
		if topic := string(m.Topic); string(m.Payload) != fmt.Sprint(next[topic]) {
			t.Fatalf("%s: %s, want %d", topic, m.Payload, next[topic])
		}
		next[string(m.Topic)]++
	}
	sub.wantNothing()
	// Once more for the same filter: from the start again, and the other one is left alone.
	sub.subscribe("b/#", 1, asking("earliest"))
	for i := range 11 {
		sub.wantMessage("b/x", fmt.Sprint(i), 1)
	}
	sub.wantNothing()
	// Both filters match: one delivery.
	sub.subscribe("b/x", 1, asking("earliest"))
	for i := range 11 {
		sub.wantMessage("b/x", fmt.Sprint(i), 1)
	}
	sub.wantNothing()
}

// A session that leaves in the middle of its history goes on there, also when the broker was restarted meanwhile.
func TestReplayGoesOnAfterReconnect(t *testing.T) {
	o := rigOptions{store: func(o *storage.Options) { o.TailBytes, o.JournalBytes = 1<<20, 1<<20 }}
	r := newRig(t, o)
	pub := r.connect(packet.V5, "pub", nil)
	const n = 200
	payload := func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 3000)) }
	for i := range n {
		pub.stored("t", payload(i), nil)
	}
	sub := r.connect(packet.V5, "sub", func(c *packet.Connect) {
		kept(c)
		c.Properties.ReceiveMaximum = 2
		c.Properties.Mark(packet.PropReceiveMaximum)
	})
	sub.subscribe("t", 1, asking("earliest"))
	got := map[int]bool{}
	last := -1
	for round := 0; len(got) < n+3; round++ {
		for range 20 {
			if len(got) == n+3 {
				break
			}
			m := sub.wantPublish()
			var i int
			if _, err := fmt.Sscan(string(m.Payload), &i); err != nil {
				t.Fatal(err)
			}
			if !m.Dup && i != last+1 {
				t.Fatalf("got %d behind %d", i, last)
			}
			got[i], last = true, max(last, i)
			sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
		}
		if round == 3 {
			for i := range 3 {
				pub.stored("t", payload(n+i), nil)
			}
		}
		sub.disconnect()
		if round%2 == 0 {
			r.stop()
			r.start(o)
			pub = r.connect(packet.V5, "pub", nil)
		}
		sub = r.resume(packet.V5, "sub", true, func(c *packet.Connect) {
			c.Properties.ReceiveMaximum = 2
			c.Properties.Mark(packet.PropReceiveMaximum)
		})
	}
	sub.wantNothingNew()
}

// However the seam falls among concurrent publishers: every message once, each topic in order.
func TestReplaySeam(t *testing.T) {
	r := newRig(t, rigOptions{})
	const topics, n = 4, 300
	var wg sync.WaitGroup
	for k := range topics {
		pub := r.connect(packet.V311, fmt.Sprint("pub", k), nil)
		wg.Go(func() { // windowed, so that frames hold several
			var out []byte
			for i := range n {
				m := packet.Publish{Topic: fmt.Append(nil, "t/", k), Payload: fmt.Append(nil, i), QoS: 1, ID: uint16(i + 1)}
				if out = m.Append(out[:0], pub.v); i%20 == 19 || i == n-1 {
					pub.write(out)
					for range i%20 + 1 {
						pub.want(packet.PUBACK)
					}
					out = nil
					continue
				}
				pub.write(out)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for s := range 6 {
		sub := r.connect(packet.V5, fmt.Sprint("sub", s), map[bool]func(*packet.Connect){true: kept}[s%2 == 0])
		if s > 2 {
			sub.subscribe("other/#", 1, nil)
		}
		pause := time.NewTimer(time.Duration(rng.IntN(30)) * time.Millisecond)
		<-pause.C
		sub.subscribe("t/#", byte(s%2), asking("earliest"))
		wg.Go(func() {
			next := map[string]int{}
			for range topics * n {
				m := sub.wantPublish()
				if m.QoS > 0 {
					sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, m.ID, packet.Success))
				}
				if string(m.Payload) != fmt.Sprint(next[string(m.Topic)]) {
					t.Errorf("subscriber %d, %s: %s, want %d", s, m.Topic, m.Payload, next[string(m.Topic)])
					return
				}
				next[string(m.Topic)]++
			}
		})
	}
	wg.Wait()
}

func TestUnsubscribeEndsAReplay(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub := r.connect(packet.V5, "pub", nil)
	for i := range 100 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	sub := r.connect(packet.V5, "sub", func(c *packet.Connect) {
		c.Properties.ReceiveMaximum = 1
		c.Properties.Mark(packet.PropReceiveMaximum)
	})
	sub.subscribe("t", 1, asking("earliest"))
	first := sub.wantPublish()
	sub.unsubscribe("t")
	sub.write(packet.AppendAck(nil, packet.PUBACK, sub.v, first.ID, packet.Success))
	sub.wantNothing()
	sub.subscribe("t", 1, nil)
	pub.stored("t", "live", nil)
	sub.wantMessage("t", "live", 1)
}

func FuzzReplayFrom(f *testing.F) {
	for _, s := range []string{"earliest", "-1h", "2026-01-02T15:04:05Z", "-9999999h", "0001-01-01T00:00:00Z", "-"} {
		f.Add(s)
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, s string) {
		if ms, err := parseReplay(s, now); err == nil && ms != earliest && strings.HasPrefix(s, "-") && ms > now.UnixMilli() {
			t.Fatalf("%q is %d ms, in the future", s, ms)
		}
	})
}
