package storage

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"rivulet/storage/batch"
)

// simCompacted is the topic that is compacted, and how, by program.
const simCompacted = "k"

var simCompactConfigs = []map[string]string{
	{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "60000"},
	{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "0", "min.compaction.lag.ms": "1800000"},
	{"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "1000", "retention.ms": "7200000"},
	{"cleanup.policy": "compact,delete", "retention.bytes": "3000", "min.compaction.lag.ms": "60000"},
	{"cleanup.policy": "compact"},
}

// payload is what a producer sends.
func (r *simRecord) payload() batch.Payload {
	var key, value []byte
	if r.key != "" {
		key = []byte(r.key)
	}
	if !r.tomb {
		value = append([]byte{}, r.value...)
	}
	return batch.AppendPayload(nil, key, value, nil)
}

// abortedAt reports whether the record at an offset belongs to an aborted transaction.
func (p *simPart) abortedAt(offset int64) bool {
	r := &p.recs[offset]
	return r.txn >= 0 && r.marker == "" && slices.ContainsFunc(p.aborted, func(a Aborted) bool {
		return a.ProducerID == r.txn && a.FirstOffset <= offset && offset < a.LastOffset
	})
}

// tombstoneSlack is by how many ms a tombstone's end may come early: the store counts it in seconds.
const tombstoneSlack = 1000

// compareCompacted holds what was read of a compacted log against it: what is there is what was written, at its offset; what is
// missing had to be there no longer; and who reads from the start ends with the values that were written last.
func (p *simPart) compareCompacted(start int64, got []simRead, clock int64) error {
	stable := p.stable()
	there := make(map[int64]bool, len(got))
	last := int64(-1)
	for _, r := range got {
		switch {
		case r.offset <= last:
			return fmt.Errorf("%w: offset %d behind %d", errNotTheLog, r.offset, last)
		case r.offset < start:
			return fmt.Errorf("%w: offset %d before its start at %d", errNotTheLog, r.offset, start)
		case r.offset >= int64(len(p.recs)):
			return fmt.Errorf("%w: offset %d (%.40q) behind its end at %d", errNotTheLog, r.offset, r.value, len(p.recs))
		case p.recs[r.offset] != r.simRecord:
			return fmt.Errorf("%w: offset %d is %+.80v, want %+.80v", errNotTheLog, r.offset, r.simRecord, p.recs[r.offset])
		}
		last, there[r.offset] = r.offset, true
	}
	// From the end, so that what supersedes a record is known when it comes.
	newer := map[string]int64{}
	old := func(offset int64) bool { return clock-p.born[offset] >= p.policy.CompactionLagMs }
	for offset := int64(len(p.recs)) - 1; offset >= start; offset-- {
		r := &p.recs[offset]
		if r.lost {
			continue
		}
		gone := !there[offset]
		aborted := p.abortedAt(offset)
		if gone {
			if err := p.mayBeGone(offset, stable, clock, newer); err != nil {
				return fmt.Errorf("%w: offset %d (%.40q, key %q) is gone: %w", errNotTheLog, offset, r.value, r.key, err)
			}
			if _, superseded := newer[r.key]; r.tomb && !superseded && r.key != "" && !aborted {
				p.room.met(rowTombstone)
			}
			if stable < int64(len(p.recs)) {
				p.room.met(rowUnstable)
			}
		}
		if _, ok := newer[r.key]; !ok && r.key != "" && r.marker == "" && !aborted && offset < stable && old(offset) {
			newer[r.key] = offset
		}
	}
	return p.compareValues(start, stable, there)
}

// mayBeGone says why a record must still be there. newer are the offsets of the last records of keys that may supersede others.
func (p *simPart) mayBeGone(offset, stable, clock int64, newer map[string]int64) error {
	r := &p.recs[offset]
	age := clock - p.born[offset] // at most
	at, superseded := newer[r.key]
	switch {
	case offset >= stable:
		return fmt.Errorf("the last stable offset is %d", stable)
	case age < p.policy.CompactionLagMs:
		return fmt.Errorf("it is %d ms old, the lag is %d", age, p.policy.CompactionLagMs)
	case offset == int64(len(p.recs))-1:
		return fmt.Errorf("it is the last one")
	case r.marker == "abort":
		return fmt.Errorf("it ends an aborted transaction")
	case r.marker != "" || r.key == "" || p.abortedAt(offset):
		return nil
	case superseded && at > offset:
		return nil
	case r.tomb && age >= p.policy.TombstoneMs-tombstoneSlack:
		return nil
	case r.tomb:
		return fmt.Errorf("a tombstone of %d ms, it stays for %d", age, p.policy.TombstoneMs)
	}
	return fmt.Errorf("it is the last one of its key")
}

// compareValues compares what a reader of committed records knows at the last stable offset.
func (p *simPart) compareValues(start, stable int64, there map[int64]bool) error {
	want, got := map[string]string{}, map[string]string{}
	put := func(to map[string]string, r *simRecord) {
		if r.tomb {
			delete(to, r.key)
		} else {
			to[r.key] = r.value
		}
	}
	for offset := start; offset < stable; offset++ {
		r := &p.recs[offset]
		if r.lost || r.marker != "" || r.key == "" || p.abortedAt(offset) {
			continue
		}
		put(want, r)
		if there[offset] {
			put(got, r)
		}
	}
	if !maps.Equal(want, got) {
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if got[key] != want[key] {
				return fmt.Errorf("%w: key %s is %.40q, want %.40q", errNotTheLog, key, got[key], want[key])
			}
		}
		for _, key := range slices.Sorted(maps.Keys(got)) {
			if _, ok := want[key]; !ok {
				return fmt.Errorf("%w: key %s was deleted, and is %.40q again", errNotTheLog, key, got[key])
			}
		}
	}
	return nil
}

