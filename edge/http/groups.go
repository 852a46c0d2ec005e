package http

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"rivulet/edge"
)

// Group is a consumer group.
type Group struct {
	Name       string        `json:"name"`
	State      string        `json:"state"`
	Kind       string        `json:"kind,omitempty"`
	Generation int32         `json:"generation"`
	Protocol   string        `json:"protocol,omitempty"`
	Leader     string        `json:"leader,omitempty"`
	Members    []GroupMember `json:"members"`
	Offsets    []GroupOffset `json:"offsets"`
	Lag        int64         `json:"lag"`
}

// GroupMember is one member of a group.
type GroupMember struct {
	ID       string `json:"id"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client"`
	Host     string `json:"host"`
}

// GroupOffset is where a group stands in a partition.
type GroupOffset struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	End       int64     `json:"end"`
	Lag       int64     `json:"lag"`
	Metadata  string    `json:"metadata,omitempty"`
	At        time.Time `json:"at,omitzero"`
}

// GroupListing is one line of the list of groups.
type GroupListing struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Kind  string `json:"kind,omitempty"`
}

// Reset is the body that moves a group in a topic.
type Reset struct {
	Topic string `json:"topic"`
	To    string `json:"to"` // earliest, latest, an offset, an RFC 3339 time, or a duration back such as -1h
}

// Commit is the body that commits offsets for a client that is no member.
type Commit struct {
	Offsets []CommitOffset `json:"offsets"`
}

// CommitOffset is the next offset to read.
type CommitOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func (s *Server) groupRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/groups", does: "all consumer groups", out: []GroupListing{}, handle: s.listGroups},
		{method: http.MethodGet, path: "/v1/groups/{group}", does: "one group, its members and offsets", out: Group{}, handle: s.getGroup},
		{method: http.MethodPut, path: "/v1/groups/{group}/offsets", does: "commit offsets without being a member", in: Commit{}, out: []GroupOffset{}, handle: s.commitOffsets},
		{method: http.MethodPost, path: "/v1/groups/{group}/reset", does: "move a group without members to a place in a topic", in: Reset{}, out: []GroupOffset{}, handle: s.resetGroup},
		{method: http.MethodDelete, path: "/v1/groups/{group}", does: "delete a group without members, and its offsets", handle: s.deleteGroup},
	}
}

func (s *Server) listGroups(w http.ResponseWriter, r *http.Request) error {
	list := []GroupListing{}
	p := principal(r)
	for _, g := range s.broker.Groups().List() {
		if s.broker.Allow(p, edge.OpGroupDescribe, g.Name) {
			list = append(list, GroupListing{g.Name, g.State.String(), g.Kind})
		}
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) getGroup(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("group")
	if err := s.allow(r, edge.OpGroupDescribe, name); err != nil {
		return err
	}
	d, err := s.broker.Groups().Describe(name)
	if err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	offsets, err := s.broker.Groups().Offsets(name)
	if err != nil {
		return err
	}
	p := principal(r)
	offsets = slices.DeleteFunc(offsets, func(o edge.GroupOffset) bool { return !s.broker.Allow(p, edge.OpDescribe, o.Topic) })
	out := Group{
		Name: d.Name, State: d.State.String(), Kind: d.Kind, Generation: d.Generation, Protocol: d.Protocol, Leader: d.Leader,
		Members: []GroupMember{}, Offsets: s.withLag(offsets),
	}
	for _, m := range d.Members {
		out.Members = append(out.Members, GroupMember{m.ID, m.Instance, m.Client, m.Host})
	}
	for _, o := range out.Offsets {
		out.Lag += o.Lag
	}
	return answer(w, http.StatusOK, out)
}

func (s *Server) withLag(offsets []edge.GroupOffset) []GroupOffset {
	list := []GroupOffset{}
	for _, o := range offsets {
		g := GroupOffset{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Metadata: o.Metadata, At: o.At}
		if t, ok := s.broker.Store().Topic(o.Topic); ok && int(o.Partition) < len(t.Partitions) {
			_, g.End, _ = t.Partitions[o.Partition].Offsets()
			g.Lag = max(0, g.End-g.Offset)
		}
		list = append(list, g)
	}
	return list
}

func (s *Server) commitOffsets(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("group")
	if err := s.allow(r, edge.OpGroup, name); err != nil {
		return err
	}
	var in Commit
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	c := edge.OffsetCommit{Group: name, Generation: -1}
	for _, o := range in.Offsets {
		if err := s.allow(r, edge.OpRead, o.Topic); err != nil {
			return err
		}
		if o.Offset < 0 {
			return badRequest("offsets: %s/%d: %d is no offset; want 0 or more", o.Topic, o.Partition, o.Offset)
		}
		c.Offsets = append(c.Offsets, edge.GroupOffset{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, LeaderEpoch: -1})
	}
	if err := s.broker.Groups().CommitOffsets(r.Context(), &c); err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	for i, err := range c.Errs {
		if err != nil {
			return fmt.Errorf("commit %s/%d: %w", c.Offsets[i].Topic, c.Offsets[i].Partition, err)
		}
	}
	return answer(w, http.StatusOK, s.withLag(c.Offsets))
}

func (s *Server) resetGroup(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("group")
	if err := s.allow(r, edge.OpGroup, name); err != nil {
		return err
	}
	var in Reset
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	if err := s.allow(r, edge.OpRead, in.Topic); err != nil {
		return err
	}
	place, err := ParsePlace(in.To, s.now())
	if err != nil {
		return &requestError{http.StatusBadRequest, err}
	}
	offsets, err := s.broker.Groups().Reset(r.Context(), name, in.Topic, edge.ResetTo{
		Latest: place.Latest, Offset: max(place.Offset, 0), Time: place.Time,
	})
	if err != nil {
		return fmt.Errorf("group %s in topic %s: %w", name, in.Topic, err)
	}
	return answer(w, http.StatusOK, s.withLag(offsets))
}

func (s *Server) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("group")
	if err := s.allow(r, edge.OpGroupDelete, name); err != nil {
		return err
	}
	if err := s.broker.Groups().Delete(r.Context(), name); err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
