package http

import (
	"maps"
	"slices"
)

// gateMetrics are the connections of all protocols, and why some were not let in.
func (s *Server) gateMetrics(p *page) {
	for _, protocol := range slices.Sorted(maps.Keys(s.o.Gates)) {
		st := s.o.Gates[protocol].Stats()
		label := []string{"protocol", protocol}
		p.gauge("rivulet_connections", float64(st.Connections), label...)
		p.gauge("rivulet_connections_pending", float64(st.Pending), label...)
		p.counter("rivulet_connections_accepted_total", st.Accepted, label...)
		p.counter("rivulet_connections_admitted_total", st.Admitted, label...)
		p.counter("rivulet_connections_delayed_total", st.Waited, label...)
		p.counter("rivulet_connections_held_total", st.Held, label...)
		for _, refused := range []struct {
			reason string
			n      uint64
		}{
			{"limit", st.RefusedAll},
			{"address_limit", st.RefusedAddress},
			{"address_rate", st.RefusedRate},
			{"displaced", st.Displaced},
			{"too_slow", st.TooSlow},
		} {
			p.counter("rivulet_connections_refused_total", refused.n, append(slices.Clip(label), "reason", refused.reason)...)
		}
	}
}
