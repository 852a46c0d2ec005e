package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/storage"
)

// guarded is a broker on which everybody has to log in: root may do everything, nobody nothing, mon see figures.
func guarded(t *testing.T) (*Server, *httptest.Server) {
	t.Helper()
	dir := t.TempDir()
	store, err := storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{Store: store, Config: auth.Config{Anonymous: auth.AnonymousNo}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "nobody", "mon"} {
		if err := a.AddUser(t.Context(), auth.NewUser{Name: name, Password: name + "-secret"}); err != nil {
			t.Fatal(err)
		}
	}
	var rules []auth.Rule
	for _, text := range []string{"allow all user root", "allow describe user mon cluster", "allow describe user mon topic *"} {
		r, err := auth.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	if err := a.AddRules(t.Context(), rules...); err != nil {
		t.Fatal(err)
	}
	b, err := edge.Open(t.Context(), edge.Options{Edge: "test", Store: store, Authorize: a, PluginDir: filepath.Join(dir, "plugins"), Topics: []edge.TopicSpec{{Name: "t"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Broker: b, Auth: a, Uplinks: &fakeUplinks{}, Version: "v0"})
	s.SetReady(true)
	server := httptest.NewUnstartedServer(s.http.Handler)
	server.Config = s.http
	server.Start()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, server
}

// ask sends a request and returns its answer with the body read.
func ask(t *testing.T, method, url, body string, change func(r *http.Request)) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, ""
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func withPassword(user string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, user+"-secret") }
}

func TestWaysToLogIn(t *testing.T) {
	_, server := guarded(t)
	session := func(change func(*http.Request)) (int, Session) {
		resp, body := ask(t, http.MethodGet, server.URL+"/v1/session", "", change)
		var s Session
		_ = json.Unmarshal([]byte(body), &s)
		return resp.StatusCode, s
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		user   string
	}{
		"nothing":         {nil, 401, ""},
		"basic":           {withPassword("mon"), 200, "mon"},
		"wrong password":  {func(r *http.Request) { r.SetBasicAuth("mon", "x") }, 401, ""},
		"no such user":    {func(r *http.Request) { r.SetBasicAuth("x", "x") }, 401, ""},
		"broken basic":    {func(r *http.Request) { r.Header.Set("Authorization", "Basic !") }, 401, ""},
		"other scheme":    {func(r *http.Request) { r.Header.Set("Authorization", "Digest x") }, 401, ""},
		"bearer, no keys": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, ""},
		"unknown cookie": {func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: cookieName, Value: strings.Repeat("A", cookieLength)})
		}, 401, ""},
	} {
		if status, s := session(c.change); status != c.status || s.User != c.user {
			t.Errorf("%s: %d, %+v", name, status, s)
		}
	}
	// mon sees figures, and no more.
	for path, want := range map[string]int{"/metrics": 200, "/v1/broker": 200, "/v1/topics/t": 200, "/v1/users": 403, "/v1/acls": 403, "/v1/topics/t/records": 403} {
		if resp, body := ask(t, http.MethodGet, server.URL+path, "", withPassword("mon")); resp.StatusCode != want {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// The console's session: a cookie that no script reads and no other site sends, until logout, or the user goes.
func TestConsoleSession(t *testing.T) {
	s, server := guarded(t)
	var mu sync.Mutex
	now := time.Now()
	s.sessions.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	login := func(body string) (*http.Response, *http.Cookie) {
		resp, _ := ask(t, http.MethodPost, server.URL+"/v1/login", body, nil)
		for _, c := range resp.Cookies() {
			if c.Name == cookieName {
				return resp, c
			}
		}
		return resp, nil
	}
	if resp, c := login(`{"user":"mon","password":"x"}`); resp.StatusCode != http.StatusUnauthorized || c != nil {
		t.Fatalf("wrong password: %s", resp.Status)
	}
	resp, c := login(`{"user":"mon","password":"mon-secret"}`)
	if resp.StatusCode != http.StatusOK || c == nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Fatalf("%s, %+v", resp.Status, c)
	}
	with := func(r *http.Request) { r.AddCookie(c) }
	status := func() int {
		resp, _ := ask(t, http.MethodGet, server.URL+"/v1/broker", "", with)
		return resp.StatusCode
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("with the cookie: %d", got)
	}
	// Another site cannot use it.
	resp, _ = ask(t, http.MethodPost, server.URL+"/v1/logout", "", func(r *http.Request) { with(r); r.Header.Set("Sec-Fetch-Site", "cross-site") })
	if resp.StatusCode != http.StatusForbidden || status() != http.StatusOK {
		t.Errorf("cross-site: %s", resp.Status)
	}
	mu.Lock()
	now = now.Add(sessionIdle + time.Minute)
	mu.Unlock()
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("after an idle hour: %d", got)
	}
	_, c = login(`{"user":"mon","password":"mon-secret"}`)
	if resp, _ := ask(t, http.MethodPost, server.URL+"/v1/logout", "", with); resp.StatusCode != http.StatusNoContent || status() != http.StatusUnauthorized {
		t.Errorf("logout: %s", resp.Status)
	}
	_, c = login(`{"user":"mon","password":"mon-secret"}`)
	// A cookie is not enough to change one's own password; the password is.
	change := `{"password":"other"}`
	if resp, _ := ask(t, http.MethodPatch, server.URL+"/v1/users/mon", change, with); resp.StatusCode != http.StatusForbidden {
		t.Errorf("password by cookie: %s", resp.Status)
	}
	if resp, body := ask(t, http.MethodPatch, server.URL+"/v1/users/mon", `{"groups":["ops"]}`, withPassword("mon")); resp.StatusCode != http.StatusForbidden {
		t.Errorf("groups of oneself: %s %s", resp.Status, body)
	}
	if resp, body := ask(t, http.MethodPatch, server.URL+"/v1/users/mon", change, withPassword("mon")); resp.StatusCode != http.StatusOK {
		t.Errorf("own password: %s %s", resp.Status, body)
	}
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("the session outlives the password: %d", got)
	}
	// Who fails often waits, and is told how long.
	for range 30 {
		if resp, _ = login(`{"user":"mon","password":"x"}`); resp.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after thirty failures: %s", resp.Status)
	}
}

