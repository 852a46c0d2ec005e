package http

import "net/http"

// Bridges are the ways from other MQTT brokers.
type (
	Bridges = Links[BridgeFigures]
	Bridge  = Link[BridgeFigures]
)

// BridgeFigures are what metrics show.
type BridgeFigures struct {
	Running                                                          bool
	InFlight                                                         int
	Connects, Lost, Received, Committed, Bytes, Again, Refused, Loop uint64
}

func (s *Server) bridgeRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/bridges", does: "all bridges from other MQTT brokers: state, figures", out: []any{}, handle: listLinks(s, s.o.Bridges)},
		{method: http.MethodPost, path: "/v1/bridges/{bridge}/pause", does: "disconnect, once all that came is stored; the session there stays", handle: pauseLink(s, "bridge", s.o.Bridges)},
		{method: http.MethodPost, path: "/v1/bridges/{bridge}/resume", does: "connect again, now", handle: resumeLink(s, "bridge", s.o.Bridges)},
	}
}

func (s *Server) bridgeMetrics(p *page) {
	for _, b := range all(s.o.Bridges) {
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