// compareClean finds what a compaction that went to its end left behind: before end, a reader meets no record twice, none
// without a key, none of an aborted transaction. The last one that is sealed stays, whatever it is.
func (p *simPart) compareClean(end, last int64, got []simRead) error {
	newer := map[string]int64{}
	for _, r := range slices.Backward(got) {
		if r.offset >= end || r.marker != "" {
			continue
		}
		at, superseded := newer[r.key]
		switch {
		case r.offset == last || r.offset == end-1: // the last one when it began, perhaps
		case r.key == "":
			return fmt.Errorf("%w: offset %d without a key is left before %d", errNotClean, r.offset, end)
		case p.abortedAt(r.offset):
			return fmt.Errorf("%w: offset %d of an aborted transaction is left before %d", errNotClean, r.offset, end)
		case superseded:
			return fmt.Errorf("%w: offset %d of key %s is left before %d and %d", errNotClean, r.offset, r.key, at, end)
		}
		if !p.abortedAt(r.offset) && !superseded {
			newer[r.key] = r.offset
		}
	}
	return nil
}

// keyed makes a record of the compacted topic out of r.
func (sim *simulation) keyed(r *simRecord) {
	rng := sim.rng
	if rng.IntN(20) == 0 {
		return // no key
	}
	r.key = fmt.Sprintf("k%d", rng.IntN(9))
	if rng.IntN(4) == 0 {
		r.value, r.tomb = "", true
	}
}

// compactStep compacts, to the end or to a crash somewhere in it.
func (sim *simulation) compactStep() error {
	w, s := sim.w, sim.w.s
	crash := sim.rng.IntN(3) > 0
	stop := -1
	if crash {
		points := []string{pointForwardBefore, pointForwardWritten, pointForwardRenamed, pointForwardUnlink}
		p := crashPlan{op: points[sim.rng.IntN(len(points))], count: 1 + sim.rng.IntN(2), kill: sim.rng.IntN(4) == 0}
		if sim.rng.IntN(5) == 0 {
			stop, p = sim.rng.IntN(3), crashPlan{} // between two steps
		}
		sim.logf("will crash: %+v, or behind step %d", p, stop)
		w.plan(p)
	}
	sim.logf("compact")
	whole := false
	s.onSealer(func() {
		if sim.rng.IntN(2) == 0 {
			if err := s.seal(); err != nil {
				return
			}
		}
		w.mu.Lock()
		w.compacting = true
		w.mu.Unlock()
		s.compact.after = time.Time{}
		for n := 0; s.compactStep(); n++ {
			if n == stop {
				w.pull(sim.rng.IntN(4) == 0)
				break
			}
		}
		whole = s.compact.after.IsZero()
		w.mu.Lock()
		w.compacting = false
		w.mu.Unlock()
	})
	if w.crashed() || len(sim.unknown) > 0 {
		return nil
	}
	w.plan(crashPlan{})
	for _, d := range s.Dropped() {
		if d.Reason == DropCompacted {
			w.rows[rowCompacted]++
		}
	}
	if !whole || sim.w.o.CompactBytes < simWholeTable {
		return sim.check()
	}
	return sim.checkClean()
}

// simWholeTable holds all keys of a program.
const simWholeTable = 1 << 20

// checkClean holds what is left behind a compaction against compareClean.
func (sim *simulation) checkClean() error {
	if err := sim.check(); err != nil {
		return err
	}
	s := sim.w.s
	for _, id := range sim.model.topics[simCompacted] {
		part, p := sim.part(id), sim.model.parts[id]
		if part == nil || p.policy.DirtyRatio > 0 {
			continue
		}
		var end, last int64
		s.onSealer(func() {
			_, stable, _ := part.Offsets()
			entries := s.sealed.index(id)
			if len(entries) == 0 {
				return
			}
			if r := compactable(entries, stable, p.policy.CompactionLagMs, s.clock.now()); r.dirty == 0 {
				end = r.end
			}
			last = entries[len(entries)-1].next() - 1
		})
		st, err := readState(s, 1<<20)
		if err != nil {
			return err
		}
		if err := p.compareClean(end, last, st.parts[id].recs); err != nil {
			return fmt.Errorf("partition %d: %w", id, err)
		}
		if end > 0 {
			sim.w.rows[rowClean]++
		}
	}
	return nil
}

// compactionRow is the row of a crash in a compaction.
func compactionRow(plan crashPlan) string {
	switch plan.op {
	case pointForwardBefore:
		return rowCompactBefore
	case pointForwardWritten:
		return rowCompactWritten
	case pointForwardRenamed:
		return rowCompactRenamed
	case pointForwardUnlink:
		return rowCompactUnlink
	}
	return rowCompactBetween
}
