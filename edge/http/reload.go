package http

import (
	"net/http"

	"rivulet/edge"
)

// Reloaded says what reading the configuration again has changed.
type Reloaded struct {
	Changed []string `json:"changed"` // sections that hold now
	Restart []string `json:"restart"` // sections that differ from what is running, until a restart
}

func (s *Server) reloadRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/reload", does: "read the configuration again, as SIGHUP does; a bad one changes nothing", out: Reloaded{}, handle: s.reload},
	}
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) error {
	if err := s.allow(r, edge.OpAdmin, "reload"); err != nil {
		return err
	}
	if s.o.Reload == nil {
		return notFound("this broker was not started with a configuration that could be read again")
	}
	done, err := s.o.Reload(r.Context())
	if err != nil {
		return &requestError{http.StatusUnprocessableEntity, err}
	}
	return answer(w, http.StatusOK, done)
}
