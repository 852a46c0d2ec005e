package storage

import (
	"context"
	"fmt"

	"rivulet/storage/batch"
)

// Put is one change of the key-value space. A nil Value deletes. A value is at most 1 MiB. Spaces whose name begins with
// an underscore are the store's own.
type Put struct {
	Space string
	Key   string
	Value []byte
}

// Producer identifies one batch of an idempotent or transactional producer (KIP-98). It is checked and remembered with
// the frame, also when a plugin changed or dropped what the batch held.
type Producer struct {
	Partition     *Partition // the partition the batch was sent to
	ID            int64
	Epoch         int16
	BaseSequence  int32
	Records       int32 // of the batch as it was sent
	Transactional bool
}

// Marker ends a producer's transaction in one partition.
type Marker struct {
	ProducerID int64
	Epoch      int16
	Commit     bool
}

// Append adds to one partition: Records, or one whole Batch, or a Marker.
type Append struct {
	Partition *Partition
	Records   []batch.Record // the store copies them into the frame; they may be reused after Done
	Batch     []byte         // a valid batch, stored as it is but for base offset and leader epoch
	Marker    *Marker
	Base      int64 // result: the first offset
}

// Commit is the atomic unit: all of it is in one journal frame, or none of it.
type Commit struct {
	Appends  []Append
	Puts     []Put
	Producer *Producer
	// Urgent commits (offsets, PUBREL, transaction ends, uplink progress) are admitted when the store is full of records.
	Urgent bool
	// Patient commits ride in the next frame that there is a reason for, at the latest after a second: alone they are not worth
	// one, which is a page of flash at least. For what nobody waits for: subscribers' positions, notes of an uplink's.
	Patient bool
	// Done is called once, after the fsync that made the commit durable or after it failed. It runs on the committer's
	// completion goroutine and must not block.
	Done func(*Commit)

	Err error  // result
	Seq uint64 // result: the frame's sequence

	cost    int64         // bound of what it takes in a frame
	meta    int64         // of which key-value changes
	visible func()        // run by the committer when the frame is published
	wake    chan struct{} // Do waits for it
}

// Bounds of what the encoding adds: length, attributes, timestamp and offset deltas of a record; partition and header of a
// batch; lengths of a put; a producer's mark.
const (
	recordCost = 24
	appendCost = 4 + batch.HeaderSize + 63 // a marker's record fits into the rest
	putCost    = 24
	markCost   = 64
)

// measure computes what c takes.
func (c *Commit) measure() error {
	c.Err, c.Seq = nil, 0
	cost, meta := int64(markCost), int64(0)
	for i := range c.Appends {
		a := &c.Appends[i]
		a.Base = -1
		cost += appendCost + int64(len(a.Batch)) + recordCost*int64(len(a.Records))
		for k := range a.Records {
			cost += int64(len(a.Records[k].Payload))
		}
	}
	for i := range c.Puts {
		p := &c.Puts[i]
		if len(p.Value) > maxValue {
			return fmt.Errorf("value of %d bytes for %s/%s: %w", len(p.Value), p.Space, p.Key, ErrTooLarge)
		}
		if p.Space == "" || p.Key == "" || len(p.Space) > maxKeyBytes || len(p.Key) > maxKeyBytes {
			return fmt.Errorf("put %q/%q: a space and a key have 1 to %d bytes", p.Space, p.Key, maxKeyBytes)
		}
		meta += putCost + int64(len(p.Space)+len(p.Key)+len(p.Value))
	}
	c.cost, c.meta = cost+meta, meta
	return nil
}

// Submit hands c to the committer. It blocks while the queue or the tails are full, until ctx ends. When it returns an
// error, c was not taken and Done is not called.
func (s *Store) Submit(ctx context.Context, c *Commit) error {
	c.wake = nil
	return s.submit(ctx, c)
}

func (s *Store) submit(ctx context.Context, c *Commit) error {
	if err := c.measure(); err != nil {
		return err
	}
	if c.cost > s.o.commitLimit() || c.meta > maxFrameMeta {
		return fmt.Errorf("commit of %d bytes: %w", c.cost, ErrTooLarge)
	}
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	if ok, err := s.admit(c); err != nil {
		return err
	} else if !ok {
		if err := s.waitAdmission(ctx, c); err != nil {
			return err
		}
	}
	s.queue = append(s.queue, c)
	s.queueBytes += c.cost
	poke(s.queued)
	return nil
}

// waitAdmission blocks until c is admitted. queueMu is held, and released while it waits.
func (s *Store) waitAdmission(ctx context.Context, c *Commit) error {
	stop := context.AfterFunc(ctx, func() {
		s.queueMu.Lock()
		defer s.queueMu.Unlock()
		s.room.Broadcast()
	})
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.room.Wait()
		if ok, err := s.admit(c); ok || err != nil {
			return err
		}
	}
}

// admit says whether c may enter the queue now. What only waits for the committer or the sealer is waited for; what waits for
// space on the disk is refused, since nobody knows when that comes. queueMu is held.
func (s *Store) admit(c *Commit) (bool, error) {
	switch {
	case s.closing:
		return false, ErrClosed
	case s.readOnly.Load():
		return false, ErrReadOnly
	case c.Urgent:
		return true, nil
	case s.queueBytes > 0 && s.queueBytes+c.cost > s.o.queueLimit():
		return false, nil
	}
	if why := s.budget.refusing.Load(); why != nil && len(c.Appends) > 0 {
		return false, fmt.Errorf("%w: %w", ErrFull, *why)
	}
	tight, why := s.journal.tight(s.queueBytes + c.cost)
	if tail := s.tailBytes.Load() + s.queueBytes; tail > 0 && tail+c.cost > s.o.TailBytes {
		tight = true
	}
	if !tight {
		return true, nil
	}
	if stuck := s.stuck.Load(); stuck != nil && why == nil {
		why = *stuck
	}
	if why != nil {
		return false, fmt.Errorf("%w: %w", ErrFull, why)
	}
	s.pressed.Store(true)
	s.wakeSealer()
	return false, nil
}

// roomChanged wakes the Submits that wait.
func (s *Store) roomChanged() {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	s.room.Broadcast()
}

// Do submits c and waits for its Err. When ctx ends after c was taken, Do still waits: c's memory is in use until then.
func (s *Store) Do(ctx context.Context, c *Commit) error {
	c.wake = make(chan struct{}, 1)
	if err := s.submit(ctx, c); err != nil {
		return err
	}
	<-c.wake
	return c.Err
}
