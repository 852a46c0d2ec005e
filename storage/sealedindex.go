package storage

import (
	"slices"
	"sort"
)

// indexEntry is where one sealed batch lies: 72 bytes in memory. It covers the offsets [base, next()). A batch that compaction
// thinned out may begin behind base, never end before next(); without size there is no batch, nothing of it was left.
type indexEntry struct {
	base    int64
	maxTime int64
	prefix  int64 // largest maxTime up to here, since timestamps need not ascend
	newest  int64 // store clock, ms, of its last record
	group   *group
	span    uint32 // offsets that it covers
	pos     uint32 // in the group's data
	size    uint32
	raw     uint32 // bytes of its records, uncompressed
	records uint32
	age     uint32 // s by which its first record is older than its last, rounded up
	horizon uint32 // store clock, s, until which compaction keeps its tombstones; 0: it holds none that it knows of
	flags   uint8
}

func (e *indexEntry) next() int64 { return e.base + int64(e.span) }

// partIndex is the index of one partition. Readers take the slice under sealedLog.mu and search it without: entries are
// only ever appended.
type partIndex struct {
	entries []indexEntry // ascending, no overlap
	stored  int64
	floor   int64 // what ends before it was trimmed
}

// append adds an entry behind all others.
func (p *partIndex) append(e indexEntry) {
	e.prefix = e.maxTime
	if n := len(p.entries); n > 0 {
		e.prefix = max(e.prefix, p.entries[n-1].prefix)
	}
	p.entries = append(p.entries, e)
	p.stored += int64(e.size)
}

// settle orders what was loaded from files in any order and drops what is there twice: what a failed commit left behind and
// was sealed again, with more behind it.
func (p *partIndex) settle() {
	loaded := p.entries
	slices.SortFunc(loaded, func(a, b indexEntry) int {
		if a.base != b.base {
			return compare(a.base, b.base)
		}
		return compareRank(b.group, a.group)
	})
	kept := loaded[:0]
	for _, e := range loaded {
		// None of those before the last one reaches behind it, so e overlaps with no other.
		if n := len(kept); n > 0 && kept[n-1].next() > e.base {
			if !e.group.outranks(kept[n-1].group) {
				e.group.file.forget(&e)
				continue
			}
			kept[n-1].group.file.forget(&kept[n-1])
			kept = kept[:n-1]
		}
		kept = append(kept, e)
	}
	p.entries, p.stored = nil, 0
	for _, e := range kept {
		p.append(e)
	}
	p.entries = slices.Clip(p.entries)
}

// setClockV1 gives the records of directories that do not say when they were committed a time. Nobody reads yet.
func (l *sealedLog) setClockV1(clock int64) {
	for _, p := range l.parts {
		for i := range p.entries {
			if p.entries[i].newest == noClock {
				p.entries[i].newest = clock
			}
		}
	}
}

// at returns the position of the entry that holds offset, or of the first one behind it.
func at(entries []indexEntry, offset int64) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].next() > offset })
}

// firstAtOrAfter returns the base offset of the first batch, of those that end behind offset start, whose max timestamp is at
// least ms.
func (l *sealedLog) firstAtOrAfter(id uint32, start, ms int64) (base int64, ok bool) {
	entries := l.index(id)
	entries = entries[at(entries, start):]
	i := sort.Search(len(entries), func(i int) bool { return entries[i].prefix >= ms })
	// The prefix may be that of a batch before the start.
	for ; i < len(entries); i++ {
		if entries[i].maxTime >= ms {
			return entries[i].base, true
		}
	}
	return 0, false
}

// latest returns the base offset of the batch with a partition's largest timestamp behind offset start, and that timestamp.
func (l *sealedLog) latest(id uint32, start int64) (base, ms int64, ok bool) {
	entries := l.index(id)
	for _, e := range entries[at(entries, start):] {
		if e.size > 0 && (!ok || e.maxTime > ms) {
			base, ms, ok = e.base, e.maxTime, true
		}
	}
	return base, ms, ok
}
