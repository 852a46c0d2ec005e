package edge

import (
	"context"
	"errors"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// txnProducer is a transactional producer by hand.
type txnProducer struct {
	c     *coordinators
	id    string
	pid   int64
	epoch int16
	seq   map[int32]int32
}

func (c *coordinators) producer(id string) *txnProducer {
	c.t.Helper()
	p := &txnProducer{c: c, id: id, seq: map[int32]int32{}}
	var err error
	if p.pid, p.epoch, err = c.txns.Init(c.t.Context(), InitProducer{TxnID: id, Timeout: 30 * time.Second, ProducerID: -1, Epoch: -1}); err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (p *txnProducer) add(parts ...int32) error {
	var list []TxnPartition
	for _, part := range parts {
		list = append(list, TxnPartition{"t", part})
	}
	return p.c.txns.AddPartitions(p.c.t.Context(), p.id, p.pid, p.epoch, list)
}

func (p *txnProducer) end(commit bool) error {
	return p.c.txns.End(p.c.t.Context(), p.id, p.pid, p.epoch, commit)
}

// send stores one record, as the path does it.
func (p *txnProducer) send(part int32) error {
	lease, err := p.c.txns.Lease(p.id, p.pid, p.epoch, "t", part)
	if err != nil {
		return err
	}
	defer lease.Release()
	return p.store(part)
}

func (p *txnProducer) store(part int32) error {
	var w batch.Builder
	w.Begin(nil, 0, 0)
	w.Add(now.UnixMilli(), batch.AppendPayload(nil, nil, []byte("v"), nil))
	topic, _ := p.c.store.Topic("t")
	c := &Commit{
		Appends: []Append{{Partition: topic.Partitions[part], Batch: w.End(batch.AttrTransactional, p.pid, p.epoch, p.seq[part])}},
		Producer: &Producer{
			Partition: topic.Partitions[part], ID: p.pid, Epoch: p.epoch, BaseSequence: p.seq[part], Records: 1, Transactional: true,
		},
	}
	if err := p.c.store.Do(p.c.t.Context(), c); err != nil {
		return err
	}
	p.seq[part]++
	return nil
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// offsets are a partition's last stable offset and high watermark.
func (c *coordinators) offsets(part int32) (stable, high int64) {
	topic, _ := c.store.Topic("t")
	_, stable, high = topic.Partitions[part].Offsets()
	return stable, high
}

func (c *coordinators) wantOffsets(part int32, stable, high int64) {
	c.t.Helper()
	if s, h := c.offsets(part); s != stable || h != high {
		c.t.Errorf("partition %d: last stable offset %d, high watermark %d; want %d and %d", part, s, h, stable, high)
	}
}

func TestTxnEndsInOneCommit(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0, 1, 2), p.send(0), p.send(1), p.send(1))
	c.wantOffsets(0, 0, 1)
	c.wantOffsets(1, 0, 2)
	before := c.store.LastSeq()
	must(t, p.end(true))
	if frames := c.store.LastSeq() - before; frames != 1 {
		t.Errorf("the end took %d frames", frames)
	}
	c.wantOffsets(0, 2, 2)
	c.wantOffsets(1, 3, 3)
	c.wantOffsets(2, 0, 0) // it was named and never written to: no marker

	// The answer was lost: the same End again, also after a restart.
	must(t, p.end(true))
	c.restart()
	must(t, p.end(true))
	if err := p.end(false); !errors.Is(err, ErrInvalidTxn) {
		t.Errorf("abort after the commit: %v", err)
	}
	must(t, p.add(0), p.send(0), p.end(false))
	topic, _ := c.store.Topic("t")
	if a := topic.Partitions[0].Aborted(0, 10); len(a) != 1 || a[0].ProducerID != p.pid || a[0].FirstOffset != 2 || a[0].LastOffset != 3 {
		t.Errorf("aborted %+v", a)
	}
}

func TestTxnChecksItsProducer(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	if err := p.send(0); !errors.Is(err, ErrInvalidTxn) {
		t.Errorf("a partition that was not added: %v", err)
	}
	if err := p.end(true); !errors.Is(err, ErrInvalidTxn) {
		t.Errorf("the end of nothing: %v", err)
	}
	must(t, p.add(0))
	if err := p.send(1); !errors.Is(err, ErrInvalidTxn) {
		t.Errorf("another partition: %v", err)
	}
	for name, test := range map[string]struct {
		p    txnProducer
		want error
	}{
		"another producer id": {txnProducer{c: c, id: "p", pid: p.pid + 1, epoch: p.epoch}, ErrUnknownProducer},
		"an older epoch":      {txnProducer{c: c, id: "p", pid: p.pid, epoch: p.epoch - 1}, ErrFenced},
		"a newer epoch":       {txnProducer{c: c, id: "p", pid: p.pid, epoch: p.epoch + 1}, ErrFenced},
		"another name":        {txnProducer{c: c, id: "q", pid: p.pid, epoch: p.epoch}, ErrUnknownProducer},
	} {
		for what, err := range map[string]error{"add": test.p.add(1), "send": test.p.send(0), "end": test.p.end(true)} {
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %s: %v, want %v", name, what, err, test.want)
			}
		}
	}
	for name, in := range map[string]InitProducer{
		"too long": {TxnID: "p", Timeout: time.Hour, ProducerID: -1}, "none": {TxnID: "p", ProducerID: -1},
	} {
		if _, _, err := c.txns.Init(t.Context(), in); !errors.Is(err, ErrTxnTimeout) {
			t.Errorf("timeout %s: %v", name, err)
		}
	}
}

