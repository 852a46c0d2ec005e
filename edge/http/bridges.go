package http

import (
	"net/http"

	"rivulet/edge"
)

// Bridges is what the API needs of the bridges from other MQTT brokers.
type Bridges interface {
	// Status lists the bridges by name.
	Status() []Bridge
}

// Bridge is one bridge's state.
type Bridge struct {
	Name    string
	Figures BridgeFigures
	Status  any // all of it, as JSON
}

// BridgeFigures are what metrics show.
type BridgeFigures struct {
	Running                                                          bool
	InFlight                                                         int
	Connects, Lost, Received, Committed, Bytes, Again, Refused, Loop uint64
}

func (s *Server) bridgeRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/bridges", does: "all bridges from other MQTT brokers: state, figures", out: []any{}, handle: s.listBridges},
	}
}

func (s *Server) bridges() []Bridge {
	if s.o.Bridges == nil {
		return nil
	}
	return s.o.Bridges.Status()
}

func (s *Server) listBridges(w http.ResponseWriter, r *http.Request) error {
	list := []any{}
	for _, b := range s.bridges() {
		if s.broker.Allow(principal(r), edge.OpSyncDescribe, b.Name) {
			list = append(list, b.Status)
		}
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) bridgeMetrics(p *page) {
	for _, b := range s.bridges() {
		f := b.Figures
		p.gauge("rivulet_bridge_running", truth(f.Running), "bridge", b.Name)
		p.gauge("rivulet_bridge_in_flight_messages", float64(f.InFlight), "bridge", b.Name)
		p.counter("rivulet_bridge_connects_total", f.Connects, "bridge", b.Name)
		p.counter("rivulet_bridge_connections_lost_total", f.Lost, "bridge", b.Name)
		p.counter("rivulet_bridge_messages_received_total", f.Received, "bridge", b.Name)
		p.counter("rivulet_bridge_messages_committed_total", f.Committed, "bridge", b.Name)
		p.counter("rivulet_bridge_bytes_total", f.Bytes, "bridge", b.Name)
		p.counter("rivulet_bridge_messages_again_total", f.Again, "bridge", b.Name)
		p.counter("rivulet_bridge_messages_refused_total", f.Refused, "bridge", b.Name)
		p.counter("rivulet_bridge_messages_looped_total", f.Loop, "bridge", b.Name)
	}
}
