package storage

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The sealer waits this long after a failure, twice as long after the next, up to the bound.
const (
	sealRetry    = time.Second
	sealRetryMax = 30 * time.Second
)

const (
	// sealTick is how often the sealer looks at the clock when nothing else happens.
	sealTick = 5 * time.Second
	// clockLag is by how much the checkpointed clock may lag behind: what is more would be lost over a restart.
	clockLag = clockStep / 2
)

func (s *Store) wakeSealer() { poke(s.sealWork) }

// runSealer is the sealer's goroutine: tails to log files, metadata to meta.db, journal files back into use.
func (s *Store) runSealer() {
	defer close(s.sealDone)
	wait := sealRetry
	retry := time.NewTimer(wait)
	retry.Stop()
	defer retry.Stop()
	tick := time.NewTicker(sealTick)
	defer tick.Stop()
	for {
		again := false
		select {
		case <-s.sealWork:
		case <-retry.C:
			again = true
		case <-tick.C:
			s.clock.tick(s.o.Now())
			s.sealed.cache.age()
			s.sealed.ahead.age()
			if s.stuck.Load() != nil {
				continue // there is a time for the next try
			}
		case fn := <-s.sealControl:
			fn()
			continue
		case <-s.quit:
			return
		}
		err := s.sealRound(false)
		s.journal.force(err != nil)
		if err == nil {
			if s.stuck.Swap(nil) != nil {
				s.o.Log.Info("sealing goes on")
			}
			wait = sealRetry
			s.roomChanged()
			if s.budget.refusing.Load() != nil {
				retry.Reset(sealRetry) // what ends it, an uplink's progress or a trim, need not tell
			}
			continue
		}
		if s.dropForSpace(err) {
			s.wakeSealer()
			continue
		}
		if s.stuck.Swap(&err) == nil {
			s.o.Log.Warn("cannot seal; records are refused when the tails are full", "err", err)
		}
		s.roomChanged() // those that wait are refused now
		retry.Reset(wait)
		if again { // a burst of commits that press for room must not put off the next try
			wait = min(2*wait, sealRetryMax)
		}
	}
}

// sealRound does what is due: seals when the tails are half full, when journal files run short or a commit waits for
// room; checkpoints when much has changed or a journal file waits for it; then takes a step of a compaction. all does the first
// two, due or not.
func (s *Store) sealRound(all bool) error {
	s.letGo()
	if !all {
		s.retain()
	}
	if all {
		s.clock.tick(s.o.Now())
	}
	due := all || s.pressed.Swap(false) || s.tailBytes.Load() >= s.o.TailBytes/2 || s.journal.short()
	if due || s.budgetDue() {
		s.keepBudget()
	}
	if due {
		if err := s.sealTo(s.lastSeq.Load(), all); err != nil {
			return err
		}
	}
	last, full := s.journal.oldest()
	waits := full && last <= s.sealedTo && last > min(s.applied, s.sealedKnown)
	lag := time.Duration(s.clock.now()-s.clockSaved) * time.Millisecond
	if all && (s.applied < s.lastSeq.Load() || s.frozen != nil || lag >= time.Second || s.scrub.moved()) || lag >= clockLag ||
		waits || s.kv.dirty() >= maxDirty || s.frozen != nil {
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	s.journal.recycle(min(s.sealedKnown, s.applied))
	if !all {
		s.forward()
		if s.compactStep() {
			s.wakeSealer()
		}
	}
	return nil
}

// seal writes all tails, as one group a class, and lets go of them.
func (s *Store) seal() error { return s.sealTo(s.lastSeq.Load(), true) }

// sealTo is seal for the frames up to upTo. Without hurry it leaves the cores to others while it can.
func (s *Store) sealTo(upTo uint64, hurry bool) error {
	if upTo <= s.sealedTo {
		return nil
	}
	// A round of several classes that failed half-way is made good by the next one: what one class has is not sealed again, and
	// the tails go when all of it is sealed, so that their bound holds however often it fails.
	byClass := map[string][]sealPart{}
	var live []*Partition
	total := int64(0)
	for topic, class := range s.classes() {
		live = append(live, topic.Partitions...)
		for _, p := range topic.Partitions {
			tail := p.tailUpTo(upTo)
			if len(tail) == 0 {
				continue
			}
			_, end := s.sealed.bounds(p.ID)
			if tail = tail[tailFrom(tail, max(p.counted, end)):]; len(tail) > 0 { // what was trimmed, and counted, is not kept
				part := sealPart{id: p.ID, tails: tail}
				for i := range tail {
					part.bytes += int64(len(tail[i].data))
				}
				byClass[class] = append(byClass[class], part)
				total += part.bytes
			}
		}
	}
	if !hurry {
		s.sealed.merger.pace = s.newPace(total)
		defer func() { s.sealed.merger.pace = nil }()
	}
	splitSmall(byClass, min(smallPart, s.o.TailBytes/8))
	for i, class := range slices.Sorted(maps.Keys(byClass)) {
		parts := byClass[class]
		slices.SortFunc(parts, func(a, b sealPart) int { return compare(uint64(a.id), uint64(b.id)) })
		info := dirInfo{key: upTo, upTo: upTo, sealed: s.sealedTo}
		if i == len(byClass)-1 {
			info.sealed = upTo // with it, the round is whole
		}
		if err := s.sealed.seal(class, info, parts); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
	}
	if len(byClass) > 0 {
		s.sealedKnown = upTo
	}
	s.sealedTo = upTo
	// The index is published, so whoever misses the tail from here on finds the batches there.
	freed := int64(0)
	for _, p := range live {
		freed += p.dropTail(upTo)
	}
	s.ring.drop(upTo)
	s.tailBytes.Add(-freed)
	s.roomChanged()
	return nil
}

// liveParts lists the partitions of all topics, by id.
func (s *Store) liveParts() []*Partition {
	s.partsMu.RLock()
	defer s.partsMu.RUnlock()
	out := make([]*Partition, 0, len(s.parts))
	for _, t := range s.topics.Load().sorted {
		out = append(out, t.Partitions...)
	}
	return out
}
