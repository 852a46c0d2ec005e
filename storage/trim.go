package storage

import (
	"context"
	"encoding/binary"
	"fmt"
)

// spaceStarts holds a partition's log start, once it was moved: partition id → offset.
const spaceStarts = "_starts"

// Start is a log start to be.
type Start struct {
	Partition *Partition
	Offset    int64      // records before it are gone; the high watermark at most
	Reason    DropReason // under which Dropped counts them; empty: DropDeleted
}

// Trim moves log starts forward, in one commit; it is durable when it returns. Readers are refused what is before a start from then
// on; what takes its place on the disk is given back, and Dropped counts it, soon after. A start that is further on already stays. It is an urgent
// commit, since on a full disk it is what makes room. Errors: ErrOffsetRange, ErrNoTopic.
func (s *Store) Trim(ctx context.Context, starts []Start) error {
	c := &Commit{Urgent: true}
	moved := make([]Start, 0, len(starts))
	for _, st := range starts {
		st.Partition.mu.Lock()
		start, high, removed := st.Partition.start, st.Partition.high, st.Partition.removed
		st.Partition.mu.Unlock()
		switch {
		case removed:
			return fmt.Errorf("trim %s/%d: %w", st.Partition.topic, st.Partition.Index, ErrNoTopic)
		case st.Offset < 0 || st.Offset > high:
			return fmt.Errorf("trim %s/%d to %d: %w", st.Partition.topic, st.Partition.Index, st.Offset, ErrOffsetRange)
		case st.Offset <= start:
			continue
		}
		if st.Reason == "" {
			st.Reason = DropDeleted
		}
		moved = append(moved, st)
		c.Puts = append(c.Puts, startPut(st.Partition.ID, st.Offset))
	}
	if len(moved) == 0 {
		return nil
	}
	c.visible = func() {
		s.partsMu.Lock()
		s.trimmed = append(s.trimmed, moved...)
		s.partsMu.Unlock()
		for _, st := range moved {
			st.Partition.moveStart(st.Offset)
		}
		s.wakeSealer()
	}
	if err := s.Do(ctx, c); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	return nil
}

func startPut(partition uint32, offset int64) Put {
	return Put{
		Space: spaceStarts, Key: string(binary.BigEndian.AppendUint32(nil, partition)),
		Value: binary.AppendUvarint(nil, uint64(offset)),
	}
}

// applyStart is a moved start as recovery meets it.
func (s *Store) applyStart(p Put) error {
	if len(p.Key) != 4 {
		return errState
	}
	part := s.partition(binary.BigEndian.Uint32([]byte(p.Key)))
	if part == nil || p.Value == nil {
		return nil // the topic was deleted
	}
	offset, n := binary.Uvarint(p.Value)
	if n != len(p.Value) || offset > 1<<63-1 {
		return errState
	}
	part.trimmed = max(part.trimmed, int64(offset))
	part.moveStart(int64(offset))
	return nil
}

// moveStart shows a durable start to readers. Trims may overtake each other between their look and their commit, so the
// furthest counts.
func (p *Partition) moveStart(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start = max(p.start, offset)
	for _, w := range p.waiters {
		poke(w.C)
	}
}
