package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rivulet/storage/batch"
)

// maxMerged is where a batch that merges the records of many commits ends; a Kafka consumer asks for 1 MiB a partition.
const maxMerged = 1 << 20

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
	for {
		s.queueMu.Lock()
		n, enough := s.group()
		switch {
		case n > 0 && (enough || linger == nil && s.o.Linger <= 0):
			group := s.takeLocked(n)
			s.queueMu.Unlock()
			return group
		case n == 0 && s.closing:
			s.queueMu.Unlock()
			return nil
		case n > 0 && linger == nil:
			linger = time.After(s.o.Linger)
		}
		s.queueMu.Unlock()
		select {
		case <-s.queued:
		case fn := <-s.control:
			fn()
		case <-linger:
			s.queueMu.Lock()
			n, _ := s.group()
			group := s.takeLocked(n)
			s.queueMu.Unlock()
			return group
		}
	}
}

// group counts the commits at the head of the queue that go into one frame, and says whether there is no reason to wait for
// more. queueMu is held.
func (s *Store) group() (n int, enough bool) {
	var cost, meta int64
	for _, c := range s.queue {
		if n > 0 && (cost+c.cost > s.o.frameLimit() || meta+c.meta > maxFrameMeta) {
			return n, true
		}
		cost += c.cost
		meta += c.meta
		enough = enough || c.Urgent
		n++
	}
	return n, enough || s.closing || cost >= s.o.frameLimit()
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
	frame := b.enc.encode(seq, s.clock.now(), raw)
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
	s.publish(seq, raw)
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

var errAppendKind = errors.New("an append holds records, or one batch, or a marker")

// check decides whether a commit may be in the frame, against the state that the commits before it in the frame left. It
// changes nothing, so that a commit is taken whole or not at all.
func (s *Store) check(c *Commit) error {
	for i := range c.Appends {
		a := &c.Appends[i]
		if a.Partition == nil || a.Partition.gone {
			return ErrNoTopic
		}
		switch {
		case a.Batch != nil && a.Records == nil && a.Marker == nil:
			if _, err := checkBatch(a.Batch, c.Producer); err != nil {
				return err
			}
		case a.Marker != nil && a.Records == nil && a.Batch == nil:
			if err := checkMarker(a.Partition, a.Marker); err != nil {
				return err
			}
		case a.Marker != nil || a.Batch != nil:
			return errAppendKind
		}
	}
	if c.Producer == nil {
		return nil
	}
	if c.Producer.Partition == nil || c.Producer.Partition.gone {
		return ErrNoTopic
	}
	base, err := s.checkProducer(c.Producer)
	if errors.Is(err, ErrDuplicate) && len(c.Appends) > 0 {
		c.Appends[0].Base = base
	}
	return err
}

// link gives a commit its offsets and notes on each partition what it appends.
func (s *Store) link(c *Commit) {
	b := &s.build
	b.puts += len(c.Puts)
	if c.visible != nil {
		b.shows = append(b.shows, c.visible)
	}
	answer := int64(-1)
	for i := range c.Appends {
		a := &c.Appends[i]
		p := a.Partition
		a.Base = p.next
		switch {
		case a.Marker != nil:
			s.endTxn(p, a.Marker.ProducerID, a.Marker.Epoch, p.next, a.Marker.Commit)
			p.next++
		case a.Batch != nil:
			h, _ := batch.ParseHeader(a.Batch) // checked
			if h.Transactional() {
				s.beginTxn(p, h.ProducerID, h.ProducerEpoch, p.next)
			}
			p.next += int64(h.LastOffsetDelta) + 1
			s.stats.records.Add(uint64(h.NumRecords))
		case len(a.Records) == 0:
			continue
		default:
			if c.Producer != nil && c.Producer.Transactional {
				s.beginTxn(p, c.Producer.ID, c.Producer.Epoch, p.next)
			}
			p.next += int64(len(a.Records))
			s.stats.records.Add(uint64(len(a.Records)))
		}
		if answer < 0 && c.Producer != nil && p == c.Producer.Partition {
			answer = a.Base
		}
		if !p.dirty {
			p.dirty = true
			b.dirty = append(b.dirty, p)
		}
		p.pending = append(p.pending, pending{c, a})
	}
	if pr := c.Producer; pr != nil {
		m := mark{
			partition: pr.Partition.ID, id: pr.ID, epoch: pr.Epoch, first: pr.BaseSequence, records: pr.Records,
			transactional: pr.Transactional, base: answer,
		}
		s.remember(pr.Partition, m)
		b.marks = append(b.marks, m)
	}
}

// encode writes the frame's body to a raw buffer and notes its batches as entries.
func (s *Store) encode(cost int64) []byte {
	b := &s.build
	if int64(cap(b.chunk)-len(b.chunk)) < cost {
		b.chunk = make([]byte, 0, max(s.o.chunkSize(), cost))
	}
	raw := b.chunk[len(b.chunk):len(b.chunk)]
	raw = binary.AppendUvarint(raw, uint64(b.puts))
	for _, c := range b.taken {
		for _, p := range c.Puts {
			raw = appendPut(raw, p)
		}
	}
	raw = binary.AppendUvarint(raw, uint64(len(b.marks)))
	for _, m := range b.marks {
		raw = appendMark(raw, m)
	}
	for _, p := range b.dirty {
		raw = s.encodePartition(raw, p)
	}
	return raw
}

// encodePartition writes what the frame appends to p: the records of consecutive commits as one batch; whole batches,
// markers and what belongs to a transaction as batches of their own.
func (s *Store) encodePartition(raw []byte, p *Partition) []byte {
	b := &s.build
	w := &b.builder
	open := false // a batch that merges
	var cur entry
	begin := func(base int64) {
		raw = binary.LittleEndian.AppendUint32(raw, p.ID)
		cur = entry{p: p, base: base, from: len(raw)}
	}
	end := func(next int64) {
		cur.next, cur.to = next, len(raw)
		b.entries = append(b.entries, cur)
	}
	next := int64(0) // offset behind the open batch
	flush := func() {
		if open {
			open = false
			raw = w.End(0, -1, -1, -1)
			end(next)
		}
	}
	for _, pd := range p.pending {
		a := pd.a
		switch {
		case a.Marker != nil:
			flush()
			begin(a.Base)
			raw = batch.AppendMarker(raw, a.Base, 0, s.clock.wall, a.Marker.ProducerID, a.Marker.Epoch, a.Marker.Commit)
			end(a.Base + 1)
		case a.Batch != nil:
			flush()
			begin(a.Base)
			h, _ := batch.ParseHeader(a.Batch) // checked
			raw = append(raw, a.Batch...)
			batch.Place(raw[cur.from:], a.Base, 0)
			end(a.Base + int64(h.LastOffsetDelta) + 1)
		case pd.c.Producer != nil && pd.c.Producer.Transactional:
			flush()
			begin(a.Base)
			w.Begin(raw, a.Base, 0)
			for i := range a.Records {
				w.Add(a.Records[i].Timestamp, a.Records[i].Payload)
			}
			raw = w.End(batch.AttrTransactional, pd.c.Producer.ID, pd.c.Producer.Epoch, -1)
			end(a.Base + int64(len(a.Records)))
		default:
			if open && w.Len() >= maxMerged {
				flush()
			}
			if !open {
				begin(a.Base)
				w.Begin(raw, a.Base, 0)
				open = true
			}
			for i := range a.Records {
				w.Add(a.Records[i].Timestamp, a.Records[i].Payload)
			}
			next = a.Base + int64(len(a.Records))
		}
	}
	flush()
	clear(p.pending)
	p.pending, p.dirty = p.pending[:0], false
	return raw
}

// publish shows a durable frame to readers.
func (s *Store) publish(seq uint64, raw []byte) {
	b := &s.build
	s.showTxns()
	if len(b.entries) > 0 {
		b.chunk = b.chunk[:min(len(b.chunk)+len(raw), cap(b.chunk))]
		s.publishBatches(seq, raw)
	}
	if b.puts > 0 {
		s.kv.put(b.ownPuts())
		if s.kv.dirty() >= maxDirty {
			s.wakeSealer()
		}
	}
	for _, show := range b.shows {
		show()
	}
	s.lastSeq.Store(seq)
	if len(b.entries) > 0 {
		s.pokeAll()
	}
	if s.tailBytes.Load() >= s.o.TailBytes/2 || s.journal.short() {
		s.wakeSealer()
	}
}

func (s *Store) publishBatches(seq uint64, raw []byte) {
	b := &s.build
	f := Frame{Seq: seq, Batches: make([]FrameBatch, len(b.entries))}
	total := int64(0)
	for i := 0; i < len(b.entries); {
		p := b.entries[i].p
		b.tail = b.tail[:0]
		size := 0
		for ; i < len(b.entries) && b.entries[i].p == p; i++ {
			e := &b.entries[i]
			data := raw[e.from:e.to:e.to]
			size += len(data)
			f.Batches[i] = FrameBatch{p, data}
			b.tail = append(b.tail, tailBatch{seq: seq, base: e.base, next: e.next, data: data})
		}
		total += int64(size)
		s.count(p, size)
		p.publish(b.tail, size)
	}
	clear(b.tail)
	s.tailBytes.Add(total)
	s.stats.rawBytes.Add(uint64(total))
	s.ring.add(f)
}

// ownPuts copies the frame's key-value changes into memory of their own: values that live until the next checkpoint must
// not hold a chunk of records.
func (b *building) ownPuts() []Put {
	size := 0
	for _, c := range b.taken {
		for _, p := range c.Puts {
			size += len(p.Value)
		}
	}
	arena := make([]byte, 0, size)
	puts := make([]Put, 0, b.puts)
	for _, c := range b.taken {
		for _, p := range c.Puts {
			if p.Value != nil {
				from := len(arena)
				arena = append(arena, p.Value...)
				p.Value = arena[from:len(arena):len(arena)]
			}
			puts = append(puts, p)
		}
	}
	return puts
}
