package storage

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// dropFile is what may be dropped of one log file, of the topics of one priority.
type dropFile struct {
	age   uint64 // the oldest commit sequence in it
	bytes int64
	to    map[*Partition]int64 // log starts that let go of it
}

// planDrop says which log starts let go of about need bytes, or of all that may be dropped: the lowest priority first, of one
// priority the oldest first, file by file, since a file is what a disk gives back. What an uplink still needs stays.
func (s *Store) planDrop(need int64) []Start {
	hold := s.budget.hold.Load()
	if hold == nil {
		return nil
	}
	byPriority := map[int][]*Topic{}
	for _, t := range s.topics.Load().sorted {
		if s.dropsOldest(t.Policy) {
			byPriority[t.Policy.Priority] = append(byPriority[t.Policy.Priority], t)
		}
	}
	to := map[*Partition]int64{}
	for _, priority := range slices.Sorted(maps.Keys(byPriority)) {
		for _, f := range s.droppable(byPriority[priority], *hold) {
			for p, offset := range f.to {
				to[p] = max(to[p], offset)
			}
			if need -= f.bytes; need <= 0 {
				return startsOf(to)
			}
		}
	}
	return startsOf(to)
}

func startsOf(to map[*Partition]int64) []Start {
	starts := make([]Start, 0, len(to))
	for p, offset := range to {
		starts = append(starts, Start{Partition: p, Offset: offset, Reason: DropBudget})
	}
	slices.SortFunc(starts, func(a, b Start) int { return cmp.Compare(a.Partition.ID, b.Partition.ID) })
	return starts
}

// droppable lists what the sealed batches of topics may give back, the oldest file first.
func (s *Store) droppable(topics []*Topic, hold HoldFunc) []*dropFile {
	files := map[*logFile]*dropFile{}
	for _, t := range topics {
		for _, p := range t.Partitions {
			// An open transaction is not cut: who reads it would see a part of it.
			start, end, _ := p.Offsets()
			if !t.Policy.DropUnmirrored {
				if from, held := hold(p); held {
					end = min(end, from)
				}
			}
			entries := s.sealed.index(p.ID)
			var last *logFile
			var f *dropFile
			for _, e := range entries[at(entries, start):] {
				if e.next() > end {
					break
				}
				if e.group.file != last {
					last, f = e.group.file, files[e.group.file]
				}
				if f == nil {
					f = &dropFile{age: math.MaxUint64, to: map[*Partition]int64{}}
					files[e.group.file] = f
				}
				f.age = min(f.age, e.group.upTo)
				f.bytes += int64(e.size)
				f.to[p] = e.next()
			}
		}
	}
	list := slices.Collect(maps.Values(files))
	slices.SortFunc(list, func(a, b *dropFile) int { return cmp.Compare(a.age, b.age) })
	return list
}
