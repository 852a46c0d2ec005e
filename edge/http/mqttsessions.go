package http

import (
	"context"
	"net/http"
	"time"

	"rivulet/edge"
)

// MQTT is what the API needs of the MQTT front end.
type MQTT interface {
	// Sessions lists all sessions by client id, without their subscriptions.
	Sessions() ([]MQTTSession, error)
	// Session describes one; ok is false when there is none.
	Session(client string) (s MQTTSession, ok bool, err error)
	// DeleteSession disconnects its client and forgets it; ok is false when there was none.
	DeleteSession(ctx context.Context, client string) (ok bool, err error)
	// Figures are for metrics.
	Figures() []Figure
}

// Figure is one metric without labels.
type Figure struct {
	Name    string // ends in _total when it is a counter
	Value   float64
	Counter bool
}

// MQTTSession is a session, of a client that is connected or of one that may come back.
type MQTTSession struct {
	Client        string         `json:"client"`
	User          string         `json:"user,omitempty"`
	Connected     bool           `json:"connected"`
	Address       string         `json:"address,omitempty"`
	Version       string         `json:"version,omitempty"`
	ExpirySeconds int64          `json:"expiry_seconds"` // that it outlives its connection; -1: for ever
	Left          *time.Time     `json:"left,omitempty"` // when the client left
	BehindFrames  uint64         `json:"behind_frames"`  // of a client that is away: commits since then
	InFlight      int            `json:"in_flight"`      // of a client that is away: messages sent and not acknowledged
	QueuedBytes   int64          `json:"queued_bytes"`   // that wait to be written
	Subscriptions []Subscription `json:"subscriptions,omitempty"`
}

// Subscription is one of a session's.
type Subscription struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	ID                int    `json:"id,omitempty"`
}

func (s *Server) mqttRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/sessions", does: "MQTT sessions, of connected clients and of those that may come back", out: []MQTTSession{}, handle: s.listSessions},
		{method: http.MethodGet, path: "/v1/sessions/{client}", does: "one MQTT session with its subscriptions", out: MQTTSession{}, handle: s.getSession},
		{method: http.MethodDelete, path: "/v1/sessions/{client}", does: "disconnect the client and forget its session", handle: s.deleteSession},
	}
}

func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpAdmin, ""); err != nil {
		return err
	}
	list := []MQTTSession{}
	if s.o.MQTT != nil {
		found, err := s.o.MQTT.Sessions()
		if err != nil {
			return err
		}
		list = append(list, found...)
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpAdmin, ""); err != nil {
		return err
	}
	client := r.PathValue("client")
	if s.o.MQTT != nil {
		found, ok, err := s.o.MQTT.Session(client)
		if err != nil {
			return err
		}
		if ok {
			return answer(w, http.StatusOK, found)
		}
	}
	return noSession(client)
}

func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpAdmin, ""); err != nil {
		return err
	}
	client := r.PathValue("client")
	if s.o.MQTT != nil {
		ok, err := s.o.MQTT.DeleteSession(r.Context(), client)
		if err != nil {
			return err
		}
		if ok {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	return noSession(client)
}

func noSession(client string) error {
	return notFound("session %s: there is none; see rivulet session list", client)
}

func (s *Server) mqttMetrics(p *page) {
	if s.o.MQTT == nil {
		return
	}
	for _, f := range s.o.MQTT.Figures() {
		if f.Counter {
			p.counter(f.Name, uint64(f.Value))
		} else {
			p.gauge(f.Name, f.Value)
		}
	}
}
