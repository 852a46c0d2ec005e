package mirror

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/sync/compare"
)

func (r *running) alarmed(text string) bool {
	for _, a := range r.Status().Alarms {
		if strings.Contains(a.Text, text) {
			return true
		}
	}
	return false
}

// count reads how many records the centre has.
func count(t testing.TB, brokers []string, topic string) int {
	t.Helper()
	n := 0
	for _, err := range compare.Topic(t.Context(), topic, 0, kgo.SeedBrokers(brokers...)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestLostPositions(t *testing.T) {
	for policy, c := range map[OnLostPosition]struct{ want, alarm string }{
		ResumeLocal: {"once", "has lost the position"},
		FromStart:   {"twice", "sending everything"},
		Fail:        {"once", "as told"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			centre := newCentre(t, tv2)
			h := openHere(t, t.TempDir())
			p := h.topic(t, "telemetry", 1).Partitions[0]
			o := options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"})
			o.OnLostPosition = policy
			u := start(t, o)
			h.append(t, p, 100, 100)
			u.mirrored(t)
			u.stop() // which writes the shadow

			if _, err := admin(t, centre.ListenAddrs()).DeleteGroup(t.Context(), "rivulet-e1-cloud"); err != nil {
				t.Fatal(err)
			}
			h.append(t, p, 10, 100)
			u = start(t, o)
			if policy == Fail {
				eventually(t, "the uplink fails", func() bool { return u.state() == StateFailed })
				if s := u.Status(); !strings.Contains(s.Error, "on_lost_position") || s.Txns != 0 {
					t.Errorf("status %+v", s)
				}
				u.Resume()
			}
			u.mirrored(t)
			eventually(t, c.alarm, func() bool { return u.alarmed(c.alarm) })
			want := 110
			if c.want == "twice" {
				want = 210
			} else {
				equal(t, h, "telemetry", centre.ListenAddrs(), "telemetry")
			}
			if n := count(t, centre.ListenAddrs(), "telemetry"); n != want {
				t.Errorf("%d records, want %d", n, want)
			}
		})
	}
}

// A cluster that never saw this edge gets everything, whatever the shadow of another cluster says.
func TestNewCentreGetsEverything(t *testing.T) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 100, 100)
	for _, id := range []string{"one", "two"} {
		c := newCentre(t, tv2, kfake.ClusterID(id))
		o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
		o.OnLostPosition = Fail
		u := start(t, o)
		u.mirrored(t)
		u.stop()
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	}
}

func TestWipedDiskStartsAnew(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 100, 100)
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	u.stop()
	h.close(t)

	h = openHere(t, t.TempDir())
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 30, 100)
	u = start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	if n := count(t, c.ListenAddrs(), "telemetry"); n != 130 {
		t.Errorf("%d records, want 130", n)
	}
	if !u.alarmed("not the log that the centre knows") {
		t.Errorf("alarms %v", u.Status().Alarms)
	}
	// And only once: the next start knows the new generation.
	u.stop()
	u = start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	if n := count(t, c.ListenAddrs(), "telemetry"); n != 130 {
		t.Errorf("after a restart %d records, want 130", n)
	}
}

// The disk is put back to an older state without a word, as when a machine's snapshot is restored.
func TestRolledBackDiskGoesOn(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 50, 100)
	old := copyDir(t, h.dir)
	h.append(t, p, 50, 100)
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	u.stop()
	h.close(t)

	h = openHere(t, old)
	u = start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	eventually(t, "the rollback is noticed", func() bool { return u.alarmed("rolled back") })
	tp, _ := h.store.Topic("telemetry")
	h.append(t, tp.Partitions[0], 20, 100)
	u.mirrored(t)
	if n := count(t, c.ListenAddrs(), "telemetry"); n != 120 {
		t.Errorf("%d records, want 120", n)
	}
}

