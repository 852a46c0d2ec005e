package edge

import (
	"context"
	"errors"
	"testing"
	"time"
)

// between has what be called when the coordinator, having checked who commits, looks at the clock again, if the group can
// change then.
func (c *coordinators) between(what func()) {
	looks := 0
	c.Groups.opts.Now = func() time.Time {
		if c.Groups.mu.TryLock() {
			c.Groups.mu.Unlock()
			if looks++; looks == 1 {
				what()
			}
		}
		return c.clock.now()
	}
}

// member joins group g alone and gets its assignment.
func (c *coordinators) member(t *testing.T) JoinResult {
	t.Helper()
	j := c.Join(t.Context(), joinRequest("", "m"))
	must(t, j.Err)
	must(t, c.Sync(t.Context(), SyncRequest{Group: "g", MemberID: j.MemberID, Generation: j.Generation}).Err)
	return j
}

func (j JoinResult) commits(offset int64) *OffsetCommit {
	return &OffsetCommit{
		Group: "g", MemberID: j.MemberID, Generation: j.Generation,
		Offsets: []GroupOffset{{Topic: "t", Partition: 0, Offset: offset}},
	}
}

// TestCommitsKeepTheirGenerationsOrder: a member that was thrown out while it committed does not overwrite what its successor
// committed since.
func TestCommitsKeepTheirGenerationsOrder(t *testing.T) {
	c := newCoordinators(t)
	old := c.member(t)
	must(t, c.CommitOffsets(t.Context(), old.commits(1)))
	c.between(func() {
		must(t, c.Leave("g", old.MemberID, ""))
		next := c.member(t)
		must(t, c.CommitOffsets(t.Context(), next.commits(20)))
	})
	must(t, c.CommitOffsets(t.Context(), old.commits(10)))
	o, _, err := c.Offset("g", "t", 0)
	must(t, err)
	if o.Offset != 10 && o.Offset != 20 || o.Offset == 10 && c.generation("g") != old.Generation {
		t.Errorf("generation %d finds offset %d, which generation %d committed", c.generation("g"), o.Offset, old.Generation)
	}
}

func (c *coordinators) generation(group string) int32 {
	d, err := c.Describe(group)
	must(c.t, err)
	return d.Generation
}

// TestPendingFromTheCheckOn: the next member of a group must not be given an offset as stable that a transaction, whose member was
// the group's when it was asked, is about to replace (KIP-447): it would handle the same records again.
func TestPendingFromTheCheckOn(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	old := c.member(t)
	must(t, c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"))
	c.between(func() {
		must(t, c.Leave("g", old.MemberID, ""))
		c.member(t)
		if !c.txns.PendingOffset("g", "t", 0) {
			t.Error("the next member is given the offset as stable")
		}
	})
	must(t, c.txns.CommitOffsets(t.Context(), "p", p.pid, p.epoch, old.commits(10)))
	if !c.txns.PendingOffset("g", "t", 0) {
		t.Error("the offset is not pending")
	}
	must(t, p.end(true))
	if c.txns.PendingOffset("g", "t", 0) {
		t.Error("the offset is pending for ever")
	}
}

// TestFailedTxnOffsetsAreNotPending: what the store did not take leaves nothing behind.
func TestFailedTxnOffsetsAreNotPending(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"))
	must(t, c.store.Close())
	oc := &OffsetCommit{Group: "g", Generation: -1, Offsets: []GroupOffset{{Topic: "t", Offset: 1}}}
	if err := c.txns.CommitOffsets(t.Context(), "p", p.pid, p.epoch, oc); err == nil {
		t.Error("taken by a store that is closed")
	}
	if c.txns.PendingOffset("g", "t", 0) {
		t.Error("the offset is pending")
	}
	c.txns.Close()
	c.Groups.Close()
	c.Groups = nil
}

// TestTxnOffsetsWhileTheGroupWaitsForItsAssignment: Kafka takes them then, and Java's producer has no answer to
// REBALANCE_IN_PROGRESS but to fail for good.
func TestTxnOffsetsWhileTheGroupWaitsForItsAssignment(t *testing.T) {
	c := newCoordinators(t)
	p := c.producer("p")
	must(t, c.txns.AddGroup(t.Context(), "p", p.pid, p.epoch, "g"))
	j := c.Join(t.Context(), joinRequest("", "m"))
	must(t, j.Err)
	must(t, c.txns.CommitOffsets(t.Context(), "p", p.pid, p.epoch, j.commits(3)), p.end(true))
	if err := c.CommitOffsets(t.Context(), j.commits(4)); !errors.Is(err, ErrRebalance) {
		t.Errorf("outside a transaction: %v", err)
	}
}

// TestPendingMemberThatLeaves: a group that nobody joined is not kept.
func TestPendingMemberThatLeaves(t *testing.T) {
	c := newCoordinators(t)
	r := joinRequest("", "m")
	r.GiveID = true
	j := c.Join(t.Context(), r)
	must(t, c.Leave("g", j.MemberID, ""))
	if list := c.List(); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
}

// TestDeletedGroupTakesNoLaterOffsets: a group is deleted while a member joins and commits. Once somebody is a member the group cannot be
// deleted, so what the member committed stays.
func TestDeletedGroupTakesNoLaterOffsets(t *testing.T) {
	c := newCoordinators(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if err := c.Delete(context.Background(), "g"); err != nil && !errors.Is(err, ErrGroupNotFound) && !errors.Is(err, ErrGroupNotEmpty) {
					t.Error(err)
					return
				}
			}
		}
	}()
	for i := range int64(120) {
		m := c.member(t)
		must(t, c.CommitOffsets(t.Context(), m.commits(i)))
		if o, ok, err := c.Offset("g", "t", 0); !ok || o.Offset != i || err != nil {
			t.Errorf("round %d: offset %d, there: %v, %v", i, o.Offset, ok, err)
			break
		}
		must(t, c.Leave("g", m.MemberID, ""))
	}
	close(stop)
	<-done
}
