package storage

import (
	"slices"

	"rivulet/storage/batch"
)

// Query says which records a reader of frames looks for. It may get more, never less.
type Query struct {
	// Labels are those that it looks for: records that have one of them (Labels.Of).
	Labels []uint32
	// Topics says how much of a topic it looks for; nil: WantLabels of each.
	Topics func(topic string) Want
}

// Want is how much of a topic a query is about.
type Want uint8

// The records of a topic with the query's labels, all of its records, or none.
const (
	WantLabels Want = iota
	WantAll
	WantNone
)

// wanted is a query while it is answered.
type wanted struct {
	q      *Query
	of     Labels
	name   func(part uint32) string // of its topic
	cache  *readCache
	labels []uint32 // ascending
	parts  map[uint32]partWant
	seen   int // sealed batches that it was asked about
}

type partWant struct {
	topic string
	want  Want
}

// wanted gets a query ready; nil wants everything.
func (s *Store) wanted(q *Query) *wanted {
	if q == nil || s.o.Labels.Of == nil {
		return nil
	}
	return newWanted(q, s.o.Labels, s.topicOf, s.sealed.cache)
}

func newWanted(q *Query, of Labels, name func(part uint32) string, cache *readCache) *wanted {
	w := &wanted{q: q, of: of, name: name, cache: cache, parts: make(map[uint32]partWant)}
	for _, l := range q.Labels {
		w.labels = append(w.labels, l&labelMask)
	}
	slices.Sort(w.labels)
	w.labels = slices.Compact(w.labels)
	return w
}

// topic returns a partition's topic, and how much of it is wanted.
func (w *wanted) topic(part uint32) (string, Want) {
	p, ok := w.parts[part]
	if !ok {
		p.topic = w.name(part)
		switch {
		case p.topic == "": // deleted
			p.want = WantNone
		case w.q.Topics != nil:
			p.want = w.q.Topics(p.topic)
		}
		w.parts[part] = p
	}
	return p.topic, p.want
}

// entry reports whether a sealed batch may hold something that is wanted.
func (w *wanted) entry(g *group, e *dirEntry) bool {
	w.seen++
	switch _, want := w.topic(e.part); {
	case want == WantNone:
		return false
	case want == WantAll || !e.labelled || g.scheme != w.of.Scheme:
		return true
	}
	return anyOf(w.labels, e.labels)
}

// anyOf reports whether two ascending lists have something in common. The first one is the short one.
func anyOf(few, many []uint32) bool {
	for _, l := range few {
		i, found := slices.BinarySearch(many, l)
		if found {
			return true
		}
		many = many[i:]
	}
	return false
}

// smallBatch is how many records are looked at without an index, which would take more time to find than to do without.
const smallBatch = 4

// fromMemory returns what is wanted of a batch that is in memory: all of it, some of it, or nil.
func (w *wanted) fromMemory(fb *FrameBatch) ([]byte, error) {
	topic, want := w.topic(fb.Partition.ID)
	if want == WantNone {
		return nil, nil
	}
	h, err := batch.ParseHeader(fb.Data)
	if err != nil || want == WantAll || h.Transactional() || h.Control() {
		return fb.Data, err
	}
	open := func() (*openBatch, int64, error) {
		o, err := w.cache.openBatch(fb.Data)
		if err != nil {
			return nil, 0, err
		}
		size := o.indexSize()
		if h.Codec() != batch.None {
			size += int64(len(o.raw))
		}
		return o, size, nil
	}
	var o *openBatch
	if h.NumRecords <= smallBatch {
		o, _, err = open()
	} else {
		o, err = opened(w.cache, cacheKey{nil, fb.Partition.ID, h.BaseOffset}, open)
	}
	if err != nil {
		return nil, err
	}
	records, err := o.find(w.of, topic, w.labels)
	if err != nil || len(records) == int(h.NumRecords) {
		return fb.Data, err
	}
	return o.cut(records)
}
