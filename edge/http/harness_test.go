package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rivulet/edge"
	"rivulet/plugins"
	"rivulet/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a broker with its HTTP side, and a client that holds every answer against /openapi.json.
type harness struct {
	t       *testing.T
	s       *Server
	broker  *edge.Broker
	url     string
	uplinks *fakeUplinks
	bridges *fakeBridges
	client  *http.Client
	kind    string // of request bodies
	doc     map[string]any
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	return newHarnessOf(t, storage.Options{})
}

// newHarnessOf is newHarness over a store with options.
func newHarnessOf(t *testing.T, o storage.Options) *harness {
	t.Helper()
	dir := t.TempDir()
	o.Dir, o.JournalBytes = dir, 1<<20
	store, err := storage.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := edge.Open(t.Context(), edge.Options{
		Edge: "test", Store: store, PluginDir: filepath.Join(dir, "plugins"), Plugins: plugins.Options{},
		Routes: []edge.Route{{MQTT: "plant/#", Topic: "plant"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, broker: b, uplinks: &fakeUplinks{}, bridges: &fakeBridges{}, client: &http.Client{Transport: &http.Transport{}}}
	h.s = New(Options{Broker: b, Uplinks: h.uplinks, Bridges: h.bridges, Version: "v0", Addresses: map[string]string{"http": "127.0.0.1:1"}})
	h.s.SetReady(true)
	server := httptest.NewServer(h.s.http.Handler)
	h.url = server.URL
	t.Cleanup(func() {
		if err := h.s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		h.client.CloseIdleConnections()
		server.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	h.do(http.MethodGet, "/openapi.json", nil, http.StatusOK, &h.doc)
	return h
}

// do sends in as JSON, or as it is when it is []byte, wants a status, and decodes into out.
func (h *harness) do(method, path string, in any, status int, out any) {
	h.t.Helper()
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	case string:
		body = strings.NewReader(in)
	default:
		data, err := json.Marshal(in)
		if err != nil {
			h.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", h.kind)
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != status {
		h.t.Fatalf("%s %s: %s, want %d\n%s", method, path, resp.Status, status, data)
	}
	if h.doc != nil {
		h.conforms(method, path, resp, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			h.t.Fatalf("%s %s: %v\n%s", method, path, err, data)
		}
	}
}

// conforms holds an answer against the description of its route.
func (h *harness) conforms(method, path string, resp *http.Response, data []byte) {
	h.t.Helper()
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode >= 300 {
		if kind == "application/problem+json" {
			h.holds("problem", map[string]any{"$ref": "#/components/schemas/Problem"}, decode(h.t, data))
		}
		return
	}
	op := h.operation(method, path)
	if op == nil {
		h.t.Errorf("%s %s is not described", method, path)
		return
	}
	ok := op["responses"].(map[string]any)["2XX"].(map[string]any)
	content, _ := ok["content"].(map[string]any)
	if len(data) == 0 && content == nil {
		return
	}
	media, described := content[strings.Split(kind, ";")[0]].(map[string]any)
	if !described {
		h.t.Errorf("%s %s answers with %q, described are %v", method, path, kind, content)
		return
	}
	if schema, ok := media["schema"].(map[string]any); ok && strings.HasSuffix(kind, "json") {
		h.holds(method+" "+path, schema, decode(h.t, data))
	}
}

func decode(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// operation finds the description of a request.
func (h *harness) operation(method, path string) map[string]any {
	u, err := url.Parse(path)
	if err != nil {
		h.t.Fatal(err)
	}
	have := strings.Split(u.Path, "/")
	for template, item := range h.doc["paths"].(map[string]any) {
		want := strings.Split(template, "/")
		same := len(want) == len(have)
		for i := 0; same && i < len(want); i++ {
			same = want[i] == have[i] || strings.HasPrefix(want[i], "{") && have[i] != ""
		}
		if op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any); ok && same {
			return op
		}
	}
	return nil
}

// holds checks a value against the part of JSON Schema that the description uses; what is not described is an error, too.
func (h *harness) holds(at string, schema map[string]any, v any) {
	h.t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		s, ok := h.doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
		if !ok {
			h.t.Errorf("%s: no schema %s", at, name)
			return
		}
		schema = s
	}
	if choices := list(schema["anyOf"]); choices != nil {
		if v != nil {
			h.holds(at, choices[0].(map[string]any), v)
		}
		return
	}
	fits := true
	switch schema["type"] {
	case "object":
		m, ok := v.(map[string]any)
		if fits = ok; !ok {
			break
		}
		properties, _ := schema["properties"].(map[string]any)
		for _, name := range list(schema["required"]) {
			if _, ok := m[name.(string)]; !ok {
				h.t.Errorf("%s: no %v", at, name)
			}
		}
		for k, x := range m {
			if s, ok := properties[k].(map[string]any); ok {
				h.holds(at+"."+k, s, x)
			} else if s, ok := schema["additionalProperties"].(map[string]any); ok {
				h.holds(at+"."+k, s, x)
			} else if properties != nil {
				h.t.Errorf("%s: %s is not described", at, k)
			}
		}
	case "array":
		l, ok := v.([]any)
		fits = ok
		for i, x := range l {
			h.holds(fmt.Sprintf("%s[%d]", at, i), schema["items"].(map[string]any), x)
		}
	case "string":
		_, fits = v.(string)
	case "boolean":
		_, fits = v.(bool)
	case "number", "integer":
		_, fits = v.(float64)
	}
	if !fits {
		h.t.Errorf("%s is %v, described as %v", at, v, schema["type"])
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

type fakeUplinks struct{ paused, resumed string }

func (f *fakeUplinks) Status() []Uplink {
	return []Uplink{{Name: "cloud", Figures: UplinkFigures{State: "running", Lag: 7}, Status: map[string]any{"name": "cloud", "lag": 7}}}
}

// fakeBridges has the one bridge line.
type fakeBridges struct{ paused, resumed string }

func (f *fakeBridges) Status() []Bridge {
	return []Bridge{{Name: "line", Figures: BridgeFigures{Running: true, Committed: 9}, Status: map[string]any{"name": "line", "committed": 9}}}
}

func (f *fakeBridges) Pause(name string) bool  { f.paused = name; return name == "line" }
func (f *fakeBridges) Resume(name string) bool { f.resumed = name; return name == "line" }

func (f *fakeUplinks) Pause(name string) bool  { f.paused = name; return name == "cloud" }
func (f *fakeUplinks) Resume(name string) bool { f.resumed = name; return name == "cloud" }
