package http

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/storage/batch"
)

// Record is one record of a topic.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"` // ms
	Key       Data     `json:"key"`
	Value     Data     `json:"value"`
	Headers   []Header `json:"headers,omitempty"`
}

// Records is one page of a topic.
type Records struct {
	Records []Record `json:"records"`
	Next    string   `json:"next"` // as at: where the next page begins
}

// Bounds of a page.
const (
	defaultPage = 1000
	maxPage     = 10000
	maxPageData = 4 << 20
	maxWait     = 30 * time.Second
)

func (s *Server) recordRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/topics/{topic}/records", does: "store records, at most 100000; the answer leaves when they are on disk", in: NewRecords{}, out: Stored{}, handle: s.produce},
		{
			method: http.MethodGet, path: "/v1/topics/{topic}/records", does: "committed records, those of one partition in order", out: Records{}, handle: s.records,
			query: []query{
				{"from", "earliest (default), latest, an offset, an RFC 3339 time, or a duration back such as -1h"},
				{"at", "PARTITION:OFFSET,… : go on there, as an earlier page's next said; from counts for other partitions"},
				{"partition", "read this one alone"},
				{"limit", "at most so many records, default 1000"},
				{"wait", "a duration, at most 30s: wait so long for a first record"},
			},
		},
	}
}

// jsonRecord copies a record.
func jsonRecord(partition int32, r batch.Record) Record {
	out := Record{Partition: partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: clone(r.Payload.Key()), Value: clone(r.Payload.Value())}
	for _, h := range r.Payload.Headers(nil) {
		out.Headers = append(out.Headers, Header{string(append([]byte(nil), h.Key...)), clone(h.Value)})
	}
	return out
}

func clone(b []byte) Data {
	if b == nil {
		return nil
	}
	return append(Data{}, b...)
}

func (s *Server) records(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpRead)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit", defaultPage, maxPage)
	if err != nil {
		return err
	}
	cursors, err := s.cursors(r, t)
	if err != nil {
		return err
	}
	if wait := r.FormValue("wait"); wait != "" {
		d, err := time.ParseDuration(wait)
		if err != nil || d < 0 {
			return badRequest("wait %q: want a duration such as 5s", wait)
		}
		s.await(r, cursors, min(d, maxWait))
		if !s.valid(r) { // the login may have ended meanwhile
			return s.unauthorized(w, r, auth.ErrDenied)
		}
		if err := s.allow(r, edge.OpRead, t.Name); err != nil {
			return err
		}
	}
	out := Records{Records: []Record{}}
	next := make([]string, len(cursors))
	size := 0
	for i, c := range cursors {
		// A fair share each, so that a long partition does not starve the others.
		share := (limit - len(out.Records)) / (len(cursors) - i)
		if share == 0 && len(out.Records) < limit {
			share = 1
		}
		err := c.read(share, func(rec batch.Record) bool {
			out.Records = append(out.Records, jsonRecord(c.p.Index, rec))
			size += len(rec.Payload)
			return size < maxPageData
		})
		if err != nil {
			return err
		}
		next[i] = fmt.Sprintf("%d:%d", c.p.Index, c.at)
	}
	out.Next = strings.Join(next, ",")
	s.broker.CountOut(len(out.Records), size)
	return answer(w, http.StatusOK, out)
}

// await returns when a cursor has something to read, the time is over, or the client or the server ends.
func (s *Server) await(r *http.Request, cursors []*cursor, d time.Duration) {
	waiter := edge.NewWaiter()
	for _, c := range cursors {
		c.p.Watch(waiter)
		defer c.p.Unwatch(waiter)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		for _, c := range cursors {
			if c.behind() {
				return
			}
		}
		select {
		case <-waiter.C:
		case <-timer.C:
			return
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// cursors are where the request's query says.
func (s *Server) cursors(r *http.Request, t *edge.Topic) ([]*cursor, error) {
	at, err := parseAt(r.FormValue("at"))
	if err != nil {
		return nil, err
	}
	only, err := number(r, "partition", -1, len(t.Partitions)-1)
	if err != nil {
		return nil, err
	}
	from, err := ParsePlace(r.FormValue("from"), s.now())
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	var list []*cursor
	for _, p := range t.Partitions {
		if only >= 0 && int(p.Index) != only {
			continue
		}
		c := &cursor{p: p}
		if offset, ok := at[p.Index]; ok {
			c.at = offset
		} else if c.at, err = from.In(p); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func parseAt(s string) (map[int32]int64, error) {
	at := map[int32]int64{}
	if s == "" {
		return at, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		p, o, ok := strings.Cut(part, ":")
		partition, err1 := strconv.ParseInt(p, 10, 32)
		offset, err2 := strconv.ParseInt(o, 10, 64)
		if !ok || err1 != nil || err2 != nil || partition < 0 || offset < 0 {
			return nil, badRequest("at %q: want PARTITION:OFFSET,…", s)
		}
		at[int32(partition)] = offset
	}
	return at, nil
}

// number reads a whole number of the query between 0 and most.
func number(r *http.Request, name string, otherwise, most int) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, badRequest("%s %q: want a number from 0 to %d", name, s, most)
	}
	return n, nil
}
