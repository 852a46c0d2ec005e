package storage

import "slices"

// Query says which records a reader of frames looks for. It may get more, never less.
type Query struct {
	// Labels are those that it looks for: records that have one of them (Labels.Of).
	Labels []uint32
	// Topics says how much of a topic it looks for; nil: WantLabels of each.
	Topics func(topic string) Want
}

// Want is how much of a topic a query is about.
type Want uint8

// All of a topic's records, those with the query's labels, or none.
const (
	WantLabels Want = iota
	WantAll
	WantNone
)

// ready returns the query's labels as they are kept.
func (q *Query) ready() []uint32 {
	labels := make([]uint32, len(q.Labels))
	for i, l := range q.Labels {
		labels[i] = l & labelMask
	}
	slices.Sort(labels)
	return slices.Compact(labels)
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
