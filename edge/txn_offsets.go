package edge

import (
	"context"
	"slices"
	"strings"
)

// CommitOffsets keeps offsets that become the group's when the transaction commits. It is durable when it returns.
// Errors: those of Groups.CommitOffsets, ErrUnknownProducer, ErrFenced, ErrInvalidTxn when AddGroup was not called.
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
	record, err := t.groups.checkCommit(c, true)
	if err != nil {
		return err
	}
	puts, errs := t.groups.offsetPuts(c.Group, c.Offsets)
	c.Errs = errs
	if len(puts) == 0 {
		return nil
	}
	commit := &Commit{Urgent: true}
	for _, p := range puts {
		commit.Puts = append(commit.Puts, Put{Space: spaceTxnOffsets, Key: txnOffsetKey(id, p.Key), Value: p.Value})
	}
	if record != nil {
		commit.Puts = append(commit.Puts, *record)
	}
	if err := t.store.Do(ctx, commit); err != nil {
		return err
	}
	if record != nil {
		t.groups.markStored(c.Group)
	}
	for _, p := range puts {
		t.hold(x, p)
	}
	return nil
}

// txnOffsetKey is transactional id NUL offset key.
func txnOffsetKey(id, offset string) string { return id + "\x00" + offset }

// hold remembers that put is to be made when x commits; a later offset of the same partition takes its place.
func (t *Txns) hold(x *txn, put Put) {
	held := pendingOffset{key: txnOffsetKey(x.id, put.Key), offset: put}
	x.mu.Lock()
	i := slices.IndexFunc(x.offsets, func(o pendingOffset) bool { return o.key == held.key })
	if i >= 0 {
		x.offsets[i] = held
	} else {
		x.offsets = append(x.offsets, held)
	}
	x.mu.Unlock()
	if i < 0 {
		t.mu.Lock()
		t.pending[put.Key]++
		t.mu.Unlock()
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
