package http

import (
	"net/http"

	"rivulet/edge"
)

// Uplinks is what the API needs of the mirror.
type Uplinks interface {
	// Status lists the uplinks by name.
	Status() []Uplink
	// Pause and Resume report false when there is no such uplink.
	Pause(name string) bool
	Resume(name string) bool
}

// Uplink is one uplink's state.
type Uplink struct {
	Name    string
	Figures UplinkFigures
	Status  any // all of it, as JSON
}

// UplinkFigures are what metrics and the console show.
type UplinkFigures struct {
	State                               string
	Lag                                 int64
	Txns, Aborted, Records, Bytes, Gaps uint64
	DeadLettered                        uint64
}

func (s *Server) uplinkRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/uplinks", does: "all uplinks: state, lag, figures, positions", out: []any{}, handle: s.listUplinks},
		{method: http.MethodPost, path: "/v1/uplinks/{uplink}/pause", does: "stop sending after the present transaction", handle: s.pauseUplink},
		{method: http.MethodPost, path: "/v1/uplinks/{uplink}/resume", does: "send again, also after a failure that waits for an operator", handle: s.resumeUplink},
	}
}

func (s *Server) uplinks() []Uplink {
	if s.o.Uplinks == nil {
		return nil
	}
	return s.o.Uplinks.Status()
}

func (s *Server) uplinkStatus(p *edge.Principal) []any {
	list := []any{}
	for _, u := range s.uplinks() {
		if s.broker.Allow(p, edge.OpSyncDescribe, u.Name) {
			list = append(list, u.Status)
		}
	}
	return list
}

func (s *Server) listUplinks(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, s.uplinkStatus(principal(r)))
}

func (s *Server) pauseUplink(w http.ResponseWriter, r *http.Request) error {
	return s.steer(w, r, "uplink", func(name string) bool { return s.o.Uplinks != nil && s.o.Uplinks.Pause(name) })
}

func (s *Server) resumeUplink(w http.ResponseWriter, r *http.Request) error {
	return s.steer(w, r, "uplink", func(name string) bool { return s.o.Uplinks != nil && s.o.Uplinks.Resume(name) })
}

// steer pauses or resumes an uplink or a bridge.
func (s *Server) steer(w http.ResponseWriter, r *http.Request, kind string, do func(name string) bool) error {
	name := r.PathValue(kind)
	if err := s.allow(r, edge.OpSyncControl, name); err != nil {
		return err
	}
	if !do(name) {
		return notFound("%s %s: there is no such %s in the configuration", kind, name, kind)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
