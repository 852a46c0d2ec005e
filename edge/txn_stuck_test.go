package edge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestTxnTimesOutThoughTheClockWentBack: a gateway without a clock battery was cut off within a transaction and starts in an earlier
// year. The transaction must not hold up readers until the clock is right again.
func TestTxnTimesOutThoughTheClockWentBack(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, p.add(0), p.send(0))
	c.stop()
	c.clock.advance(-20 * 365 * 24 * time.Hour)
	c.start()
	must(t, p.send(0)) // it may go on
	c.after(29 * time.Second)
	c.wantOffsets(0, 0, 2)
	c.after(2 * time.Second)
	until(t, "the abort", func() bool { s, _ := c.offsets(0); return s == 3 })
}

// TestTxnIDsOfAnEarlierYear: what was used before the clock was set is not idle for having an old date.
func TestTxnIDsOfAnEarlierYear(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	c.stop()
	c.clock.advance(-20 * 365 * 24 * time.Hour)
	c.start()
	c.after(8 * 24 * time.Hour)
	until(t, "the idle one's end", func() bool { _, err := c.txns.Describe("p"); return errors.Is(err, ErrTxnNotFound) })
	if err := p.add(0); !errors.Is(err, ErrUnknownProducer) {
		t.Error(err)
	}
}

// TestTxnOfManyOffsetsEnds: whatever offsets are taken into a transaction, its end fits into one commit; else it would hold up readers
// for ever.
func TestTxnOfManyOffsetsEnds(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprint("commit ", commit), func(t *testing.T) {
			c := newCoordinators(t)
			if _, err := c.store.CreateTopic(t.Context(), "many", 2000, nil); err != nil {
				t.Fatal(err)
			}
			p := c.producer("p")
			must(t, p.add(0), p.send(0), c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"))
			refused := 0
			for from := int32(0); from < 2000; from += 200 {
				oc := &OffsetCommit{Group: "g", Generation: -1}
				for part := from; part < from+200; part++ {
					oc.Offsets = append(oc.Offsets, GroupOffset{Topic: "many", Partition: part, Offset: 1, Metadata: strings.Repeat("m", 4096)})
				}
				switch err := c.txns.CommitOffsets(t.Context(), "p", p.pid, p.epoch, oc); {
				case errors.Is(err, ErrTooLarge):
					refused++
				case err != nil:
					t.Fatal(err)
				}
			}
			if refused == 0 {
				t.Error("all offsets were taken")
			}
			must(t, p.end(commit))
			c.wantOffsets(0, 2, 2)
			if c.txns.PendingOffsets("g") {
				t.Error("an offset is pending still")
			}
		})
	}
}

// TestTxnOfManyPartitionsEnds is the same of partitions.
func TestTxnOfManyPartitionsEnds(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	var parts []TxnPartition
	for i := range int32(maxTxnPartitions) {
		parts = append(parts, TxnPartition{"many", i})
	}
	must(t, c.txns.AddPartitions(t.Context(), "p", p.pid, p.epoch, parts))
	if err := p.add(0); !errors.Is(err, ErrTooLarge) {
		t.Error("one more: ", err)
	}
	must(t, p.end(true), p.add(0), p.send(0), p.end(true))
}

// TestStrayTxnOffsetsAreDropped: a damaged frame was set aside, and with it the transaction that offsets belong to. The broker must start, the
// offsets must not wait for ever, nor count with some other transaction.
func TestStrayTxnOffsetsAreDropped(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("known")
	open := c.producer("open")
	must(t, c.txns.AddGroup(t.Context(), "open", open.pid, open.epoch, "g"))
	oc := &OffsetCommit{Group: "g", Generation: -1, Offsets: []GroupOffset{{Topic: "t", Partition: 2, Offset: 7}}}
	must(t, c.txns.CommitOffsets(t.Context(), "open", open.pid, open.epoch, oc))
	topic, _ := c.store.Topic("t")
	stray := func(id string, partition int32) Put {
		return Put{
			Space: spaceTxnOffsets, Key: txnOffsetKey(id, offsetKey("g", "t", partition)),
			Value: encodeOffset(GroupOffset{Offset: 9, At: now}, topic.ID),
		}
	}
	must(t, c.store.Do(t.Context(), &Commit{Urgent: true, Puts: []Put{stray("unknown", 0), stray("known", 1)}}))
	c.restart()
	for partition, want := range []bool{false, false, true} {
		if got := c.txns.PendingOffset("g", "t", int32(partition)); got != want {
			t.Errorf("partition %d: pending %v", partition, got)
		}
	}
	must(t, c.txns.AddGroup(t.Context(), "known", p.pid, p.epoch, "g"), p.end(true), open.end(true))
	list, err := c.Offsets("g")
	if err != nil || len(list) != 1 || list[0].Partition != 2 || list[0].Offset != 7 {
		t.Errorf("offsets %+v, %v", list, err)
	}
}
