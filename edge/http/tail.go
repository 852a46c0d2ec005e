package http

import (
	"net/http"
	"time"
	"unicode/utf8"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// Tail is one event of a topic's tail.
type Tail struct {
	Records []Record `json:"records"`
	Skipped int64    `json:"skipped"` // records since the last event that are not shown
}

// Bounds of a tail: it is for eyes, which read no faster.
const (
	tailRecords  = 20
	tailInterval = 250 * time.Millisecond
	tailValue    = 4 << 10 // bytes of a value
)

func (s *Server) tail(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpRead)
	if err != nil {
		return err
	}
	last, err := number(r, "last", 5, 1000)
	if err != nil {
		return err
	}
	if onlyHead(w, r, "text/event-stream") {
		return nil
	}
	e, err := openEvents(w)
	if err != nil {
		return err
	}
	waiter := edge.NewWaiter()
	var cursors []*cursor
	for _, p := range t.Partitions {
		start, stable, _ := p.Offsets()
		cursors = append(cursors, &cursor{p: p, at: max(start, stable-int64(last))})
		p.Watch(waiter)
		defer p.Unwatch(waiter)
	}
	pause := time.NewTimer(tailInterval)
	defer pause.Stop()
	for s.valid(r) && s.broker.Allow(principal(r), edge.OpRead, t.Name) {
		ev, err := nextTail(cursors)
		if err != nil {
			s.log.Warn("tail ended", "topic", t.Name, "err", err) // the headers are out: too late for a status
			return nil
		}
		if len(ev.Records) > 0 || ev.Skipped > 0 {
			if e.send(ev) != nil {
				return nil
			}
		}
		// Something new, and then a pause, so that a busy topic comes in handfuls.
		select {
		case <-waiter.C:
		case <-r.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
		pause.Reset(tailInterval)
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
	return nil
}

// nextTail takes the newest records of each partition and skips what is older.
func nextTail(cursors []*cursor) (Tail, error) {
	ev := Tail{Records: []Record{}}
	share := int64(max(tailRecords/len(cursors), 1))
	for _, c := range cursors {
		if len(ev.Records) >= tailRecords {
			break
		}
		_, stable, _ := c.p.Offsets()
		if skip := stable - c.at - share; skip > 0 {
			c.at += skip
			ev.Skipped += skip
		}
		err := c.read(int(share), func(rec batch.Record) bool {
			jr := jsonRecord(c.p.Index, rec)
			if len(jr.Value) > tailValue {
				jr.Value = cut(jr.Value)
			}
			ev.Records = append(ev.Records, jr)
			return true
		})
		if err != nil {
			return ev, err
		}
	}
	return ev, nil
}

// cut shortens a value for the eye, between two characters when it is text.
func cut(d Data) Data {
	n := tailValue
	for n > tailValue-utf8.UTFMax && !utf8.RuneStart(d[n]) {
		n--
	}
	return clone(d[:n]) // what was cut off is let go
}
