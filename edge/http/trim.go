package http

import (
	"fmt"
	"net/http"

	"rivulet/edge"
)

// TopicTrim is the body that deletes the oldest records of a topic.
type TopicTrim struct {
	Before    string `json:"before"`              // an offset, latest (all there are), an RFC 3339 time, or a duration back such as -1h
	Partition *int32 `json:"partition,omitempty"` // this one alone; null: all
	DryRun    bool   `json:"dry_run,omitempty"`   // only tell
}

// Trimmed says what a trim deleted.
type Trimmed struct {
	Records    int64              `json:"records"` // by offsets: a compacted topic holds fewer
	Partitions []TrimmedPartition `json:"partitions"`
}

// TrimmedPartition is one partition's log start, before and after.
type TrimmedPartition struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	Start     int64 `json:"start"`
}

func (s *Server) trimRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/topics/{topic}/trim", does: "delete a topic's oldest records", in: TopicTrim{}, out: Trimmed{}, handle: s.trimTopic},
	}
}

func (s *Server) trimTopic(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpDelete)
	if err != nil {
		return err
	}
	var in TopicTrim
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	place, err := ParsePlace(in.Before, s.o.Now())
	switch {
	case err != nil:
		return badRequest("before: %w", err)
	case in.Before == "":
		return badRequest("before: say an offset, latest, a time, or a duration back such as -1h")
	case t.Policy.Compact && !t.Policy.Delete:
		return fmt.Errorf("trim %s: %w", t.Name, edge.ErrCompacted)
	case in.Partition != nil && (*in.Partition < 0 || int(*in.Partition) >= len(t.Partitions)):
		return notFound("topic %s has no partition %d", t.Name, *in.Partition)
	}
	var trims []edge.Trim
	out := Trimmed{Partitions: []TrimmedPartition{}}
	for _, p := range t.Partitions {
		if in.Partition != nil && p.Index != *in.Partition {
			continue
		}
		start, _, high := p.Offsets()
		to := high
		if !place.Latest {
			if to, err = place.In(p); err != nil {
				return err
			}
		}
		if place.Offset > high {
			if in.Partition != nil {
				return badRequest("before: partition %d of %s ends at offset %d", p.Index, t.Name, high)
			}
			to = high // partitions are of different lengths
		}
		trims = append(trims, edge.Trim{Partition: p.Index, Offset: to})
		out.Partitions = append(out.Partitions, TrimmedPartition{Partition: p.Index, From: start, Start: max(start, to)})
		out.Records += max(to-start, 0)
	}
	if !in.DryRun {
		if err := s.broker.TrimTopic(r.Context(), t.Name, trims); err != nil {
			return err
		}
		s.log.Info("topic trimmed", "topic", t.Name, "before", in.Before, "records", out.Records)
	}
	return answer(w, http.StatusOK, out)
}
