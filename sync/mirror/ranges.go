package mirror

import (
	"encoding/json"
	"fmt"
	"slices"
)

// ranges is a sorted set of offsets, as runs [from, to).
type ranges [][2]int64

// has reports whether off is in the set.
func (r ranges) has(off int64) bool {
	for _, x := range r {
		if off < x[0] {
			return false
		}
		if off < x[1] {
			return true
		}
	}
	return false
}

// touches reports whether an offset of [from, to) is in the set.
func (r ranges) touches(from, to int64) bool {
	for _, x := range r {
		if from < x[1] && x[0] < to {
			return true
		}
	}
	return false
}

// add puts off into the set.
func (r ranges) add(off int64) ranges {
	if r.has(off) {
		return r
	}
	i, _ := slices.BinarySearchFunc(r, off, func(x [2]int64, off int64) int { return int(min(max(x[0]-off, -1), 1)) })
	joinsLeft := i > 0 && r[i-1][1] == off
	joinsRight := i < len(r) && r[i][0] == off+1
	switch {
	case joinsLeft && joinsRight:
		r[i-1][1] = r[i][1]
		return slices.Delete(r, i, i+1)
	case joinsLeft:
		r[i-1][1] = off + 1
	case joinsRight:
		r[i][0] = off
	default:
		return slices.Insert(r, i, [2]int64{off, off + 1})
	}
	return r
}

// from drops what is before off.
func (r ranges) from(off int64) ranges {
	for len(r) > 0 && r[0][1] <= off {
		r = r[1:]
	}
	return r
}

func (r ranges) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("BUG: encode offsets: %v", err))
	}
	return b
}

// decodeRanges reads what encode wrote. It refuses runs that are empty or out of order.
func decodeRanges(b []byte) (ranges, error) {
	var r ranges
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("decode offsets: %w", err)
	}
	last := int64(-1)
	for _, x := range r {
		if x[0] <= last || x[1] <= x[0] {
			return nil, fmt.Errorf("decode offsets: run %d to %d is out of order", x[0], x[1])
		}
		last = x[1]
	}
	return r, nil
}
