package http

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/http"

	"rivulet/edge"
)

// Topic is one topic.
type Topic struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Internal    bool              `json:"internal,omitempty"`
	Partitions  []Partition       `json:"partitions"`
	Records     int64             `json:"records"`
	RawBytes    int64             `json:"raw_bytes"`         // appended
	TailBytes   int64             `json:"tail_bytes"`        // of raw_bytes, what is not sealed yet
	StoredBytes int64             `json:"stored_bytes"`      // that the sealed rest takes on disk
	Dropped     map[string]uint64 `json:"dropped,omitempty"` // records that went since the start, by reason: time, bytes, budget, deleted
	Config      map[string]string `json:"config"`            // what differs from the defaults
}

// Partition is one partition of a topic.
type Partition struct {
	Partition   int32 `json:"partition"`
	Start       int64 `json:"start"`
	Stable      int64 `json:"stable"`
	High        int64 `json:"high"`
	RawBytes    int64 `json:"raw_bytes"`
	TailBytes   int64 `json:"tail_bytes"`
	StoredBytes int64 `json:"stored_bytes"`
}

// NewTopic is the body that makes a topic.
type NewTopic struct {
	Name       string            `json:"name"`
	Partitions int               `json:"partitions,omitempty"`
	Config     map[string]string `json:"config,omitempty"`
}

// TopicChange is the body that changes a topic. A null value takes a key back to its default.
type TopicChange struct {
	Partitions int                `json:"partitions,omitempty"` // more than there are
	Config     map[string]*string `json:"config,omitempty"`
}

func (s *Server) topicRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/topics", does: "all topics by name", out: []Topic{}, handle: s.listTopics},
		{method: http.MethodPost, path: "/v1/topics", does: "make a topic", in: NewTopic{}, out: Topic{}, handle: s.createTopic},
		{method: http.MethodGet, path: "/v1/topics/{topic}", does: "one topic", out: Topic{}, handle: s.getTopic},
		{method: http.MethodPatch, path: "/v1/topics/{topic}", does: "change a topic's configuration, add partitions", in: TopicChange{}, out: Topic{}, handle: s.alterTopic},
		{method: http.MethodDelete, path: "/v1/topics/{topic}", does: "delete a topic and its records", handle: s.deleteTopic},
	}
}

func describeTopic(t *edge.Topic) Topic {
	out := Topic{Name: t.Name, ID: hex.EncodeToString(t.ID[:]), Internal: edge.Internal(t.Name), Config: t.Config, Partitions: make([]Partition, len(t.Partitions))}
	if out.Config == nil {
		out.Config = map[string]string{}
	}
	for i, p := range t.Partitions {
		d := Partition{Partition: p.Index}
		d.Start, d.Stable, d.High = p.Offsets()
		d.RawBytes, d.StoredBytes = p.Size()
		d.TailBytes = p.Unsealed()
		out.Partitions[i] = d
		out.Records += d.High - d.Start
		out.RawBytes += d.RawBytes
		out.TailBytes += d.TailBytes
		out.StoredBytes += d.StoredBytes
	}
	return out
}

// dropped counts what went of each topic since the start, by reason.
func (s *Server) dropped() map[string]map[string]uint64 {
	out := map[string]map[string]uint64{}
	for _, d := range s.broker.Store().Dropped() {
		if out[d.Topic] == nil {
			out[d.Topic] = map[string]uint64{}
		}
		out[d.Topic][string(d.Reason)] = d.Records
	}
	return out
}

func (s *Server) listTopics(w http.ResponseWriter, r *http.Request) error {
	list, dropped := []Topic{}, s.dropped()
	p := principal(r)
	for _, t := range s.broker.Store().Topics() {
		if s.broker.Allow(p, edge.OpDescribe, t.Name) {
			d := describeTopic(t)
			d.Dropped = dropped[t.Name]
			list = append(list, d)
		}
	}
	return answer(w, http.StatusOK, list)
}

// topic is the one that the path names.
func (s *Server) topic(r *http.Request, op edge.Op) (*edge.Topic, error) {
	name := r.PathValue("topic")
	if err := s.allow(r, op, name); err != nil {
		return nil, err
	}
	t, ok := s.broker.Store().Topic(name)
	if !ok {
		return nil, fmt.Errorf("topic %s: %w", name, edge.ErrNoTopic)
	}
	if edge.Internal(name) && op != edge.OpRead && op != edge.OpDescribe {
		return nil, fmt.Errorf("topic %s: %w", name, edge.ErrInternal)
	}
	return t, nil
}

func (s *Server) getTopic(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpDescribe)
	if err != nil {
		return err
	}
	d := describeTopic(t)
	d.Dropped = s.dropped()[t.Name]
	return answer(w, http.StatusOK, d)
}

func (s *Server) createTopic(w http.ResponseWriter, r *http.Request) error {
	var in NewTopic
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpCreate, in.Name); err != nil {
		return err
	}
	if edge.Internal(in.Name) {
		return fmt.Errorf("topic %s: %w", in.Name, edge.ErrInternal)
	}
	t, err := s.broker.CreateTopic(r.Context(), edge.TopicSpec{Name: in.Name, Partitions: in.Partitions, Config: in.Config})
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, describeTopic(t))
}

func (s *Server) alterTopic(w http.ResponseWriter, r *http.Request) error {
	var in TopicChange
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	op := edge.OpAlter
	if in.Partitions == 0 {
		op = edge.OpAlterConfigs
	} else if len(in.Config) > 0 {
		if err := s.allow(r, edge.OpAlterConfigs, r.PathValue("topic")); err != nil {
			return err
		}
	}
	t, err := s.topic(r, op)
	if err != nil {
		return err
	}
	if n := cmp.Or(in.Partitions, len(t.Partitions)); n != len(t.Partitions) {
		if n < len(t.Partitions) || n > 10000 {
			return badRequest("topic %s has %d partitions; they can only grow, to 10000", t.Name, len(t.Partitions))
		}
		if t, err = s.broker.Store().AddPartitions(r.Context(), t.Name, n); err != nil {
			return err
		}
	}
	if len(in.Config) > 0 {
		if t, err = s.broker.AlterTopic(r.Context(), t.Name, in.Config); err != nil {
			return err
		}
	}
	return answer(w, http.StatusOK, describeTopic(t))
}

func (s *Server) deleteTopic(w http.ResponseWriter, r *http.Request) error {
	t, err := s.topic(r, edge.OpDelete)
	if err != nil {
		return err
	}
	if err := s.broker.Store().DeleteTopic(r.Context(), t.Name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
