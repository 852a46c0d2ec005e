package storage

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"

	"rivulet/storage/batch"
)

// DropReason says why records went.
type DropReason string

// The reasons for which records go.
const (
	DropTime    DropReason = "time"    // retention.ms
	DropBytes   DropReason = "bytes"   // retention.bytes
	DropBudget  DropReason = "budget"  // the budget, or the disk, was full
	DropDeleted DropReason = "deleted" // somebody asked for it
	// DropCompacted: a later record has its key, its tombstone's time is over, it has no key, or its transaction was aborted.
	DropCompacted DropReason = "compacted"
)

// Dropped counts the records of a topic that went for one reason, since Open.
type Dropped struct {
	Topic   string
	Reason  DropReason
	Records uint64
}

// dropCounts counts dropped records.
type dropCounts struct {
	mu     sync.Mutex // guards counts
	counts map[dropKey]uint64
}

type dropKey struct {
	topic  string
	reason DropReason
}

func (d *dropCounts) add(topic string, reason DropReason, n uint64) {
	if n == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = map[dropKey]uint64{}
	}
	d.counts[dropKey{topic, reason}] += n
}

// Dropped lists what log starts passed over and compaction removed since Open, by topic and reason. Transaction markers count as records.
// It is exact but for what was damaged, and follows a log start by as long as the sealer takes to come by.
func (s *Store) Dropped() []Dropped {
	s.dropped.mu.Lock()
	defer s.dropped.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(s.dropped.counts), func(a, b dropKey) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.reason, b.reason))
	})
	out := make([]Dropped, len(keys))
	for i, k := range keys {
		out[i] = Dropped{Topic: k.topic, Reason: k.reason, Records: s.dropped.counts[k]}
	}
	return out
}

// recordsIn counts the records of a partition between two offsets. The sealer calls it, which alone thins batches out and takes
// tails away, so that nothing is counted twice or not at all.
func (s *Store) recordsIn(p *Partition, from, to int64) (n uint64) {
	end := from
	entries := s.sealed.index(p.ID)
	for i := at(entries, from); i < len(entries); i++ {
		e := &entries[i]
		if e.base >= to {
			break
		}
		if cut := min(e.next(), to) - max(e.base, from); cut == e.next()-e.base {
			n += uint64(e.records)
		} else {
			n += s.recordsCut(p, entries[i:i+1], from, to, cut)
		}
		end = e.next()
	}
	p.mu.Lock()
	tail := p.tail
	p.mu.Unlock()
	for _, t := range tail[tailFrom(tail, max(from, end)):] {
		if t.base >= to {
			break
		}
		n += uint64(min(t.next, to) - max(t.base, from, end))
	}
	return n
}

// recordsCut counts the records that one entry has of an offset range that cuts it, of which it covers cut offsets. Only where compaction
// left fewer records than offsets must the batch be read; one that cannot be read is taken for as full as it may be.
func (s *Store) recordsCut(p *Partition, entry []indexEntry, from, to, cut int64) uint64 {
	e := &entry[0]
	most := min(uint64(e.records), uint64(cut))
	if e.size == 0 || int64(e.records) == e.next()-e.base {
		return most
	}
	set, err := s.sealed.readRun(nil, p.ID, entry)
	if err != nil {
		_, _ = s.sealed.setAside(err) // it is told there
		return most
	}
	n, err := recordsBetween(set[0], from, to)
	if err != nil {
		return most
	}
	return n
}

// recordsBetween counts the records of a batch between two offsets.
func recordsBetween(b []byte, from, to int64) (n uint64, err error) {
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return 0, err
	}
	for r, ok := d.Next(); ok; r, ok = d.Next() {
		if from <= r.Offset && r.Offset < to {
			n++
		}
	}
	return n, d.Err()
}

// countDropped counts what log starts passed over. The sealer calls it.
func (s *Store) countDropped(starts []Start) {
	for _, st := range starts {
		p := st.Partition
		if st.Offset <= p.counted {
			continue
		}
		s.dropped.add(p.topic, st.Reason, s.recordsIn(p, p.counted, st.Offset))
		p.counted = st.Offset
	}
}

const (
	// retainEvery is how much of the store's time, ms, passes between two looks at what is past.
	retainEvery = 5000
	// retainStarts is how many log starts move in one commit.
	retainStarts = 4096
)