func TestTxnInitFencesAndAborts(t *testing.T) {
	c := newCoordinators(t)
	old := c.producer("p")
	must(t, old.add(0), old.send(0))
	before := c.store.LastSeq()
	next := c.producer("p")
	if frames := c.store.LastSeq() - before; frames != 1 {
		t.Errorf("fencing took %d frames", frames)
	}
	if next.pid != old.pid || next.epoch != old.epoch+1 {
		t.Errorf("pid %d epoch %d after pid %d epoch %d", next.pid, next.epoch, old.pid, old.epoch)
	}
	c.wantOffsets(0, 2, 2)
	for what, err := range map[string]error{"add": old.add(0), "send": old.send(0), "end": old.end(true)} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("fenced %s: %v", what, err)
		}
	}
	// Even past the coordinator, the log knows the marker's epoch.
	if err := old.store(0); !errors.Is(err, ErrFenced) {
		t.Errorf("fenced batch: %v", err)
	}
	must(t, next.add(0), next.send(0), next.end(true))
}

func TestTxnInitGoesOn(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	again := InitProducer{TxnID: "p", Timeout: time.Second, ProducerID: p.pid, Epoch: p.epoch}
	_, epoch, err := c.txns.Init(t.Context(), again)
	if err != nil || epoch != p.epoch+1 {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	// Its answer was lost: the producer still has the epoch of before.
	if _, epoch, err = c.txns.Init(t.Context(), again); err != nil || epoch <= p.epoch {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	// Another instance took over: the first may not come back.
	c.producer("p")
	again.Epoch = epoch
	if _, _, err = c.txns.Init(t.Context(), again); !errors.Is(err, ErrFenced) {
		t.Errorf("after another instance: %v", err)
	}
	again.ProducerID += 1000
	if _, _, err = c.txns.Init(t.Context(), again); !errors.Is(err, ErrUnknownProducer) {
		t.Errorf("another id: %v", err)
	}
}

func TestTxnTimesOut(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0), p.send(0))
	c.after(29 * time.Second)
	c.wantOffsets(0, 0, 1)
	c.after(2 * time.Second)
	until(t, "the abort", func() bool { s, h := c.offsets(0); return s == 2 && h == 2 })
	if err := p.end(true); !errors.Is(err, ErrFenced) {
		t.Errorf("commit after the timeout: %v", err)
	}
	// The producer may go on (KIP-588).
	pid, epoch, err := c.txns.Init(t.Context(), InitProducer{TxnID: "p", Timeout: time.Second, ProducerID: p.pid, Epoch: p.epoch})
	if err != nil || pid != p.pid || epoch != p.epoch+2 {
		t.Errorf("pid %d epoch %d, %v", pid, epoch, err)
	}
}

func TestTxnTimesOutAfterRestart(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0), p.send(0))
	c.restart()
	must(t, p.send(0)) // it may go on
	c.wantOffsets(0, 0, 2)
	c.stop()
	c.clock.advance(time.Hour)
	c.start()
	until(t, "the abort", func() bool { s, _ := c.offsets(0); return s == 3 })
}

func TestTxnOffsets(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	commit := func(offset int64) error {
		oc := &OffsetCommit{Group: "g", Generation: -1, Offsets: []GroupOffset{{Topic: "t", Partition: 3, Offset: offset, Metadata: "m"}}}
		return errors.Join(c.txns.CommitOffsets(t.Context(), "p", p.pid, p.epoch, oc), errors.Join(oc.Errs...))
	}
	committed := func() int64 {
		t.Helper()
		o, ok, err := c.Offset("g", "t", 3)
		must(t, err)
		if !ok {
			return -1
		}
		return o.Offset
	}
	if err := commit(1); !errors.Is(err, ErrInvalidTxn) {
		t.Errorf("offsets without their group in the transaction: %v", err)
	}
	must(t, c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"), commit(5), commit(7))
	if committed() != -1 || !c.txns.PendingOffset("g", "t", 3) || c.txns.PendingOffset("g", "t", 0) || c.txns.PendingOffset("h", "t", 3) {
		t.Error("an offset counts before its transaction ends, or is not pending")
	}
	c.restart()
	if !c.txns.PendingOffset("g", "t", 3) {
		t.Error("a restart forgot the pending offset")
	}
	must(t, p.end(true))
	if committed() != 7 || c.txns.PendingOffset("g", "t", 3) {
		t.Errorf("after the commit: %d, pending %v", committed(), c.txns.PendingOffset("g", "t", 3))
	}
	must(t, c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"), commit(9), p.end(false))
	if committed() != 7 || c.txns.PendingOffset("g", "t", 3) {
		t.Errorf("after the abort: %d", committed())
	}
	left := 0
	must(t, c.store.Scan(spaceTxnOffsets, "", func(string, []byte) bool { left++; return true }))
	if left > 0 {
		t.Errorf("%d pending offsets are left in the store", left)
	}
}

func TestTxnWaitsForBatchesUnderWay(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0))
	lease, err := c.txns.Lease("p", p.pid, p.epoch, "t", 0)
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- p.end(true) }()
	until(t, "the end waiting", func() bool {
		x := c.txns.txns["p"]
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.ending
	})
	if _, err := c.txns.Lease("p", p.pid, p.epoch, "t", 0); !errors.Is(err, ErrConcurrentTxn) {
		t.Errorf("a batch meanwhile: %v", err)
	}
	if err := p.add(1); !errors.Is(err, ErrConcurrentTxn) {
		t.Errorf("add meanwhile: %v", err)
	}
	must(t, p.store(0))
	lease.Release()
	must(t, <-ended)
	c.wantOffsets(0, 2, 2)
}

