package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// produced is a commit as a Kafka producer's batch makes it.
func produced(p *Partition, id int64, epoch int16, seq int32, txn bool, values ...string) *Commit {
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for i, v := range values {
		w.Add(int64(1000+i), record(0, v).Payload)
	}
	attrs := int16(0)
	if txn {
		attrs = batch.AttrTransactional
	}
	b := w.End(attrs, id, epoch, seq)
	return &Commit{
		Appends:  []Append{{Partition: p, Batch: b}},
		Producer: &Producer{Partition: p, ID: id, Epoch: epoch, BaseSequence: seq, Records: int32(len(values)), Transactional: txn},
	}
}

func marker(p *Partition, id int64, epoch int16, commit bool) *Commit {
	return &Commit{Urgent: true, Appends: []Append{{Partition: p, Marker: &Marker{ProducerID: id, Epoch: epoch, Commit: commit}}}}
}

// wantErr does c and compares its error and the offset of its first append.
func wantErr(t *testing.T, s *Store, c *Commit, want error, base int64) {
	t.Helper()
	if err := s.Do(context.Background(), c); !errors.Is(err, want) || want == nil && err != nil {
		t.Fatalf("got %v, want %v", err, want)
	}
	if c.Appends[0].Base != base {
		t.Fatalf("base %d, want %d", c.Appends[0].Base, base)
	}
}

// everyLife runs check on a store as it is, after a kill (state from the journal), and after a close (from the checkpoint).
func everyLife(t *testing.T, build, check func(t *testing.T, s *Store, p *Partition)) {
	t.Helper()
	for _, life := range []string{"running", "killed", "closed", "killed behind a checkpoint"} {
		t.Run(life, func(t *testing.T) {
			disk, dir := newSimFS(), t.TempDir()
			s, p := openSim(t, dir, disk)
			if life == "killed behind a checkpoint" {
				put(t, s, p, "zero")
				closeTest(t, s)
				s, p = openSim(t, dir, disk)
			} else {
				put(t, s, p, "zero")
			}
			build(t, s, p)
			switch life {
			case "killed", "killed behind a checkpoint":
				mustKill(t, s)
				s, p = openSim(t, dir, disk.kill())
			case "closed":
				closeTest(t, s)
				s, p = openSim(t, dir, disk)
			}
			check(t, s, p)
			closeTest(t, s)
		})
	}
}

func TestIdempotentProducer(t *testing.T) {
	build := func(t *testing.T, s *Store, p *Partition) {
		for i := range int32(7) {
			wantErr(t, s, produced(p, 42, 3, 10+2*i, false, fmt.Sprint("a", i), fmt.Sprint("b", i)), nil, int64(1+2*i))
		}
	}
	everyLife(t, build, func(t *testing.T, s *Store, p *Partition) {
		for i := int32(2); i < 7; i++ { // the last five
			wantErr(t, s, produced(p, 42, 3, 10+2*i, false, "a", "b"), ErrDuplicate, int64(1+2*i))
		}
		wantErr(t, s, produced(p, 42, 3, 12, false, "a", "b"), ErrOutOfOrder, -1) // forgotten
		wantErr(t, s, produced(p, 42, 3, 26, false, "a"), ErrOutOfOrder, -1)
		wantErr(t, s, produced(p, 42, 2, 24, false, "a"), ErrFenced, -1)
		wantErr(t, s, produced(p, 42, 4, 24, false, "a"), ErrOutOfOrder, -1) // a new epoch starts at 0
		wantErr(t, s, produced(p, 42, 3, 24, false, "next"), nil, 15)
		wantErr(t, s, produced(p, 42, 4, 0, false, "epoch"), nil, 16)
		wantErr(t, s, produced(p, 42, 3, 25, false, "a"), ErrFenced, -1)
		wantErr(t, s, produced(p, 7, 0, 5000, false, "unknown"), nil, 17)
		if _, _, high := p.Offsets(); high != 18 {
			t.Fatalf("high %d", high)
		}
	})
}

func TestSequenceWraps(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	wantErr(t, s, produced(p, 1, 0, math.MaxInt32-1, false, "a", "b"), nil, 0) // MaxInt32-1, MaxInt32
	wantErr(t, s, produced(p, 1, 0, 0, false, "c"), nil, 2)
	wantErr(t, s, produced(p, 1, 0, math.MaxInt32-1, false, "a", "b"), ErrDuplicate, 0)
	wantErr(t, s, produced(p, 2, 0, math.MaxInt32, false, "a", "b", "c"), nil, 3) // wraps inside: MaxInt32, 0, 1
	wantErr(t, s, produced(p, 2, 0, 2, false, "d"), nil, 6)
}

