package storage

import (
	"fmt"
	"sort"

	"rivulet/storage/batch"
)

// A compaction goes through the compacted topics' partitions that have enough new bytes. First it reads what is new, from a
// partition's first dirty entry on, and notes in one table where the last record of each key stands; then it looks through all that
// lies before the end of that and rewrites the files in which something can go: records that a later one of their key
// supersedes, aborted ones, tombstones whose time is over, records without a key. What the table does not hold is left to the next
// compaction. Offsets never change. The tail and what lies behind the last stable offset are not touched.
//
// An entry is settled when no key of it, or of those before it, stands in a later settled one; a partition's first entry that is not is
// its first dirty one. An entry becomes settled only when the files of all entries before it are through with the same table: a
// crash between two files must not leave an old record before a settled tombstone, whose end it would survive.
type compaction struct {
	now     uint32 // store clock, s
	keys    *keyMap
	parts   map[uint32]*compactPart
	noting  []*compactPart    // whose keys are still to be read
	files   []*logFile        // to look through, in this order, once they are
	listed  bool              // they are
	done    map[*logFile]bool // those that are through, and what took their place
	clean   cleaner
	removed int // records
}

// compactPart is one partition of a compaction.
type compactPart struct {
	part       *Partition
	id         uint32
	topic      string
	first      int64  // base of the first dirty entry
	noted      int64  // the table holds all keys that stand from first to here
	end        int64  // of what may be compacted; once all is noted, of what the table holds
	limit      int64  // what end was at first
	last       int64  // offset of the last sealed record, which stays: a reader that waits for the end must meet it
	tombstones uint32 // s that they are kept
	aborted    map[int64][]Aborted
}

// compactRatio is what is known of a partition for the decision whether it is worth while.
type compactRatio struct {
	first   int64 // base of the first dirty entry; end when there is none
	end     int64 // of what may be compacted
	clean   int64 // stored bytes before first
	dirty   int64 // and from there to end
	expired int64 // bytes of clean entries with tombstones whose time is over
}

func (r compactRatio) due(ratio float64) bool {
	work := r.dirty + r.expired
	return work > 0 && float64(work) >= ratio*float64(r.clean+r.dirty)
}

// compactable weighs entries up to the last stable offset that are older than the topic's lag. now is the store's clock in ms.
func compactable(entries []indexEntry, stable, lag, now int64) compactRatio {
	var r compactRatio
	dirty := false
	for i := range entries {
		e := &entries[i]
		if e.next() > stable || e.newest > now-lag && lag > 0 {
			break
		}
		if !dirty && e.size > 0 && e.flags&flagSettled == 0 {
			dirty, r.first = true, e.base
		}
		switch {
		case dirty:
			r.dirty += int64(e.size)
		case e.horizon != 0 && int64(e.horizon) <= now/1000:
			r.expired += int64(e.size)
			r.clean += int64(e.size)
		default:
			r.clean += int64(e.size)
		}
		r.end = e.next()
	}
	if !dirty {
		r.first = r.end
	}
	return r
}

// abortedBy lists transactions by producer.
func abortedBy(list []Aborted) map[int64][]Aborted {
	if len(list) == 0 {
		return nil
	}
	out := make(map[int64][]Aborted)
	for _, a := range list {
		out[a.ProducerID] = append(out[a.ProducerID], a)
	}
	for _, l := range out {
		sort.Slice(l, func(i, j int) bool { return l[i].FirstOffset < l[j].FirstOffset })
	}
	return out
}

// isAborted reports whether a record belongs to an aborted transaction.
func (p *compactPart) isAborted(h batch.Header, offset int64) bool {
	if !h.Transactional() || p.aborted == nil {
		return false
	}
	list := p.aborted[h.ProducerID]
	i := sort.Search(len(list), func(i int) bool { return list[i].LastOffset >= offset })
	return i < len(list) && list[i].FirstOffset <= offset
}

// note puts the keys of a batch into the table; false says that it is full.
func (c *compaction) note(p *compactPart, b []byte) (bool, error) {
	if err := c.clean.dec.Reset(b, 0); err != nil {
		return false, err
	}
	h := c.clean.dec.Header()
	if h.Control() {
		return true, nil
	}
	for {
		r, ok := c.clean.dec.Next()
		if !ok {
			return true, c.clean.dec.Err()
		}
		if key := r.Payload.Key(); key != nil && !p.isAborted(h, r.Offset) && !c.keys.put(p.id, key, r.Offset) {
			return false, nil
		}
	}
}

// keeps returns what is asked about each record of a batch. expired: the time of its tombstones is over.
func (c *compaction) keeps(p *compactPart, h batch.Header, expired bool) func(r batch.Record) bool {
	return func(r batch.Record) bool {
		if p.isAborted(h, r.Offset) {
			return false // also the last one: the marker stands behind it, and a transaction before would be taken for its own
		}
		if r.Offset == p.last {
			return true
		}
		key := r.Payload.Key()
		if key == nil || expired && r.Payload.Value() == nil {
			return false
		}
		return c.keys.last(p.id, key) <= r.Offset
	}
}

// thin is what becomes of one batch. A marker that commits has told readers nothing since its transaction ended, so it goes; one
// that aborts ends what clients skip of its producer, and stays.
func (c *compaction) thin(p *compactPart, e *indexEntry, b []byte, build bool) (cleaned, error) {
	h, err := batch.ParseHeader(b)
	if err != nil {
		return cleaned{}, err
	}
	if h.Control() {
		commit, err := batch.IsCommit(b)
		if err != nil || !commit || e.next() > p.last {
			return cleaned{batch: b, kept: 1}, err
		}
		res := cleaned{removed: 1}
		if h.BaseOffset >= p.part.counted {
			res.dropped = 1
		}
		return res, nil
	}
	c.clean.start = p.part.counted
	keep := c.keeps(p, h, e.flags&flagSettled != 0 && e.horizon != 0 && e.horizon <= c.now)
	if build {
		return c.clean.clean(b, keep)
	}
	res := cleaned{batch: b}
	err = c.clean.look(b, keep, &res)
	if res.kept == 0 {
		res.batch = nil
	}
	return res, err
}

func (p *compactPart) String() string { return fmt.Sprintf("partition %d of %s", p.id, p.topic) }