func TestTxnEndGivesUpWaiting(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0))
	lease, err := c.txns.Lease("p", p.pid, p.epoch, "t", 0)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.txns.End(ctx, "p", p.pid, p.epoch, true); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	lease.Release()
	must(t, p.send(0), p.end(true)) // it goes on
}

func TestTxnEpochsRunOut(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	x := c.txns.txns["p"]
	x.mu.Lock()
	x.rec.Epoch = maxEpoch
	x.mu.Unlock()
	p.epoch = maxEpoch
	must(t, p.add(0), p.send(0))
	next := c.producer("p")
	if next.pid == p.pid || next.epoch != 0 {
		t.Errorf("pid %d epoch %d after pid %d epoch %d", next.pid, next.epoch, p.pid, p.epoch)
	}
	c.wantOffsets(0, 2, 2)
	if err := p.store(0); !errors.Is(err, ErrFenced) {
		t.Errorf("the old id: %v", err)
	}
	must(t, next.add(0), next.send(0), next.end(true))
}

func TestProducerIDsAreNeverUsedTwice(t *testing.T) {
	c := newCoordinators(t)
	seen := map[int64]bool{}
	ids := make(chan int64, 8000)
	for range 3 {
		for range 4 {
			go func() {
				for range 600 {
					id, _, err := c.txns.Init(context.Background(), InitProducer{})
					if err != nil {
						id = -1
					}
					ids <- id
				}
			}()
		}
		for range 4 * 600 {
			id := <-ids
			if id < 0 || seen[id] {
				t.Fatalf("producer id %d", id)
			}
			seen[id] = true
		}
		c.restart()
	}
}

func TestTxnIDsExpire(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0), p.send(0), p.end(true))
	open := c.producer("open")
	must(t, open.add(1), open.send(1))
	c.clock.advance(6 * 24 * time.Hour)
	open.c.txns.expire()
	until(t, "the open one's abort", func() bool { s, _ := c.offsets(1); return s == 2 })
	if _, err := c.txns.Describe("p"); err != nil {
		t.Error("it expired too early: ", err)
	}
	c.after(25 * time.Hour)
	until(t, "the idle one's end", func() bool { _, err := c.txns.Describe("p"); return errors.Is(err, ErrTxnNotFound) })
	if list := c.txns.List(); len(list) != 1 || list[0].ID != "open" {
		t.Errorf("left: %+v", list)
	}
	if next := c.producer("p"); next.pid == p.pid {
		t.Error("an expired id's producer id is used again")
	}
}

// TestTxnStraysAreAborted opens a transaction in the log that no transactional id knows of, as a damaged frame could
// leave it behind.
func TestTxnStraysAreAborted(t *testing.T) {
	c := newCoordinators(t)
	stray := &txnProducer{c: c, pid: 4711, seq: map[int32]int32{}}
	must(t, stray.store(0))
	known := c.producer("known")
	must(t, known.add(1), known.send(1), known.end(true), known.store(1))
	open := c.producer("open")
	must(t, open.add(2), open.send(2))
	c.restart()
	c.wantOffsets(0, 2, 2)
	c.wantOffsets(1, 4, 4)
	c.wantOffsets(2, 0, 1)
}

func TestTxnOfADeletedTopic(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0), p.send(0), c.store.DeleteTopic(t.Context(), "t"), p.end(true))
}

// TestTwoCoordinatorsInOneProcess share nothing.
func TestTwoCoordinatorsInOneProcess(t *testing.T) {
	a, b := newCoordinators(t), newCoordinators(t)
	pa, pb := a.producer("same"), b.producer("same")
	must(t, pa.add(0), pa.send(0), pb.add(0), pb.send(0), pa.end(true), pb.end(false))
	a.wantOffsets(0, 2, 2)
	b.wantOffsets(0, 2, 2)
}