// Duplicates within one frame: what the first of them does is not durable yet when the second is checked.
func TestDuplicateInOneFrame(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	group := []*Commit{
		produced(p, 1, 0, 0, false, "a"), produced(p, 1, 0, 0, false, "a"), produced(p, 1, 0, 1, false, "b"), produced(p, 1, 0, 3, false, "d"),
		produced(p, 1, 0, 1, false, "b"),
	}
	for _, c := range group {
		if err := c.measure(); err != nil {
			t.Fatal(err)
		}
	}
	s.onCommitter(func() { s.commit(group) })
	for i, want := range []error{nil, ErrDuplicate, nil, ErrOutOfOrder, ErrDuplicate} {
		if !errors.Is(group[i].Err, want) {
			t.Fatalf("commit %d: %v", i, group[i].Err)
		}
	}
	for i, want := range []int64{0, 0, 1, -1, 1} {
		if group[i].Appends[0].Base != want {
			t.Fatalf("commit %d: base %d", i, group[i].Appends[0].Base)
		}
	}
	wantValues(t, p, "a", "b")
	// A frame that fails takes its duplicates' answers with it.
	disk.failNth("sync", 1, 1000, errSimSync)
	wantErr(t, s, produced(p, 1, 0, 1, false, "b"), ErrDuplicate, 1) // nothing is written for it
	group = []*Commit{produced(p, 1, 0, 2, false, "c"), produced(p, 1, 0, 2, false, "c")}
	for _, c := range group {
		if err := c.measure(); err != nil {
			t.Fatal(err)
		}
	}
	s.onCommitter(func() { s.commit(group) })
	for _, c := range group {
		if !errors.Is(c.Err, ErrReadOnly) {
			t.Fatal(c.Err)
		}
	}
}

// A batch in a frame that failed for good was never stored: it is no duplicate when it is sent again, though the store was closed
// in an orderly way, or checkpointed, in between.
func TestProducerOfFailedFrame(t *testing.T) {
	for _, how := range []string{"closed", "checkpointed, then killed"} {
		t.Run(how, func(t *testing.T) {
			disk, dir := newSimFS(), t.TempDir()
			s, p := openSim(t, dir, disk)
			wantErr(t, s, produced(p, 1, 0, 0, false, "a"), nil, 0)
			disk.failNth("write", 1, 2, errSimSync)
			if err := s.Do(context.Background(), produced(p, 1, 0, 1, false, "b")); !errors.Is(err, ErrReadOnly) {
				t.Fatal(err)
			}
			if how == "closed" {
				closeTest(t, s)
			} else {
				if err := s.sealRound(true); err != nil {
					t.Fatal(err)
				}
				mustKill(t, s)
				disk = disk.kill()
			}
			s, p = openSim(t, dir, disk)
			defer closeTest(t, s)
			wantErr(t, s, produced(p, 1, 0, 1, false, "b"), nil, 1)
			wantValues(t, p, "a", "b")
		})
	}
}

// The state follows the batch that was sent, also when a plugin dropped or changed what was in it.
func TestProducerOfDroppedBatch(t *testing.T) {
	build := func(t *testing.T, s *Store, p *Partition) {
		other := must(s.Topic("t")).Partitions[1]
		doTest(t, s, &Commit{Producer: &Producer{Partition: p, ID: 9, Epoch: 0, BaseSequence: 0, Records: 3}})
		c := appendOf(other, "elsewhere")
		c.Producer = &Producer{Partition: p, ID: 9, Epoch: 0, BaseSequence: 3, Records: 2}
		doTest(t, s, c)
	}
	everyLife(t, build, func(t *testing.T, s *Store, p *Partition) {
		wantErr(t, s, produced(p, 9, 0, 0, false, "a", "b", "c"), ErrDuplicate, -1)
		wantErr(t, s, produced(p, 9, 0, 3, false, "d", "e"), ErrDuplicate, -1)
		wantErr(t, s, produced(p, 9, 0, 5, false, "f"), nil, 1)
	})
}

func TestBatchMustBeItsProducers(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	c := produced(p, 1, 0, 0, false, "a")
	c.Producer = nil
	wantErr(t, s, c, ErrInvalidTxn, -1)
	c = produced(p, 1, 0, 0, false, "a")
	c.Producer.BaseSequence = 1
	wantErr(t, s, c, ErrInvalidTxn, -1)
	c = produced(p, 1, 0, 0, true, "a")
	c.Producer.Transactional = false
	wantErr(t, s, c, ErrInvalidTxn, -1)
	c = produced(p, 1, 0, 0, false, "a")
	c.Appends[0].Batch = c.Appends[0].Batch[:70]
	if err := s.Do(context.Background(), c); err == nil {
		t.Fatal("half a batch was taken")
	}
	// One append that fails fails its commit alone, and all of it.
	c = appendOf(p, "not")
	c.Puts = []Put{{"test", "k", []byte("not")}}
	c.Appends = append(c.Appends, produced(p, 1, 0, 0, false, "a").Appends...)
	if err := s.Do(context.Background(), c); !errors.Is(err, ErrInvalidTxn) {
		t.Fatal(err)
	}
	if v, _ := s.Get("test", "k"); v != nil {
		t.Fatal("half a commit was taken")
	}
	wantErr(t, s, produced(p, 1, 0, 0, false, "a"), nil, 0)
}

