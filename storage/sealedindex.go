package storage

import (
	"slices"
	"sort"
)

// indexEntry is where one sealed batch lies: 56 bytes in memory.
type indexEntry struct {
	base    int64
	maxTime int64
	prefix  int64 // largest maxTime up to here, since timestamps need not ascend
	upTo    uint64
	file    *logFile
	span    uint32 // offsets that it covers
	pos     uint32 // in the group's data
	size    uint32
	records uint32
}

func (e *indexEntry) next() int64 { return e.base + int64(e.span) }

// partIndex is the index of one partition. Readers take the slice under sealedLog.mu and search it without: entries are
// only ever appended.
type partIndex struct {
	entries []indexEntry // ascending, no overlap
	stored  int64
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

// settle orders what was loaded from files in any order and drops what is there twice.
func (p *partIndex) settle() {
	loaded := p.entries
	slices.SortStableFunc(loaded, func(a, b indexEntry) int { return compare(a.base, b.base) })
	p.entries, p.stored = loaded[:0], 0
	end := int64(0)
	for _, e := range loaded {
		if e.base < end {
			e.file.live--
			continue
		}
		p.append(e)
		end = e.next()
	}
	p.entries = slices.Clip(p.entries)
}

// at returns the position of the entry that holds offset, or of the first one behind it.
func at(entries []indexEntry, offset int64) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].next() > offset })
}

// firstAtOrAfter returns the base offset of the first batch whose max timestamp is at least ms.
func (l *sealedLog) firstAtOrAfter(id uint32, ms int64) (base int64, ok bool) {
	entries := l.index(id)
	i := sort.Search(len(entries), func(i int) bool { return entries[i].prefix >= ms })
	if i == len(entries) {
		return 0, false
	}
	return entries[i].base, true
}

// latest returns the base offset of the batch with a partition's largest timestamp, and that timestamp.
func (l *sealedLog) latest(id uint32) (base, ms int64, ok bool) {
	entries := l.index(id)
	if len(entries) == 0 {
		return 0, 0, false
	}
	ms = entries[len(entries)-1].prefix
	base, ok = l.firstAtOrAfter(id, ms)
	return base, ms, ok
}