// Users and rules as an administrator changes them; nothing that is asked for shows a secret.
func TestUsersAndRules(t *testing.T) {
	_, server := guarded(t)
	do := func(method, path, body string, want int) string {
		t.Helper()
		resp, answer := ask(t, method, server.URL+path, body, withPassword("root"))
		if resp.StatusCode != want {
			t.Errorf("%s %s: %s, want %d: %s", method, path, resp.Status, want, answer)
		}
		return answer
	}
	do("POST", "/v1/users", `{"name":"ann","password":"hunter22","groups":["ops"]}`, 201)
	do("POST", "/v1/users", `{"name":"ann","password":"hunter22"}`, 409)
	do("POST", "/v1/users", `{"name":"a*","password":"x"}`, 400)
	do("GET", "/v1/users/bob", "", 404)
	do("PATCH", "/v1/users/ann", `{"disabled":true}`, 200)
	do("PATCH", "/v1/users/bob", `{"disabled":true}`, 404)
	do("DELETE", "/v1/users/bob", "", 404)
	var acl ACL
	if err := json.Unmarshal([]byte(do("POST", "/v1/acls", `{"allow":"publish,subscribe","user":"@ops","mqtt":"a/{user}/#"}`, 201)), &acl); err != nil || acl.ID == "" || acl.MQTT != "a/{user}/#" {
		t.Errorf("%+v, %v", acl, err)
	}
	do("POST", "/v1/acls", `{"allow":"publish","deny":"read"}`, 400)
	do("POST", "/v1/acls", `{"allow":"publish"}`, 400)
	do("POST", "/v1/acls", `{"allow":"read","topic":"a","group":"b"}`, 400)
	if answer := do("POST", "/v1/acl-tests", `{"user":"eve","groups":["ops"],"action":"subscribe","resource":"a/eve/+"}`, 200); !strings.Contains(answer, `"allowed":true`) || !strings.Contains(answer, acl.ID) {
		t.Error(answer)
	}
	if answer := do("POST", "/v1/acl-tests", `{"user":"eve","action":"read","kind":"topic","resource":"t"}`, 200); !strings.Contains(answer, `"allowed":false`) {
		t.Error(answer)
	}
	do("POST", "/v1/acl-tests", `{"action":"publish","kind":"topic"}`, 400)
	do("DELETE", "/v1/acls/"+acl.ID, "", 204)
	do("DELETE", "/v1/acls/"+acl.ID, "", 404)
	do("POST", "/v1/reload", "", 404)
	for _, path := range []string{"/v1/users", "/v1/acls", "/v1/broker", "/metrics", "/v1/topics", "/v1/session"} {
		answer := do("GET", path, "", 200)
		for _, secret := range []string{"hunter22", "root-secret", "stored_key", "server_key", `"salt"`} {
			if strings.Contains(answer, secret) {
				t.Errorf("%s shows %s", path, secret)
			}
		}
	}
	do("DELETE", "/v1/users/ann", "", 204)
}

// Who comes by the owner's door may do everything, and only there.
func TestOwnersDoor(t *testing.T) {
	s, server := guarded(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeOwner(context.Background(), l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	client := &http.Client{Transport: transport}
	get := func(c *http.Client, url string) (int, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, data
	}
	if status, body := get(client, "http://rivulet/v1/users"); status != http.StatusOK || !bytes.Contains(body, []byte("root")) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := get(client, "http://rivulet/v1/session"); !bytes.Contains(body, []byte(`"owner":true`)) {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(http.DefaultClient, server.URL+"/v1/users"); status != http.StatusUnauthorized {
		t.Errorf("by TCP: %d", status)
	}
	transport.CloseIdleConnections()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A page whose name was made to point at this machine gets nothing from a broker that is open for want of a configuration.
func TestRebinding(t *testing.T) {
	dir := t.TempDir()
	store, err := storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		anonymous auth.Anonymous
		host      string
		want      int
	}{
		{auth.AnonymousUnset, "", 200},
		{auth.AnonymousUnset, "localhost:8080", 200},
		{auth.AnonymousUnset, "rivulet.localhost", 200},
		{auth.AnonymousUnset, "[::1]:8080", 200},
		{auth.AnonymousUnset, "evil.example:8080", 421},
		{auth.AnonymousUnset, "127.0.0.1.evil.example", 421},
		{auth.AnonymousYes, "plant.example", 200},
	} {
		a, err := auth.New(auth.Options{Store: store, Config: auth.Config{Anonymous: c.anonymous}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := edge.Open(t.Context(), edge.Options{Store: store, Authorize: a})
		if err != nil {
			t.Fatal(err)
		}
		s := New(Options{Broker: b, Auth: a})
		server := httptest.NewServer(s.http.Handler)
		resp, body := ask(t, http.MethodGet, server.URL+"/v1/topics", "", func(r *http.Request) {
			if c.host != "" {
				r.Host = c.host
			}
		})
		if resp.StatusCode != c.want {
			t.Errorf("%+v: %s %s", c, resp.Status, body)
		}
		http.DefaultClient.CloseIdleConnections()
		server.Close()
		if err := errors.Join(s.Close(context.Background()), b.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
