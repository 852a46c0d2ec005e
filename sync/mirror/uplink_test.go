package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func both(t *testing.T, fn func(t *testing.T, tv protocol)) {
	for _, tv := range []protocol{tv1, tv2} {
		t.Run(string(tv), func(t *testing.T) { fn(t, tv) })
	}
}

func TestMirrorsTopics(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		h := openHere(t, t.TempDir())
		c := newCentre(t, tv)
		telemetry := h.topic(t, "telemetry", 4)
		for i, p := range telemetry.Partitions {
			for range 5 {
				h.append(t, p, 200+i, 100)
			}
		}
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry", To: "{edge}.{topic}"}, Rule{Topic: "alarm.*", Priority: 9}))
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "e1.telemetry")

		// A topic that comes later, more partitions, and more of the old one.
		fire := h.topic(t, "alarm.fire", 1)
		h.append(t, fire.Partitions[0], 10, 50)
		h.append(t, telemetry.Partitions[2], 1000, 300)
		grown, err := h.store.AddPartitions(t.Context(), "telemetry", 6)
		if err != nil {
			t.Fatal(err)
		}
		h.append(t, grown.Partitions[5], 10, 10)
		eventually(t, "the new partitions are known", func() bool { return len(u.Status().Partitions) == 7 })
		u.mirrored(t)
		equal(t, h, "alarm.fire", c.ListenAddrs(), "alarm.fire")
		equal(t, h, "telemetry", c.ListenAddrs(), "e1.telemetry")

		s := u.Status()
		if s.State != StateRunning || s.TxnMode != string(tv) || s.Txns == 0 || s.Error != "" || s.Cluster == "" {
			t.Errorf("status %+v", s)
		}
		if s.Records != 4*5*200+5*6+10+1000+10 {
			t.Errorf("%d records", s.Records)
		}
		if s.Partitions[0].Topic != "alarm.fire" || s.Partitions[0].Priority != 9 {
			t.Errorf("the first is %+v", s.Partitions[0])
		}
		// Nothing to send, no transaction.
		before := u.Status().Txns
		h.append(t, h.topic(t, "private", 1).Partitions[0], 10, 10)
		eventually(t, "the topic that is not mirrored was noticed", func() bool { return u.Status().State == StateRunning })
		if after := u.Status().Txns; after != before {
			t.Errorf("%d transactions for nothing", after-before)
		}
	})
}

func TestPositionsSurviveRestarts(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		dir := t.TempDir()
		c := newCentre(t, tv)
		for round := range 4 {
			h := openHere(t, dir)
			p := h.topic(t, "telemetry", 2).Partitions
			u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
			for range 3 { // small batches, that the seal of the next round merges: positions lie inside of batches then
				h.append(t, p[0], 7, 100)
				h.append(t, p[1], 3, 100)
			}
			if round%2 == 0 {
				u.mirrored(t)
			}
			u.stop()
			h.append(t, p[0], 5, 100)
			h.close(t)
		}
		h := openHere(t, dir)
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	})
}

// The link breaks at random steps while records come in.
func TestExactlyOnceOverABadLink(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		faults := int64(0)
		for seed := range uint64(6) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				h := openHere(t, t.TempDir())
				c := newCentre(t, tv)
				s := newSaboteur(seed, 8+int(seed)*4)
				tp := h.topic(t, "telemetry", 3)
				o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
				o.KgoOpts = []kgo.Opt{kgo.Dialer(s.dial)}
				o.Size = 4 << 10
				u := start(t, o)
				for i := range 60 {
					h.append(t, tp.Partitions[i%3], 50, 120)
					if i%10 == 0 {
						want := u.Status().Txns + 1
						eventually(t, "a transaction goes through", func() bool { return u.Status().Txns >= want || u.Status().Lag == 0 })
					}
				}
				s.calm()
				u.mirrored(t)
				equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
				faults += s.hits.Load() // one round may get through without
				t.Logf("%d faults, %d transactions committed, %d failed", s.hits.Load(), u.Status().Txns, u.Status().Aborted)
			})
		}
		if faults == 0 {
			t.Error("nothing was sabotaged")
		}
	})
}

// The process is gone at a random moment, and comes back on what its disk held.
func TestExactlyOnceThroughKills(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		dir := t.TempDir()
		for round := range uint64(12) {
			h := openHere(t, dir)
			tp := h.topic(t, "telemetry", 3)
			s := newSaboteur(round, 0)
			o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
			o.Size = 8 << 10
			steps := make(chan struct{})
			killAt := 20 + int(round)*3
			o.KgoOpts = []kgo.Opt{kgo.Dialer(s.dial), kgo.WithHooks(&stepper{at: killAt, fn: func() { s.kill(); close(steps) }})}
			u := start(t, o)
			var dead bool
			for i := 0; !dead; i++ {
				h.append(t, tp.Partitions[i%3], 20, 100)
				select {
				case <-steps:
					dead = true
				case <-time.After(time.Millisecond):
				}
			}
			u.stop()
			dir = copyDir(t, dir)
			h.close(t)
		}
		h := openHere(t, dir)
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
		if s := u.Status(); len(s.Alarms) != 0 {
			t.Errorf("alarms: %v", s.Alarms)
		}
	})
}

func TestCloneIsFenced(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		h := openHere(t, t.TempDir())
		p := h.topic(t, "telemetry", 1).Partitions[0]
		first := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		h.append(t, p, 100, 100)
		first.mirrored(t)
		first.Pause()
		eventually(t, "the first pauses", func() bool { return first.state() == StatePaused })

		second := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		h.append(t, p, 100, 100)
		second.mirrored(t)
		second.Pause()
		eventually(t, "the second pauses", func() bool { return second.state() == StatePaused })

		first.Resume()
		h.append(t, p, 100, 100)
		eventually(t, "the first is fenced", func() bool { return first.state() == StateFenced })
		if s := first.Status(); !strings.Contains(s.Error, "another instance with this edge id") {
			t.Errorf("error %q", s.Error)
		}
		second.Resume()
		second.mirrored(t)

		// An operator takes the link back.
		first.Resume()
		h.append(t, p, 100, 100)
		first.mirrored(t)
		second.stop()
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")

		o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
		o.Takeover = true
		third := start(t, o)
		h.append(t, p, 100, 100)
		third.mirrored(t)
		first.stop()
		third.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	})
}

func TestPauseHoldsEverything(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	h.append(t, p, 10, 10)
	u.mirrored(t)
	u.Pause()
	eventually(t, "paused", func() bool { return u.state() == StatePaused })
	before := u.Status().Txns
	h.append(t, p, 10, 10)
	if s := u.Status(); s.Lag != 10 || s.Txns != before {
		t.Errorf("status %+v", s)
	}
	u.Resume()
	u.mirrored(t)
	equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
}
