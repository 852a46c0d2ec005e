package mirror

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// A dead letter with nothing behind it moves no position at the centre, and is one dead letter all the same after a restart.
func TestLastRecordIsDeadLetteredOnce(t *testing.T) {
	centre := newCentre(t, tv2)
	picky(centre, kerr.InvalidTimestamp.Code, true)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 20, 50)
	u := start(t, options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	poison := batch.Record{Timestamp: 5, Payload: batch.AppendPayload(nil, nil, []byte("poison"), nil)}
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: []batch.Record{poison}}}}); err != nil {
		t.Fatal(err)
	}
	private := h.topic(t, "private", 1).Partitions[0]
	for range 3 {
		u.mirrored(t)
		u.stop()
		h.append(t, private, 1, 10) // its frame takes along what the uplink noted at its end
		u = start(t, options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}))
	}
	h.append(t, p, 1, 50)
	u.mirrored(t)
	dlq, ok := h.store.Topic("telemetry.dlq")
	if !ok {
		t.Fatal("no dead-letter topic")
	}
	if _, _, n := dlq.Partitions[0].Offsets(); n != 1 {
		t.Errorf("%d dead letters of one record", n)
	}
}

// The note of a position is of one that the centre has: without it, a start would take it for lost.
func TestNothingCommittedIsNothingLost(t *testing.T) {
	centre := newCentre(t, tv2)
	picky(centre, kerr.InvalidTimestamp.Code, true)
	h := openHere(t, t.TempDir())
	o := options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"}, Rule{Topic: "other"})
	o.OnLostPosition = Fail
	u := start(t, o)
	h.append(t, h.topic(t, "other", 1).Partitions[0], 1, 10)
	u.mirrored(t)
	p := h.topic(t, "telemetry", 1).Partitions[0]
	poison := batch.Record{Timestamp: 5, Payload: batch.AppendPayload(nil, nil, []byte("poison"), nil)}
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: []batch.Record{poison}}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is dead-lettered", func() bool { s := u.Status(); return s.DeadLettered == 1 && s.Lag == 0 })
	u.stop()
	h.append(t, p, 1, 10) // its frame takes along what the uplink noted at its end
	u = start(t, o)
	eventually(t, "it goes on", func() bool { return u.Status().Lag == 0 && len(u.Status().Partitions) == 2 || u.state() == StateFailed })
	if s := u.Status(); s.State == StateFailed || len(s.Alarms) > 0 {
		t.Errorf("state %s, alarms %v", s.State, s.Alarms)
	}
}

// A disk that was rolled back goes on at its end even when the first transactions fail and the log has grown past the centre's position
// by the time one gets through.
func TestRolledBackDiskSendsWhatCameBeforeTheFirstCommit(t *testing.T) {
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

	var broken atomic.Bool
	broken.Store(true)
	c.ControlKey(28, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !broken.Load() {
			return nil, nil, false
		}
		resp := kreq.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, t := range kreq.(*kmsg.TxnOffsetCommitRequest).Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.InvalidCommitOffsetSize.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	h = openHere(t, old)
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	u = start(t, o)
	eventually(t, "the rollback is noticed", func() bool { return u.alarmed("rolled back") })
	tp, _ := h.store.Topic("telemetry")
	p = tp.Partitions[0]
	h.append(t, p, 60, 100)
	failed := u.Status().Aborted
	eventually(t, "it is tried again", func() bool { return u.Status().Aborted > failed+1 })
	u.stop()
	h.append(t, p, 5, 100)
	u = start(t, o)
	eventually(t, "the next run tries", func() bool { return u.Status().Aborted > 1 })
	broken.Store(false)
	u.mirrored(t)
	if n := count(t, c.ListenAddrs(), "telemetry"); n != 165 {
		t.Errorf("%d records, want 100 from before and 65 from since", n)
	}
	// From then on the centre's position is what counts.
	for range 2 {
		u.stop()
		u = start(t, o)
		h.append(t, p, 1, 100)
		u.mirrored(t)
	}
	if n := count(t, c.ListenAddrs(), "telemetry"); n != 167 {
		t.Errorf("%d records, want 167", n)
	}
}

// Positions of partitions that are silent are renewed at the centre although others keep the link busy: every offset there is forgotten
// by itself.
func TestSilentPositionsAreRenewed(t *testing.T) {
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	tp := h.topic(t, "telemetry", 600)
	for _, p := range tp.Partitions {
		h.append(t, p, 1, 20)
	}
	var ahead atomic.Int64
	o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	u := start(t, o)
	u.mirrored(t)
	for hour := 1; hour < 30; hour++ {
		ahead.Store(int64(hour) * int64(time.Hour))
		h.append(t, tp.Partitions[0], 1, 20)
		u.mirrored(t)
	}
	u.stop()
	offsets, err := admin(t, c.ListenAddrs()).FetchOffsets(t.Context(), "rivulet-e1-cloud")
	if err != nil {
		t.Fatal(err)
	}
	least, most := int64(1<<62), int64(-1)
	for _, at := range offsets[progressTopic] {
		least, most = min(least, at.At), max(most, at.At)
	}
	if len(offsets[progressTopic]) < 2 || most < 29 {
		t.Fatalf("offsets %v", offsets[progressTopic])
	}
	if most-least > 10 { // transactions, of one an hour
		t.Errorf("the least recent positions are of transaction %d of %d", least, most)
	}
}

// A producer that is fenced by the end of its own transaction looks whether another instance is at work. It does not wait for positions
// that are held as pending for ever: only a new epoch frees them.
func TestFencedWhilePositionsArePending(t *testing.T) {
	t.Parallel()
	for _, tv := range []protocol{tv1, tv2} {
		t.Run(fmt.Sprint(tv), func(t *testing.T) {
			t.Parallel()
			centre := newCentre(t, tv)
			h := openHere(t, t.TempDir())
			p := h.topic(t, "telemetry", 1).Partitions[0]
			o := options(t, h, centre.ListenAddrs(), Rule{Topic: "telemetry"})
			o.txnTimeout = 2 * time.Second
			u := start(t, o)
			h.append(t, p, 100, 100)
			u.mirrored(t)
			var pending, fence atomic.Bool
			fence.Store(true)
			centre.ControlKey(26, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				centre.KeepControl()
				req := kreq.(*kmsg.EndTxnRequest)
				if req.Commit && fence.CompareAndSwap(true, false) {
					pending.Store(true)
					resp := req.ResponseKind().(*kmsg.EndTxnResponse)
					resp.ErrorCode = kerr.InvalidProducerEpoch.Code
					return resp, nil, true
				}
				if !req.Commit {
					pending.Store(false)
				}
				return nil, nil, false
			})
			centre.ControlKey(9, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				centre.KeepControl()
				req := kreq.(*kmsg.OffsetFetchRequest)
				if !pending.Load() || !req.RequireStable {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
				resp.ErrorCode = kerr.UnstableOffsetCommit.Code
				for _, g := range req.Groups {
					rg := kmsg.NewOffsetFetchResponseGroup()
					rg.Group, rg.ErrorCode = g.Group, resp.ErrorCode
					resp.Groups = append(resp.Groups, rg)
				}
				return resp, nil, true
			})
			h.append(t, p, 50, 100)
			u.mirrored(t)
			if fence.Load() {
				t.Error("nothing was fenced")
			}
			equal(t, h, "telemetry", centre.ListenAddrs(), "telemetry")
		})
	}
}
