package http

import (
	"fmt"
	"strconv"
	"time"

	"rivulet/edge"
)

// Place is a place in a log as people say it: earliest, latest, an offset, a time, or a duration back.
type Place struct {
	Latest bool
	Offset int64 // -1: not given
	Time   time.Time
}

// ParsePlace reads a place; "" is the earliest.
func ParsePlace(s string, now time.Time) (Place, error) {
	p := Place{Offset: -1}
	switch s {
	case "", "earliest":
		return p, nil
	case "latest":
		p.Latest = true
		return p, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		p.Offset = n
		return p, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		p.Time = t
		return p, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d < 0 {
		p.Time = now.Add(d)
		return p, nil
	}
	return p, fmt.Errorf("%q is no place in a log; want earliest, latest, an offset, an RFC 3339 time, or a duration back such as -1h", s)
}

// In is the place's offset in a partition.
func (p Place) In(part *edge.Partition) (int64, error) {
	start, stable, _ := part.Offsets()
	switch {
	case p.Latest:
		return stable, nil
	case p.Offset >= 0:
		return max(p.Offset, start), nil
	case !p.Time.IsZero():
		offset, _, ok, err := part.OffsetForTime(p.Time.UnixMilli())
		if err != nil || ok {
			return offset, err
		}
		return stable, nil
	}
	return start, nil
}
