package http

import (
	"net/http"

	"rivulet/edge"
)

// Bridges is what the API needs of the bridges from other MQTT brokers.
type Bridges interface {
	// Status lists the bridges by name.
	Status() []Bridge
	// Pause and Resume report false when there is no such bridge.
	Pause(name string) bool
	Resume(name string) bool
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
		{method: http.MethodPost, path: "/v1/bridges/{bridge}/pause", does: "disconnect, once all that came is stored; the session there stays", handle: s.pauseBridge},
		{method: http.MethodPost, path: "/v1/bridges/{bridge}/resume", does: "connect again, now", handle: s.resumeBridge},
	}
}

func (s *Server) bridges() []Bridge {
	if s.o.Bridges == nil {
		return nil
	}
	return s.o.Bridges.Status()
}

func (s *Server) bridgeStatus(p *edge.Principal) []any {
	list := []any{}
	for _, b := range s.bridges() {
		if s.broker.Allow(p, edge.OpSyncDescribe, b.Name) {
			list = append(list, b.Status)
		}
	}
	return list
}

func (s *Server) listBridges(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, s.bridgeStatus(principal(r)))
}

func (s *Server) pauseBridge(w http.ResponseWriter, r *http.Request) error {
	return s.steer(w, r, "bridge", func(name string) bool { return s.o.Bridges != nil && s.o.Bridges.Pause(name) })
}

func (s *Server) resumeBridge(w http.ResponseWriter, r *http.Request) error {
	return s.steer(w, r, "bridge", func(name string) bool { return s.o.Bridges != nil && s.o.Bridges.Resume(name) })
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