func TestTransactions(t *testing.T) {
	build := func(t *testing.T, s *Store, p *Partition) {
		wantErr(t, s, produced(p, 1, 0, 0, true, "a"), nil, 1)
		wantErr(t, s, produced(p, 2, 0, 0, true, "x", "y"), nil, 2)
		put(t, s, p, "plain") // 4
		wantErr(t, s, produced(p, 1, 0, 1, true, "b"), nil, 5)
		if start, stable, high := p.Offsets(); start != 0 || stable != 1 || high != 6 {
			t.Fatal(start, stable, high)
		}
		wantErr(t, s, marker(p, 1, 0, false), nil, 6) // aborts 1 and 5
		wantErr(t, s, produced(p, 1, 0, 2, true, "c"), nil, 7)
	}
	everyLife(t, build, func(t *testing.T, s *Store, p *Partition) {
		if _, stable, high := p.Offsets(); stable != 2 || high != 8 {
			t.Fatalf("stable %d, high %d", stable, high)
		}
		if open := p.OpenTxns(); len(open) != 2 || open[1] != 7 || open[2] != 2 {
			t.Fatal(open)
		}
		if a := p.Aborted(0, 100); len(a) != 1 || a[0] != (Aborted{1, 1, 6}) {
			t.Fatal(a)
		}
		if a := p.Aborted(7, 100); len(a) != 0 {
			t.Fatal(a)
		}
		if a := p.Aborted(0, 1); len(a) != 0 {
			t.Fatal(a)
		}
		wantErr(t, s, produced(p, 2, 0, 2, false, "z"), ErrInvalidTxn, -1)
		wantErr(t, s, marker(p, 2, 0, true), nil, 8)
		if _, stable, high := p.Offsets(); stable != 7 || high != 9 {
			t.Fatalf("stable %d, high %d", stable, high)
		}
		// A marker with a newer epoch fences.
		wantErr(t, s, marker(p, 1, 1, false), nil, 9)
		wantErr(t, s, produced(p, 1, 0, 3, true, "d"), ErrFenced, -1)
		wantErr(t, s, marker(p, 1, 0, true), ErrFenced, -1)
		wantErr(t, s, produced(p, 1, 1, 0, true, "e"), nil, 10)
		wantErr(t, s, marker(p, 1, 1, true), nil, 11)
		if _, stable, high := p.Offsets(); stable != 12 || high != 12 {
			t.Fatalf("stable %d, high %d", stable, high)
		}
		if a := p.Aborted(0, 100); len(a) != 2 || a[1] != (Aborted{1, 7, 9}) {
			t.Fatal(a)
		}
	})
}

// What a plugin emits from a transactional batch to another partition belongs to the transaction there.
func TestTransactionOfPluginOutput(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	other := must(s.Topic("t")).Partitions[1]
	c := appendOf(other, "out", "put")
	c.Producer = &Producer{Partition: p, ID: 5, Epoch: 0, BaseSequence: 0, Records: 2, Transactional: true}
	doTest(t, s, c)
	if _, stable, high := other.Offsets(); stable != 0 || high != 2 {
		t.Fatalf("stable %d, high %d", stable, high)
	}
	bs, err := other.Read(0, 2, 1<<20)
	if err != nil || len(bs) != 1 {
		t.Fatal(len(bs), err)
	}
	if h, _ := batch.ParseHeader(bs[0]); !h.Transactional() || h.ProducerID != 5 {
		t.Fatalf("%+v", h)
	}
	wantErr(t, s, marker(other, 5, 0, true), nil, 2)
	if _, stable, _ := other.Offsets(); stable != 3 {
		t.Fatalf("stable %d", stable)
	}
}

func TestProducersExpire(t *testing.T) {
	clock := newTestClock()
	s := openTest(t, Options{Now: clock.now})
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	wantErr(t, s, produced(p, 1, 0, 0, false, "a"), nil, 0)
	wantErr(t, s, produced(p, 2, 0, 0, true, "b"), nil, 1)
	for range 25 {
		clock.step(time.Hour)
		put(t, s, p, "tick")
	}
	s.onCommitter(func() { s.expireProducers(nil) })
	wantErr(t, s, produced(p, 1, 0, 77, false, "any sequence"), nil, 27)
	wantErr(t, s, produced(p, 2, 0, 77, true, "b"), ErrOutOfOrder, -1) // its transaction is open
}