func TestTopicMadeAgainIsSentFromItsStart(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 100, 100)
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	if err := h.store.DeleteTopic(t.Context(), "telemetry"); err != nil {
		t.Fatal(err)
	}
	h.append(t, h.topic(t, "telemetry", 1).Partitions[0], 5, 100)
	eventually(t, "105 records are there", func() bool { return count(t, c.ListenAddrs(), "telemetry") == 105 })
}

func TestDeletedTargetIsMadeAgain(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		c := newCentre(t, tv)
		h := openHere(t, t.TempDir())
		p := h.topic(t, "telemetry", 1).Partitions[0]
		u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
		h.append(t, p, 100, 100)
		u.mirrored(t)
		if err := c.DeleteTopic("telemetry"); err != nil {
			t.Fatal(err)
		}
		h.append(t, p, 20, 100)
		u.mirrored(t)
		if n := count(t, c.ListenAddrs(), "telemetry"); n != 20 {
			t.Errorf("%d records, want the 20 that came since", n)
		}
	})
}

// The whole cluster goes away in the middle of a transaction, and comes back later with what its disks hold.
func TestCentreVanishes(t *testing.T) {
	both(t, func(t *testing.T, tv protocol) {
		dir := t.TempDir()
		at := func(opts ...kfake.Opt) *kfake.Cluster {
			return newCentre(t, tv, append(opts, kfake.DataDir(dir), kfake.SyncWrites(), kfake.NumBrokers(1))...)
		}
		c := at()
		brokers := c.ListenAddrs()
		h := openHere(t, t.TempDir())
		p := h.topic(t, "telemetry", 2).Partitions
		o := options(t, h, brokers, Rule{Topic: "telemetry"})
		reached := make(chan struct{})
		o.KgoOpts = []kgo.Opt{kgo.WithHooks(&stepper{at: 40, fn: func() { close(reached) }})}
		u := start(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			for i := 0; ctx.Err() == nil; i++ {
				if err := h.tryAppend(t.Context(), p[i%2], 10, 100); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		<-reached
		c.Close()
		eventually(t, "the uplink notices", func() bool { return u.Status().Error != "" })
		cancel()
		<-loaded
		c = at(kfake.Ports(portOf(t, brokers[0])))
		u.mirrored(t)
		equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
	})
}

// Kafka was seen to hold a dead transaction's positions as pending for ever: only another marker of the same producer frees them.
func TestPendingPositionsAreFreed(t *testing.T) {
	t.Parallel()
	for _, tv := range []protocol{tv1, tv2} {
		t.Run(fmt.Sprint(tv), func(t *testing.T) {
			t.Parallel()
			centre := newCentre(t, tv)
			h := openHere(t, t.TempDir())
			p := h.topic(t, "telemetry", 1).Partitions[0]
			o := options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"})
			o.txnTimeout = 2 * time.Second // it waits so long for the end of a transaction
			u := start(t, o)
			h.append(t, p, 100, 100)
			u.mirrored(t)
			u.stop()

			var freed atomic.Bool
			centre.ControlKey(26, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				centre.KeepControl()
				if !kreq.(*kmsg.EndTxnRequest).Commit {
					freed.Store(true)
				}
				return nil, nil, false
			})
			centre.ControlKey(9, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				centre.KeepControl()
				if freed.Load() {
					return nil, nil, false
				}
				resp := kreq.ResponseKind().(*kmsg.OffsetFetchResponse)
				resp.ErrorCode = kerr.UnstableOffsetCommit.Code
				for _, g := range kreq.(*kmsg.OffsetFetchRequest).Groups {
					rg := kmsg.NewOffsetFetchResponseGroup()
					rg.Group, rg.ErrorCode = g.Group, resp.ErrorCode
					resp.Groups = append(resp.Groups, rg)
				}
				return resp, nil, true
			})
			h.append(t, p, 50, 100)
			u = start(t, o)
			u.mirrored(t)
			if !freed.Load() {
				t.Error("the positions were used while they were pending")
			}
			equal(t, h, "telemetry", centre.ListenAddrs(), "telemetry")
		})
	}
}
