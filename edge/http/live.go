package http

import (
	"net/http"
	"time"

	"rivulet/edge"
)

// Live is one event of /v1/live: everything that the console shows, once a second.
type Live struct {
	At       time.Time             `json:"at"`
	Edge     string                `json:"edge"`
	Version  string                `json:"version"`
	Started  time.Time             `json:"started"`
	Counters edge.Counters         `json:"counters"`
	Store    Store                 `json:"store"`
	Topics   []LiveTopic           `json:"topics"`
	Plugins  []edge.AttachmentInfo `json:"plugins"`
	Uplinks  []any                 `json:"uplinks"`
	Bridges  []any                 `json:"bridges"`
}

// LiveTopic is a topic without its partitions.
type LiveTopic struct {
	Name        string `json:"name"`
	Internal    bool   `json:"internal,omitempty"`
	Partitions  int    `json:"partitions"`
	Records     int64  `json:"records"`
	RawBytes    int64  `json:"raw_bytes"`
	TailBytes   int64  `json:"tail_bytes"`
	StoredBytes int64  `json:"stored_bytes"`

	Dropped map[string]uint64 `json:"dropped,omitempty"` // as in Topic
}

func (s *Server) liveRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/live", does: "server-sent events: throughput, topics, plugins, uplinks and bridges, once a second", out: Live{}, contentType: "text/event-stream", handle: s.live},
		{
			method: http.MethodGet, path: "/v1/topics/{topic}/tail", does: "server-sent events: records as they are committed; at most 20 in an event, the rest is counted", out: Tail{}, contentType: "text/event-stream",
			query: []query{{"last", "begin with so many records of each partition, default 5"}}, handle: s.tail,
		},
	}
}

func (s *Server) live(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpClusterDescribe, ""); err != nil {
		return err
	}
	if onlyHead(w, r, "text/event-stream") {
		return nil
	}
	e, err := openEvents(w)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for s.valid(r) && s.broker.Allow(principal(r), edge.OpClusterDescribe, "") && e.send(s.snapshot(principal(r))) == nil {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
	return nil
}

// snapshot leaves out what p may not see.
func (s *Server) snapshot(p *edge.Principal) Live {
	l := Live{
		At: s.now().UTC(), Edge: s.broker.Edge(), Version: s.o.Version, Started: s.started.UTC(), Counters: s.broker.Counters(),
		Store: s.storeFigures(), Topics: []LiveTopic{}, Plugins: s.attachments(p), Uplinks: shown(s, p, s.o.Uplinks), Bridges: shown(s, p, s.o.Bridges),
	}
	dropped := s.dropped()
	for _, t := range s.broker.Store().Topics() {
		if !s.broker.Allow(p, edge.OpDescribe, t.Name) {
			continue
		}
		d := describeTopic(t)
		l.Topics = append(l.Topics, LiveTopic{d.Name, d.Internal, len(d.Partitions), d.Records, d.RawBytes, d.TailBytes, d.StoredBytes, dropped[d.Name]})
	}
	return l
}
