package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
	"rivulet/storage"
)

// The permission matrix: each route × each resource that it asks about × who asks. A route without a row fails the test.

// matrixRow is one request.
type matrixRow struct {
	route  string // method and path, as in the table of routes
	path   string // to be asked for
	body   string
	kind   string // of the body; default JSON
	open   bool   // to everyone, without a login
	stream bool   // the answer does not end
	// needs are what the user must be allowed, in the order in which the request asks.
	needs []string
	// shows is part of the answer for who may see it; with it the answer is 200 for all.
	shows   string
	prepare func(t *testing.T, b *edge.Broker)
}

func matrixRows() []matrixRow {
	const (
		kafkaJSON = "application/vnd.kafka.json.v2+json"
		record    = `{"records":[{"value":"v"}]}`
	)
	administer := []string{"alter cluster"}
	describe := []string{"describe cluster"}
	group := func(t *testing.T, b *edge.Broker) {
		c := edge.OffsetCommit{Group: "g", Generation: -1, Offsets: []edge.GroupOffset{{Topic: "t"}}}
		if err := b.Groups().CommitOffsets(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
	}
	doomed := func(t *testing.T, b *edge.Broker) {
		if _, err := b.CreateTopic(t.Context(), edge.TopicSpec{Name: "d", Partitions: 1}); err != nil && !errors.Is(err, edge.ErrTopicExists) {
			t.Fatal(err)
		}
	}
	return []matrixRow{
		{route: "GET /healthz", open: true},
		{route: "GET /readyz", open: true},
		{route: "GET /{$}", path: "/", open: true},
		{route: "GET /console.js", open: true},
		{route: "GET /console.css", open: true},
		{route: "GET /favicon.svg", open: true},
		{route: "POST /v1/login", open: true, body: `{"user":"","password":""}`},
		{route: "POST /v1/logout", open: true},
		{route: "GET /v1/session"},
		{route: "GET /openapi.json", open: true},

		{route: "GET /metrics", needs: describe},
		{route: "GET /v1/broker", needs: describe},
		{route: "GET /v1/live", needs: describe, stream: true},
		{route: "GET /v1/backup", needs: administer},
		{route: "POST /v1/reload", needs: administer},
		{route: "GET /v1/users", needs: administer},
		{route: "POST /v1/users", needs: administer, body: `{"name":"zoe"}`},
		{route: "GET /v1/users/{user}", path: "/v1/users/bob", needs: administer},
		{route: "PATCH /v1/users/{user}", path: "/v1/users/nobody", needs: administer, body: `{}`},
		{route: "DELETE /v1/users/{user}", path: "/v1/users/nobody", needs: administer},
		{route: "GET /v1/acls", needs: administer},
		{route: "POST /v1/acls", needs: administer, body: `{"allow":"read","user":"zoe","topic":"z"}`},
		{route: "DELETE /v1/acls/{id}", path: "/v1/acls/000000000000", needs: administer},
		{route: "POST /v1/acl-tests", needs: administer, body: `{"user":"bob","action":"read","kind":"topic","resource":"t"}`},

		{route: "GET /v1/topics", needs: []string{"describe topic t"}, shows: `"name":"t"`},
		{route: "POST /v1/topics", body: `{"name":"new"}`, needs: []string{"create topic new"}},
		{route: "GET /v1/topics/{topic}", path: "/v1/topics/t", needs: []string{"describe topic t"}},
		{route: "GET /v1/topics/{topic}", path: "/v1/topics/absent", needs: []string{"describe topic absent"}},
		{route: "PATCH /v1/topics/{topic}", path: "/v1/topics/t", body: `{"config":{"retention.ms":"-1"}}`, needs: []string{"alter_configs topic t"}},
		{route: "PATCH /v1/topics/{topic}", path: "/v1/topics/t", body: `{"partitions":1}`, needs: []string{"alter topic t"}},
		{
			route: "PATCH /v1/topics/{topic}", path: "/v1/topics/t", body: `{"partitions":1,"config":{"retention.ms":"-1"}}`,
			needs: []string{"alter_configs topic t", "alter topic t"},
		},
		{route: "DELETE /v1/topics/{topic}", path: "/v1/topics/d", needs: []string{"delete topic d"}, prepare: doomed},
		{route: "POST /v1/topics/{topic}/trim", path: "/v1/topics/t/trim", body: `{"before":"0"}`, needs: []string{"delete topic t"}},
		{route: "POST /v1/topics/{topic}/records", path: "/v1/topics/t/records", body: `{"records":[{"value":"v"}]}`, needs: []string{"write topic t"}},
		{route: "GET /v1/topics/{topic}/records", path: "/v1/topics/t/records", needs: []string{"read topic t"}},
		{route: "GET /v1/topics/{topic}/tail", path: "/v1/topics/t/tail", stream: true, needs: []string{"read topic t"}},
		{route: "POST /topics/{topic}", path: "/topics/t", kind: kafkaJSON, body: record, needs: []string{"write topic t"}},
		{route: "POST /topics/{topic}/partitions/{partition}", path: "/topics/t/partitions/0", kind: kafkaJSON, body: record, needs: []string{"write topic t"}},

		{route: "GET /v1/groups", needs: []string{"describe group g"}, shows: `"name":"g"`, prepare: group},
		{route: "GET /v1/groups/{group}", path: "/v1/groups/g", needs: []string{"describe group g"}, prepare: group},
		{
			route: "PUT /v1/groups/{group}/offsets", path: "/v1/groups/g/offsets", body: `{"offsets":[{"topic":"t","partition":0,"offset":0}]}`,
			needs: []string{"read group g", "read topic t"},
		},
		{route: "POST /v1/groups/{group}/reset", path: "/v1/groups/g/reset", body: `{"topic":"t","to":"latest"}`, needs: []string{"read group g", "read topic t"}},
		{route: "DELETE /v1/groups/{group}", path: "/v1/groups/g", needs: []string{"delete group g"}, prepare: group},

		{route: "GET /v1/plugins", needs: []string{"describe plugin p"}},
		{route: "GET /v1/plugins/{plugin}", path: "/v1/plugins/p", needs: []string{"describe plugin p"}},
		{route: "PUT /v1/plugins/{plugin}", path: "/v1/plugins/p", body: "no module", needs: []string{"push plugin p"}},
		{route: "DELETE /v1/plugins/{plugin}", path: "/v1/plugins/p", needs: []string{"push plugin p"}},
		{route: "POST /v1/plugin-tests", body: `{"plugin":"p","topic":"t"}`, needs: []string{"attach plugin p", "read topic t"}},
		{route: "GET /v1/attachments", needs: []string{"describe plugin p"}},
		{
			route: "PUT /v1/attachments", body: `{"plugin":"p","topic":"t","outputs":["o"]}`,
			needs: []string{"attach plugin p", "alter topic t", "write topic o"},
		},
		{route: "DELETE /v1/attachments/{topic}/{plugin}", path: "/v1/attachments/t/p", needs: []string{"attach plugin p", "alter topic t"}},

		{route: "GET /v1/uplinks", needs: []string{"describe sync cloud"}, shows: `"name":"cloud"`},
		{route: "POST /v1/uplinks/{uplink}/pause", path: "/v1/uplinks/cloud/pause", needs: []string{"control sync cloud"}},
		{route: "POST /v1/uplinks/{uplink}/resume", path: "/v1/uplinks/cloud/resume", needs: []string{"control sync cloud"}},
		{route: "GET /v1/sessions", needs: administer},
		{route: "GET /v1/sessions/{client}", path: "/v1/sessions/nobody", needs: administer},
		{route: "DELETE /v1/sessions/{client}", path: "/v1/sessions/nobody", needs: administer},
		{route: "GET /v1/bridges", needs: []string{"describe sync line"}, shows: `"name":"line"`},
		{route: "POST /v1/bridges/{bridge}/pause", path: "/v1/bridges/line/pause", needs: []string{"control sync line"}},
		{route: "POST /v1/bridges/{bridge}/resume", path: "/v1/bridges/line/resume", needs: []string{"control sync line"}},
	}
}

// Lists of which the test's broker has none: all that can be checked is who may ask.
func emptyList(route string) bool {
	return route == "GET /v1/plugins" || route == "GET /v1/attachments"
}

// httpMatrix is a broker with users, over HTTP and HTTPS.
type httpMatrix struct {
	t             *testing.T
	auth          *auth.Authority
	broker        *edge.Broker
	s             *Server
	ca            *authtest.CA
	plain, secure *httptest.Server
	later         atomic.Int64 // how much the authority's clock is ahead
}

func newHTTPMatrix(t *testing.T) *httpMatrix {
	t.Helper()
	m := &httpMatrix{t: t}
	dir := t.TempDir()
	store, err := storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if m.auth, err = auth.New(auth.Options{
		Store: store, Edge: "test", Now: func() time.Time { return time.Now().Add(time.Duration(m.later.Load())) },
	}); err != nil {
		t.Fatal(err)
	}
	m.broker, err = edge.Open(t.Context(), edge.Options{
		Edge: "test", Store: store, Authorize: m.auth, PluginDir: filepath.Join(dir, "plugins"), Topics: []edge.TopicSpec{{Name: "t", Partitions: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ann", "bob", "eve"} {
		if err := m.auth.AddUser(t.Context(), auth.NewUser{Name: name, Password: name}); err != nil {
			t.Fatal(err)
		}
	}
	m.s = New(Options{Broker: m.broker, Auth: m.auth, Uplinks: &fakeUplinks{}, Bridges: &fakeBridges{}, Version: "v0"})
	m.s.SetReady(true)
	if m.ca, err = authtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	m.plain, m.secure = httptest.NewServer(m.s.http.Handler), httptest.NewUnstartedServer(m.s.http.Handler)
	if m.secure.TLS, err = m.ca.Server(); err != nil {
		t.Fatal(err)
	}
	m.secure.StartTLS()
	t.Cleanup(func() {
		if err := m.s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		m.plain.Close()
		m.secure.Close()
		if err := errors.Join(m.broker.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// holds makes rules hold; tokens count, too.
func (m *httpMatrix) holds(anonymous auth.Anonymous, rules ...string) {
	m.t.Helper()
	c := auth.Config{Anonymous: anonymous, JWT: authtest.JWT()}
	for _, text := range rules {
		r, err := auth.ParseRule(text)
		if err != nil {
			m.t.Fatal(err)
		}
		c.Rules = append(c.Rules, r)
	}
	if err := m.auth.Reload(c); err != nil {
		m.t.Fatal(err)
	}
	m.broker.PermissionsChanged()
}

// credentials change a request; certificate is the user of the client's certificate.
type credentials struct {
	set         func(*http.Request)
	certificate string
}

func basic(user string) credentials {
	return credentials{set: func(r *http.Request) { r.SetBasicAuth(user, user) }}
}

func bearer(user string) credentials {
	return credentials{set: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+authtest.Token(user, time.Hour)) }}
}

// send returns the answer's status and the beginning of its body.
func (m *httpMatrix) send(row *matrixRow, c credentials) (int, string) {
	m.t.Helper()
	if row.prepare != nil {
		row.prepare(m.t, m.broker)
	}
	method, path, _ := strings.Cut(row.route, " ")
	if row.path != "" {
		path = row.path
	}
	base, transport := m.plain.URL, &http.Transport{}
	if c.certificate != "" {
		base = m.secure.URL
		var err error
		if transport.TLSClientConfig, err = m.ca.Client(c.certificate); err != nil {
			m.t.Fatal(err)
		}
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(row.body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", row.kind)
	if c.set != nil {
		c.set(req)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	if row.stream && resp.StatusCode < 300 {
		return resp.StatusCode, ""
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		m.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusBadRequest && strings.Contains(string(body), "request body") {
		m.t.Fatalf("%s: the row's body is not what the route takes: %s", row.route, body)
	}
	return resp.StatusCode, string(body)
}

// allowed says whether the answer is one for who may. A refusal must not tell more than that it is one.
func (row *matrixRow) allowed(status int, body string) bool {
	if row.shows != "" {
		return status == http.StatusOK && strings.Contains(body, row.shows)
	}
	return status != http.StatusUnauthorized && status != http.StatusForbidden
}

// wrong lists what a row gets wrong.
func (m *httpMatrix) wrong(row *matrixRow) (faults []string) {
	want := func(who string, c credentials, allowed bool) {
		m.t.Helper()
		status, body := m.send(row, c)
		if row.allowed(status, body) != allowed {
			faults = append(faults, fmt.Sprintf("%s: %d %.200s, want allowed: %v", who, status, body, allowed))
		}
	}
	var rules []string
	for _, n := range row.needs {
		rules = append(rules, "allow "+withUser(n, "ann"))
	}
	free := len(row.needs) == 0 || emptyList(row.route)
	m.holds(auth.AnonymousYes, rules...)
	want("anonymous", credentials{}, free)
	want("wrong user", basic("bob"), free)
	want("wrong user by certificate", credentials{certificate: "bob"}, free)
	want("wrong user by token", bearer("bob"), free)
	want("right user", basic("ann"), true)
	want("right user by certificate", credentials{certificate: "ann"}, true)
	want("right user by token", bearer("ann"), true)
	for i, n := range row.needs {
		if free {
			break
		}
		m.holds(auth.AnonymousNo, "allow all user eve", "deny "+withUser(n, "eve"))
		want("denied "+n, basic("eve"), false)
		m.holds(auth.AnonymousNo, append(append([]string{}, rules[:i]...), rules[i+1:]...)...)
		want("without "+n, basic("ann"), false)
	}
	m.holds(auth.AnonymousNo, "allow all")
	want("who may do everything", basic("eve"), true)
	if status, body := m.send(row, credentials{}); (status == http.StatusUnauthorized) == row.open && row.route != "POST /v1/login" {
		faults = append(faults, fmt.Sprintf("who has not logged in: %d %.200s, want open: %v", status, body, row.open))
	}
	if status, _ := m.send(row, credentials{set: func(r *http.Request) { r.SetBasicAuth("eve", "wrong") }}); status != http.StatusUnauthorized && !row.open {
		faults = append(faults, fmt.Sprintf("a wrong password: %d", status))
	}
	return faults
}

// withUser puts the user into "write topic t".
func withUser(rule, user string) string {
	actions, resource, _ := strings.Cut(rule, " ")
	return actions + " user " + user + " " + resource
}

func TestPermissionMatrix(t *testing.T) {
	m := newHTTPMatrix(t)
	for _, row := range matrixRows() {
		name := row.route
		if row.body != "" {
			name += " " + row.body
		}
		t.Run(name, func(t *testing.T) {
			m.t = t
			if strings.Contains(row.route, "/login") {
				return // its own tests
			}
			for _, fault := range m.wrong(&row) {
				t.Error(fault)
			}
			m.later.Add(int64(2 * time.Second)) // failed logins of this row must not keep the next one waiting
		})
	}
	m.t = t
	for _, route := range m.missing(matrixRows()) {
		t.Errorf("%s has no row in the permission matrix", route)
	}
}

// missing lists routes without a row, and rows without a route.
func (m *httpMatrix) missing(rows []matrixRow) (missing []string) {
	have := map[string]bool{}
	for _, row := range rows {
		have[row.route] = true
	}
	for _, rt := range m.s.table {
		if name := rt.method + " " + rt.path; !have[name] {
			missing = append(missing, name)
		} else {
			have[name] = false
		}
	}
	for name, left := range have {
		if left {
			missing = append(missing, name)
		}
	}
	return missing
}

// TestMatrixNotices: missing rows, holes and false refusals are found.
func TestMatrixNotices(t *testing.T) {
	m := newHTTPMatrix(t)
	if got := m.missing(matrixRows()[1:]); len(got) != 1 || got[0] != "GET /healthz" {
		t.Errorf("a missing row is found as %v", got)
	}
	for name, row := range map[string]matrixRow{
		"a hole":              {route: "GET /v1/session", needs: []string{"read topic t"}},
		"a false refusal":     {route: "GET /v1/broker", needs: []string{"read topic t"}},
		"one check of two":    {route: "GET /v1/topics/{topic}/records", path: "/v1/topics/t/records", needs: []string{"read topic t", "write topic t"}},
		"open, and should be": {route: "GET /healthz"},
	} {
		if len(m.wrong(&row)) == 0 {
			t.Errorf("%s is not noticed", name)
		}
	}
}
