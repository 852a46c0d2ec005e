package http

import (
	"fmt"
	"net/http"

	"rivulet/edge"
)

// allow asks whether the request's sender may do op on a resource.
func (s *Server) allow(r *http.Request, op edge.Op, resource string) error {
	p := principal(r)
	if !s.broker.Allow(p, op, resource) {
		return fmt.Errorf("%s: %w", resource, edge.ErrNotAuthorized)
	}
	return nil
}

func principal(r *http.Request) *edge.Principal { return &edge.Principal{Addr: r.RemoteAddr} }
