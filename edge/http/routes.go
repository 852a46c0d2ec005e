package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
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
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, &requestError{http.StatusForbidden, errors.New("a page of another origin may not change anything here")})
	}))
	return origins.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		no := refusal{header: w.Header(), status: http.StatusNotFound}
		h.ServeHTTP(&no, r)
		err := fmt.Errorf("%s: there is nothing of that name; /openapi.json has all that is", r.URL.Path)
		if no.status == http.StatusMethodNotAllowed {
			err = fmt.Errorf("%s is not for %s: it takes %s", r.Method, r.URL.Path, w.Header().Get("Allow"))
		}
		s.problem(w, r, &requestError{no.status, err})
	}))
}

// refusal takes a status and headers from the mux; the body is ours.
type refusal struct {
	header http.Header
	status int
}

func (no *refusal) Header() http.Header         { return no.header }
func (no *refusal) WriteHeader(status int)      { no.status = status }
func (no *refusal) Write(p []byte) (int, error) { return len(p), nil }

// wrap counts a route's requests and tells its errors.
func (s *Server) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from := time.Now()
		w, body, end := s.paced(rw, r)
		defer end()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := s.enter(rt, w, r, body); err != nil {
			rt.count.failed.Add(1)
			s.problem(w, r, err)
		}
		rt.count.took(time.Since(from))
	})
}

// enter handles a request when it is known who sends it.
func (s *Server) enter(rt route, w http.ResponseWriter, r *http.Request, body *body) error {
	if nc, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		gate.Admit(nc)
	}
	if !rt.open {
		p, err := s.authenticate(r)
		if err != nil {
			return s.unauthorized(w, r, err)
		}
		r = r.WithContext(context.WithValue(r.Context(), principalKey{}, p))
		if body != nil {
			body.open = false
		}
	}
	if err := rt.asked(r); err != nil {
		return err
	}
	return rt.handle(w, r)
}

// asked refuses a query that the API would ignore in silence, or half of it.
func (rt route) asked(r *http.Request) error {
	if r.URL.RawQuery == "" || !strings.HasPrefix(rt.path, "/v1/") {
		return nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("query: %w", err)
	}
	var names []string
	for _, q := range rt.query {
		names = append(names, q.name)
	}
	for name, list := range values {
		switch {
		case names == nil:
			return badRequest("query: %s %s takes none, and %q is there", rt.method, rt.path, name)
		case !slices.Contains(names, name):
			return badRequest("query: there is no %q here; there are %s", name, strings.Join(names, ", "))
		case len(list) > 1:
			return badRequest("query: %s is there %d times", name, len(list))
		}
	}
	return nil
}

// onlyHead answers a HEAD for something that streams, and would not end.
func onlyHead(w http.ResponseWriter, r *http.Request, contentType string) bool {
	if r.Method != http.MethodHead {
		return false
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return true
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
