package http

import (
	"net/http"
)

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status"`           // ok, or what is wrong
	Writes string `json:"writes,omitempty"` // why records are refused
}

func (s *Server) healthRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/healthz", does: "200 while the process lives and its journal takes records", out: Health{}, open: true, handle: s.healthz},
		{
			method: http.MethodGet, path: "/readyz", does: "200 when every listener is up, until the end begins",
			query: []query{{"check", "writes: 503 also while the store is full and refuses records, which can still be read and trimmed"}},
			out:   Health{}, open: true, handle: s.readyz,
		},
	}
}

// healthz says 503 when only a restart, or an operator, can help.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	if s.broker.Store().Stats().ReadOnly {
		return answer(w, http.StatusServiceUnavailable, Health{Status: readOnlyHint})
	}
	return answer(w, http.StatusOK, Health{Status: "ok"})
}

const readOnlyHint = "the store is read-only after a failed journal sync: check the disk, then restart"

// readyz stays 200 while a full store refuses records: whoever is asked not to send anybody here could neither read them nor make
// room. The answer says so, and who asks for writes is told by the status.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if !s.ready.Load() {
		return answer(w, http.StatusServiceUnavailable, Health{Status: "starting or stopping"})
	}
	check := r.URL.Query().Get("check")
	if check != "" && check != "writes" {
		return badRequest("check is %q: writes is the only one", check)
	}
	st := s.broker.Store().Stats()
	if !st.Full || st.ReadOnly {
		return s.healthz(w, r)
	}
	health, status := Health{Status: "ok", Writes: "refused: " + st.FullReason}, http.StatusOK
	if check == "writes" {
		health.Status, status = "records are refused", http.StatusServiceUnavailable
	}
	return answer(w, status, health)
}