// retain moves log starts over what is past by retention.ms and retention.bytes, whole batches at a time, never beyond the last
// stable offset. The sealer calls it. What it costs when nothing is due is a look at the first batch of each partition.
func (s *Store) retain() {
	now, epoch := s.clock.now(), s.epoch.Load()
	if now-s.retained < retainEvery && epoch == s.retainedEpoch {
		return
	}
	s.retained, s.retainedEpoch = now, epoch
	var starts []Start
	for _, t := range s.topics.Load().sorted {
		if !t.Policy.Delete || t.Policy.RetentionMs < 0 && t.Policy.RetentionBytes < 0 {
			continue
		}
		for _, p := range t.Partitions {
			if st := s.past(p, t.Policy, now); st.Offset > 0 {
				starts = append(starts, st)
			}
		}
	}
	for part := range slices.Chunk(starts, retainStarts) {
		err := s.trimAsSealer(part)
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoTopic) && !errors.Is(err, ErrReadOnly) {
			s.o.Log.Warn("cannot move log starts over what is past; will try again", "err", err)
		}
	}
	if len(starts) > 0 {
		s.letGo()
	}
}

// past says where a partition's log should start.
func (s *Store) past(p *Partition, policy Policy, now int64) Start {
	p.mu.Lock()
	start, stable, tail := p.start, p.stable, p.tail
	p.mu.Unlock()
	all := s.sealed.index(p.ID)
	begun := at(all, start)
	entries := all[begun:]
	out := Start{Partition: p, Reason: DropTime}
	if policy.RetentionMs >= 0 {
		oldest := now - policy.RetentionMs
		i := 0
		for i < len(entries) && entries[i].newest < oldest && entries[i].next() <= stable {
			out.Offset = entries[i].next()
			i++
		}
		if i == len(entries) { // all that is sealed is past
			for _, t := range tail[tailFrom(tail, max(start, out.Offset)):] {
				if t.at >= oldest || t.next > stable {
					break
				}
				out.Offset = t.next
			}
		}
	}
	if policy.RetentionBytes >= 0 {
		stored := s.sealed.stored(p.ID)
		for _, e := range all[:begun] { // somebody moved the start since letGo was there
			stored -= int64(e.size)
		}
		for _, e := range entries {
			if stored -= int64(e.size); stored < policy.RetentionBytes || e.next() > stable {
				break
			}
			if e.next() > out.Offset {
				out.Offset, out.Reason = e.next(), DropBytes
			}
		}
	}
	return out
}

// letGo forgets what log starts have passed, and what belonged to deleted topics, and unlinks the files of which nothing is left.
// The sealer calls it.
func (s *Store) letGo() {
	s.partsMu.Lock()
	doomed, trimmed := s.doomed, s.trimmed
	s.doomed, s.trimmed = nil, nil
	s.partsMu.Unlock()
	if len(doomed)+len(trimmed) == 0 {
		return
	}
	s.countDropped(trimmed)
	for _, id := range doomed {
		s.sealed.drop(id)
	}
	var aborts []*Partition
	for _, st := range trimmed {
		p := st.Partition
		s.sealed.trim(p.ID, p.counted)
		if p.abortedBefore(p.counted) > 0 {
			aborts = append(aborts, p)
		}
	}
	if len(aborts) > 0 {
		s.onCommitter(func() {
			for _, p := range aborts {
				s.forgetAborted(p)
			}
		})
	}
	s.sealed.sweep()
}

// abortedBefore counts the aborted transactions that ended before an offset.
func (p *Partition) abortedBefore(offset int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, _ := slices.BinarySearchFunc(p.aborted, offset, endsAt)
	return n
}

// endsAt compares where a transaction ended with an offset.
func endsAt(a Aborted, offset int64) int { return cmp.Compare(a.LastOffset, offset) }

// forgetAborted drops the aborted transactions that ended before the log start. The committer runs it; meta.db follows with the
// next checkpoint.
func (s *Store) forgetAborted(p *Partition) {
	start, _, _ := p.Offsets()
	n := p.abortedBefore(start)
	p.mu.Lock()
	gone := p.aborted[:n]
	p.aborted = slices.Clone(p.aborted[n:])
	p.mu.Unlock()
	for _, a := range gone {
		put := abortedPut(p.ID, a)
		put.Value = nil
		s.graves = append(s.graves, put)
	}
	s.newAborted = slices.DeleteFunc(s.newAborted, func(r abortedRef) bool { return r.p == p && r.a.LastOffset < start })
}
