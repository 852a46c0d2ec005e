package storage

import (
	"fmt"
	"time"

	"rivulet/storage/batch"
)

// entry is one batch of the frame that is being built.
type entry struct {
	p          *Partition
	base, next int64
	from, to   int // in the raw buffer
}

// building is the committer's scratch memory.
type building struct {
	enc     frameEncoder
	builder batch.Builder
	chunk   []byte // raw buffers are cut from its free end
	dirty   []*Partition
	marks   []mark
	entries []entry
	tail    []tailBatch
	taken   []*Commit // commits of the frame that passed their checks
	puts    int
	shows   []func()
}

// runCommitter is the committer's goroutine. It ends when the store is closing and the queue is empty.
func (s *Store) runCommitter() {
	defer close(s.completions)
	for {
		group := s.gather()
		if group == nil {
			return
		}
		s.commit(group)
		s.completions <- group
	}
}

// runCompletions runs the commits' Dones, in order, while the committer is at the next frame.
func (s *Store) runCompletions() {
	defer close(s.completed)
	for group := range s.completions {
		for i, c := range group {
			done, wake := c.Done, c.wake // the caller may use c again from within Done
			if done != nil {
				done(c)
			}
			if wake != nil {
				wake <- struct{}{}
			}
			group[i] = nil
		}
		s.groups.Put(&group)
	}
}

// gather waits for commits and takes as many as go into one frame; nil at the end.
func (s *Store) gather() []*Commit {
	var linger <-chan time.Time
	alone := false // linger is that of patient commits
	for {
		s.queueMu.Lock()
		n, enough, patient := s.group()
		switch {
		case n > 0 && (enough || !patient && s.o.Linger <= 0):
			group := s.takeLocked(n)
			s.queueMu.Unlock()
			return group
		case n == 0 && s.closing:
			s.queueMu.Unlock()
			return nil
		case n > 0 && patient && linger == nil:
			linger, alone = time.After(patience), true
		case n > 0 && !patient && (linger == nil || alone):
			linger, alone = time.After(s.o.Linger), false
		}
		s.queueMu.Unlock()
		select {
		case <-s.queued:
		case fn := <-s.control:
			fn()
		case <-linger:
			s.queueMu.Lock()
			n, _, _ := s.group()
			group := s.takeLocked(n)
			s.queueMu.Unlock()
			return group
		}
	}
}

// patience is how long commits that are all patient wait for others.
const patience = time.Second

// group counts the commits at the head of the queue that go into one frame, and says whether there is no reason to wait for
// more, or whether all of them are patient. queueMu is held.
func (s *Store) group() (n int, enough, patient bool) {
	var cost, meta int64
	patient = true
	for _, c := range s.queue {
		if n > 0 && (cost+c.cost > s.o.frameLimit() || meta+c.meta > maxFrameMeta) {
			return n, true, false
		}
		patient = patient && c.Patient
		cost += c.cost
		meta += c.meta
		enough = enough || c.Urgent && !c.Patient
		n++
	}
	return n, enough || s.closing || cost >= s.o.frameLimit(), patient
}

// takeLocked cuts n commits off the queue.
func (s *Store) takeLocked(n int) []*Commit {
	var group []*Commit
	if old, _ := s.groups.Get().(*[]*Commit); old != nil {
		group = (*old)[:0]
	}
	group = append(group, s.queue[:n]...)
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	for _, c := range group {
		s.queueBytes -= c.cost
	}
	s.room.Broadcast()
	return group
}

// commit makes one frame of a group and sets every commit's result.
func (s *Store) commit(group []*Commit) {
	// A control function (the checkpoint's) asks between two frames.
	select {
	case fn := <-s.control:
		fn()
	default:
	}
	cost := int64(0)
	for _, c := range group {
		cost += c.cost
	}
	err := error(nil)
	if s.readOnly.Load() {
		err = ErrReadOnly
	} else {
		err = s.journal.makeRoom(cost)
	}
	if err != nil {
		failAll(group, err)
		return
	}
	s.clock.tick(s.o.Now())
	b := &s.build
	b.reset()
	for _, c := range group {
		if err := s.check(c); err != nil {
			c.Err = err
			continue
		}
		s.link(c)
		b.taken = append(b.taken, c)
	}
	if len(b.taken) == 0 {
		return
	}
	seq := s.lastSeq.Load() + 1
	raw := s.encode(cost)
	at := s.clock.now()
	frame := b.enc.encode(seq, at, raw)
	if err := s.journal.append(frame, seq, s.stats.synced); err != nil {
		// What was linked stays in the committer's state, and does no harm: nothing is built on it any more.
		s.o.Log.Error("journal failed twice; the store is read-only from here on", "seq", seq, "err", err)
		s.readOnly.Store(true)
		failAll(group, fmt.Errorf("%w: %w", ErrReadOnly, err))
		s.roomChanged()
		return
	}
	s.stats.frames.Add(1)
	s.stats.journalBytes.Add(uint64(len(frame)))
	s.publish(seq, at, raw)
	for _, c := range b.taken {
		c.Seq = seq
	}
}

// failAll gives every commit of a group the same error, also those that failed or were duplicates: a duplicate's answer
// vouches for a record that may be in this very frame.
func failAll(group []*Commit, err error) {
	for _, c := range group {
		c.Err = err
	}
}

func (b *building) reset() {
	clear(b.taken)
	clear(b.shows)
	b.dirty, b.marks, b.entries, b.taken, b.shows = b.dirty[:0], b.marks[:0], b.entries[:0], b.taken[:0], b.shows[:0]
	b.puts = 0
}
