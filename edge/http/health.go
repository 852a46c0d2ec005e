package http

import (
	"net/http"
)

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status"` // ok, or what is wrong
}

func (s *Server) healthRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/healthz", does: "200 while the process lives and its journal takes records", out: Health{}, open: true, handle: s.healthz},
		{method: http.MethodGet, path: "/readyz", does: "200 when every listener is up, until the end begins", out: Health{}, open: true, handle: s.readyz},
	}
}

// healthz says 503 when only a restart, or an operator, can help.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	if s.broker.Store().Stats().ReadOnly {
		return answer(w, http.StatusServiceUnavailable, Health{readOnlyHint})
	}
	return answer(w, http.StatusOK, Health{"ok"})
}

const readOnlyHint = "the store is read-only after a failed journal sync: check the disk, then restart"

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if !s.ready.Load() {
		return answer(w, http.StatusServiceUnavailable, Health{"starting or stopping"})
	}
	return s.healthz(w, r)
}
