package http

import (
	"net/http"

	"rivulet/edge"
)

// Link is the state of one way to another broker: an uplink, or a bridge.
type Link[F any] struct {
	Name    string
	Figures F   // what metrics show
	Status  any // all of it, as JSON
}

// Links is what the API needs of them.
type Links[F any] interface {
	// Status lists them by name.
	Status() []Link[F]
	// Pause and Resume report false when there is none of that name.
	Pause(name string) bool
	Resume(name string) bool
}

// all are the links there are; from may be nil.
func all[F any](from Links[F]) []Link[F] {
	if from == nil {
		return nil
	}
	return from.Status()
}

// shown leaves out what p may not see.
func shown[F any](s *Server, p *edge.Principal, from Links[F]) []any {
	list := []any{}
	for _, l := range all(from) {
		if s.broker.Allow(p, edge.OpSyncDescribe, l.Name) {
			list = append(list, l.Status)
		}
	}
	return list
}

type handler = func(w http.ResponseWriter, r *http.Request) error

func listLinks[F any](s *Server, from Links[F]) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, http.StatusOK, shown(s, principal(r), from))
	}
}

func pauseLink[F any](s *Server, kind string, from Links[F]) handler {
	return s.steer(kind, func(name string) bool { return from != nil && from.Pause(name) })
}

func resumeLink[F any](s *Server, kind string, from Links[F]) handler {
	return s.steer(kind, func(name string) bool { return from != nil && from.Resume(name) })
}

// steer does something with the link that the path names.
func (s *Server) steer(kind string, do func(name string) bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
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
}
