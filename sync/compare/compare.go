package compare

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"rivulet/storage/batch"
)

// Record is one record of either log. Its memory may be reused when the next one is asked for.
type Record struct {
	Offset     int64 // where it stands in its own log, for the report
	Key, Value []byte
	Headers    []batch.KV
}

// Fault is what is wrong with one record.
type Fault string

// The faults.
const (
	Hole      Fault = "hole"      // in the source, not in the target
	Duplicate Fault = "duplicate" // more often in the target than in the source
	Swap      Fault = "swap"      // in both, but out of order
	Different Fault = "different" // in place of a record of the source stands another one
	Stranger  Fault = "stranger"  // in the target, never in the source
)

// Place is one faulty record. An offset of -1: not in that log.
type Place struct {
	Fault  Fault `json:"fault"`
	Source int64 `json:"source"` // offset
	Target int64 `json:"target"` // offset
}

// Report is the outcome for one partition, or for several, added up.
type Report struct {
	Source     int     `json:"source"` // records
	Target     int     `json:"target"`
	Holes      int     `json:"holes"`
	Duplicates int     `json:"duplicates"`
	Swaps      int     `json:"swaps"` // records to be moved to bring the target into order
	Different  int     `json:"different"`
	Strangers  int     `json:"strangers"`
	Places     []Place `json:"places,omitempty"` // the first few of each fault
}

// places is how many of each fault a report shows.
const places = 5

// Equal reports whether nothing is wrong.
func (r *Report) Equal() bool {
	return r.Holes == 0 && r.Duplicates == 0 && r.Swaps == 0 && r.Different == 0 && r.Strangers == 0
}

// Add adds another partition's report.
func (r *Report) Add(o Report) {
	r.Source += o.Source
	r.Target += o.Target
	r.Holes += o.Holes
	r.Duplicates += o.Duplicates
	r.Swaps += o.Swaps
	r.Different += o.Different
	r.Strangers += o.Strangers
	for _, p := range o.Places {
		if r.shown(p.Fault) < places {
			r.Places = append(r.Places, p)
		}
	}
}

// String is one line, and one more for each place that is shown.
func (r *Report) String() string {
	if r.Equal() {
		return fmt.Sprintf("equal: %d records", r.Source)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "different: %d records here, %d there: %d holes, %d duplicates, %d swaps, %d changed, %d strangers",
		r.Source, r.Target, r.Holes, r.Duplicates, r.Swaps, r.Different, r.Strangers)
	for _, p := range r.Places {
		fmt.Fprintf(&b, "\n  %s: source offset %d, target offset %d", p.Fault, p.Source, p.Target)
	}
	return b.String()
}

func (r *Report) shown(f Fault) int {
	n := 0
	for _, p := range r.Places {
		if p.Fault == f {
			n++
		}
	}
	return n
}

func (r *Report) note(f Fault, source, target int64) {
	switch f {
	case Hole:
		r.Holes++
	case Duplicate:
		r.Duplicates++
	case Swap:
		r.Swaps++
	case Different:
		r.Different++
	case Stranger:
		r.Strangers++
	}
	if r.shown(f) < places {
		r.Places = append(r.Places, Place{f, source, target})
	}
}

// entry is a record as it is kept.
type entry struct {
	digest uint64
	offset int64
}

// Logs compares one partition. The error is one of reading; what differs is in the report.
func Logs(source, target iter.Seq2[Record, error]) (Report, error) {
	seed := maphash.MakeSeed()
	s, err := entries(seed, source)
	if err != nil {
		return Report{}, fmt.Errorf("read source: %w", err)
	}
	t, err := entries(seed, target)
	if err != nil {
		return Report{}, fmt.Errorf("read target: %w", err)
	}
	r := Report{Source: len(s), Target: len(t)}
	same := slices.EqualFunc(s, t, func(a, b entry) bool { return a.digest == b.digest })
	if !same {
		r.explain(s, t)
	}
	return r, nil
}

func entries(seed maphash.Seed, records iter.Seq2[Record, error]) ([]entry, error) {
	var out []entry
	var h maphash.Hash
	h.SetSeed(seed)
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		h.Reset()
		digest(&h, r.Key)
		digest(&h, r.Value)
		for _, kv := range r.Headers {
			digest(&h, []byte(kv.Key))
			digest(&h, kv.Value)
		}
		out = append(out, entry{h.Sum64(), r.Offset})
	}
	return out, nil
}

// digest adds b with its length, so that fields cannot run into each other; nil is not empty.
func digest(h *maphash.Hash, b []byte) {
	var n [9]byte
	if b != nil {
		n[8] = 1
	}
	binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
	_, _ = h.Write(n[:]) // a hash never fails
	_, _ = h.Write(b)
}

// explain pairs the k-th record of one content in the source with the k-th in the target. What has no partner is missing or
// too much; pairs that cross are swaps.
func (r *Report) explain(s, t []entry) {
	at := make(map[uint64][]int32, len(s)) // source indexes that wait for a partner
	for i, e := range s {
		at[e.digest] = append(at[e.digest], int32(i))
	}
	const none = -1
	partner := make([]int32, len(t)) // of each target record; none, or -2 for content that the source has
	const again = -2
	paired := make([]bool, len(s))
	for i, e := range t {
		list, known := at[e.digest]
		switch {
		case len(list) > 0:
			partner[i] = list[0]
			paired[list[0]] = true
			at[e.digest] = list[1:]
		case known:
			partner[i] = again
		default:
			partner[i] = none
		}
	}
	// A stranger that stands between the partners of a missing record's neighbours is that record, changed.
	changed := make(map[int32]bool)
	next := int32(0) // source index that is expected
	for i, p := range partner {
		switch {
		case p >= 0:
			next = p + 1
		case p == none && int(next) < len(s) && !paired[next]:
			changed[next] = true
			r.note(Different, s[next].offset, t[i].offset)
			next++
		case p == none:
			r.note(Stranger, -1, t[i].offset)
		default:
			r.note(Duplicate, -1, t[i].offset)
		}
	}
	for i, ok := range paired {
		if !ok && !changed[int32(i)] {
			r.note(Hole, s[i].offset, -1)
		}
	}
	r.swaps(s, t, partner)
}

// swaps counts the pairs outside a longest run of pairs that are in order.
func (r *Report) swaps(s, t []entry, partner []int32) {
	var tops []int // tops[k]: index of the pair that ends the run of length k+1 with the smallest partner
	before := make([]int, len(partner))
	for i, p := range partner {
		if p < 0 {
			continue
		}
		k, _ := slices.BinarySearchFunc(tops, p, func(top int, p int32) int { return int(partner[top]) - int(p) })
		before[i] = -1
		if k > 0 {
			before[i] = tops[k-1]
		}
		if k == len(tops) {
			tops = append(tops, i)
		} else {
			tops[k] = i
		}
	}
	inOrder := make([]bool, len(partner))
	if len(tops) > 0 {
		for i := tops[len(tops)-1]; i >= 0; i = before[i] {
			inOrder[i] = true
		}
	}
	for i, p := range partner {
		if p >= 0 && !inOrder[i] {
			r.note(Swap, s[p].offset, t[i].offset)
		}
	}
}
