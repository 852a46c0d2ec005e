package edge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CommitOffsets keeps offsets that become the group's when the transaction commits. It is durable when it returns.
// Errors: those of Groups.CommitOffsets, ErrUnknownProducer, ErrFenced, ErrInvalidTxn when AddGroup was not called, ErrTooLarge.
func (t *Txns) CommitOffsets(ctx context.Context, id string, pid int64, epoch int16, c *OffsetCommit) error {
	x, err := t.acquire(ctx, id, false)
	if err != nil {
		return err
	}
	defer x.unlock()
	x.mu.Lock()
	err = x.check(pid, epoch)
	if err == nil && (x.rec.State != txnOngoing || !slices.Contains(x.rec.Groups, c.Group)) {
		err = ErrInvalidTxn
	}
	x.mu.Unlock()
	if err != nil {
		return err
	}
	fresh, stores := []string(nil), false
	commit := &Commit{Urgent: true}
	var puts []Put
	taken, err := t.groups.checked(c, true, func(all []Put, record *Put) error {
		puts = all
		for _, p := range puts {
			commit.Puts = append(commit.Puts, Put{Space: spaceTxnOffsets, Key: txnOffsetKey(id, p.Key), Value: p.Value})
		}
		if stores = record != nil; stores {
			commit.Puts = append(commit.Puts, *record)
		}
		var err error
		fresh, err = t.expect(x, puts)
		return err
	})
	if err != nil || !taken {
		return err
	}
	if err := t.store.Do(ctx, commit); err != nil {
		t.settle(fresh)
		return err
	}
	if stores {
		t.groups.markStored(c.Group)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hold(puts)
	return nil
}

// txnOffsetKey is transactional id NUL offset key.
func txnOffsetKey(id, offset string) string { return id + "\x00" + offset }

// maxTxnOffsets bounds what the offsets of one transaction take, bytes. Its end is one commit, which must fit into a frame together with
// the markers (maxTxnPartitions).
const maxTxnOffsets = 2 << 20

// endCost is what an offset takes in the commit that ends the transaction of id: its own change, and the end of what was kept of it.
func endCost(id string, p Put) int { return 2*len(p.Key) + len(p.Value) + len(id) + 96 }

// expect notes that x will change the offsets, before that is durable, and returns those that it was not going to change already.
// x.op is held.
func (t *Txns) expect(x *txn, puts []Put) (fresh []string, err error) {
	x.mu.Lock()
	all := maps.Clone(x.offsets)
	x.mu.Unlock()
	if all == nil {
		all = map[string]Put{}
	}
	for _, p := range puts {
		if _, known := all[p.Key]; !known {
			fresh = append(fresh, p.Key)
		}
		all[p.Key] = p
	}
	size := 0
	for _, p := range all {
		size += endCost(x.id, p)
	}
	if size > maxTxnOffsets {
		return nil, fmt.Errorf("offsets of one transaction: %w", ErrTooLarge)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range fresh {
		t.pending[key]++
	}
	return fresh, nil
}

// settle takes back what expect noted.
func (t *Txns) settle(keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range keys {
		if t.pending[key]--; t.pending[key] <= 0 {
			delete(t.pending, key)
		}
	}
}

// hold remembers changes to be made when x commits; a later offset of the same partition takes its place. x.mu is held.
func (x *txn) hold(puts []Put) {
	if x.offsets == nil {
		x.offsets = map[string]Put{}
	}
	for _, p := range puts {
		x.offsets[p.Key] = p
	}
}

// PendingOffset reports whether an open transaction may change a group's offset of a partition (KIP-447).
func (t *Txns) PendingOffset(group, topic string, partition int32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending) > 0 && t.pending[offsetKey(group, topic, partition)] > 0
}

// PendingOffsets reports whether an open transaction may change any offset of a group.
func (t *Txns) PendingOffsets(group string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.pending {
		if strings.HasPrefix(key, group+"\x00") {
			return true
		}
	}
	return false
}
