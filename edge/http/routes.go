package http

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"rivulet/edge/gate"
)

// route is one resource and method. The mux and /openapi.json are both made of these, so neither can drift from the other.
type route struct {
	method, path string
	does         string // for people, in /openapi.json
	query        []query
	in           any // an example of the request's JSON body; nil: none
	out          any // of the answer's; nil: none
	contentType  string
	open         bool // to everyone, without a login
	handle       func(w http.ResponseWriter, r *http.Request) error
	count        *requests
}

// query is one parameter behind the question mark.
type query struct{ name, does string }

func (s *Server) routes() []route {
	var list []route
	for _, group := range [][]route{
		s.healthRoutes(), s.loginRoutes(), s.userRoutes(), s.aclRoutes(), s.reloadRoutes(), s.brokerRoutes(), s.backupRoutes(), s.topicRoutes(), s.trimRoutes(), s.recordRoutes(), s.groupRoutes(), s.pluginRoutes(), s.uplinkRoutes(), s.bridgeRoutes(), s.mqttRoutes(),
		s.liveRoutes(), s.metricsRoutes(), s.openapiRoutes(), s.consoleRoutes(),
		s.restRoutes(),
	} {
		list = append(list, group...)
	}
	for i := range list {
		list[i].count = &requests{}
	}
	return list
}

// Handler serves all routes, for a listener and for tests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.table {
		mux.Handle(rt.method+" "+rt.path, s.wrap(rt))
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

// wrap counts a route's requests and tells its errors.
func (s *Server) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := time.Now()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := s.enter(rt, w, r); err != nil {
			rt.count.failed.Add(1)
			s.problem(w, r, err)
		}
		rt.count.took(time.Since(from))
	})
}

// openBodyTimeout is for the body of a request that everyone may send.
const openBodyTimeout = 10 * time.Second

// enter handles a request when it is known who sends it.
func (s *Server) enter(rt route, w http.ResponseWriter, r *http.Request) error {
	if nc, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		gate.Admit(nc)
	}
	if rt.open && r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(openBodyTimeout)) // a test's recorder has none
	}
	if !rt.open {
		p, err := s.authenticate(r)
		if err != nil {
			return s.unauthorized(w, r, err)
		}
		r = r.WithContext(context.WithValue(r.Context(), principalKey{}, p))
	}
	return rt.handle(w, r)
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
	return nil
}

// maxBody bounds JSON requests; uploads and records have bounds of their own.
const maxBody = 1 << 20

// read decodes a JSON body and refuses unknown fields: a misspelt one would be ignored in silence.
func read(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("request body: %w", err)
	}
	if d.More() {
		return badRequest("request body: something follows the JSON value")
	}
	return nil
}
