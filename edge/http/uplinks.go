package http

import "net/http"

// Uplinks are the ways to central clusters.
type (
	Uplinks = Links[UplinkFigures]
	Uplink  = Link[UplinkFigures]
)

// UplinkFigures are what metrics and the console show.
type UplinkFigures struct {
	State                               string
	Lag                                 int64
	Txns, Aborted, Records, Bytes, Gaps uint64
	DeadLettered                        uint64
}

func (s *Server) uplinkRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/uplinks", does: "all uplinks: state, lag, figures, positions", out: []any{}, handle: listLinks(s, s.o.Uplinks)},
		{method: http.MethodPost, path: "/v1/uplinks/{uplink}/pause", does: "stop sending after the present transaction", handle: pauseLink(s, "uplink", s.o.Uplinks)},
		{method: http.MethodPost, path: "/v1/uplinks/{uplink}/resume", does: "send again, also after a failure that waits for an operator", handle: resumeLink(s, "uplink", s.o.Uplinks)},
	}
}
