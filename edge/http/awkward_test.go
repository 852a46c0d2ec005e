package http

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// What a client writes that is no request gets an answer that says what is wrong, and stores nothing.
func TestAwkwardRequests(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 2)
	const rest = "application/vnd.kafka.json.v2+json"
	for _, c := range []struct {
		method, path, body, kind string
		status                   int
		says                     string
	}{
		{"GET", "/v1/nope", "", "", 404, "there is nothing of that name"},
		{"PUT", "/v1/topics", "{}", "", 405, "it takes GET, HEAD, POST"},
		{"OPTIONS", "/v1/topics", "", "", 405, "it takes GET, HEAD, POST"},
		{"GET", "/v1/topics/t/records?form=latest", "", "", 400, `no \"form\" here; there are from, at`},
		{"GET", "/v1/topics/t/records?limit=1&limit=2", "", "", 400, "limit is there 2 times"},
		{"GET", "/v1/topics/t/records?from=%zz", "", "", 400, "query: invalid URL escape"},
		{"GET", "/v1/topics/t/records?from=latest;limit=1", "", "", 400, "query: invalid semicolon"},
		{"GET", "/v1/topics?limit=1", "", "", 400, "takes none"},
		{"GET", "/v1/topics/t/records?limit=-1", "", "", 400, "from 0 to 10000"},
		{"GET", "/v1/topics/t/records?partition=2", "", "", 400, "from 0 to 1"},
		{"GET", "/v1/topics/t/records?at=0:-1", "", "", 400, "PARTITION:OFFSET"},
		{"GET", "/v1/topics/t/records?wait=-5s", "", "", 400, "want a duration"},
		{"POST", "/v1/topics", "", "", 400, "it is empty"},
		{"POST", "/v1/topics", `{"name":`, "", 400, "it ends too early"},
		{"POST", "/v1/topics", `[]`, "", 400, "want an object, not array"},
		{"POST", "/v1/topics", `{"name":"x","partitions":"3"}`, "", 400, "partitions: want a whole number (int), not string"},
		{"POST", "/v1/topics", `{"name":"x"} {}`, "", 400, "something follows"},
		{"POST", "/v1/topics", `{"name":"x"} ]`, "", 400, "something follows"},
		{"POST", "/v1/topics", "{\"name\":\"\xff\"}", "", 400, "not UTF-8"},
		{"POST", "/v1/topics/t/records", "{\"records\":[{\"value\":\"a\"},{\"value\":\"\xe2\x82\"}]}", "", 400, "not UTF-8"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a"},{"value":"\ud800"}]}`, "", 400, "record 1: request body: a string holds half of a surrogate pair"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a"},{"value":5}]}`, "", 400, "record 1"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a","timestamp":-5}]}`, "", 400, "record 0: timestamp -5"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a","partition":-1}]}`, "", 400, "no partition -1"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a","valeu":"b"}]}`, "", 400, `unknown field \"valeu\"`},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a","headers":[{"kye":"b"}]}]}`, "", 400, `unknown field \"kye\"`},
		{"POST", "/v1/topics/t/records", `{"record":[{"value":"a"}]}`, "", 400, `unknown field \"record\"`},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a"}],"records":[]}`, "", 400, "records is there twice"},
		{"POST", "/v1/topics/t/records", `{"records":{"value":"a"}}`, "", 400, "records: want an array"},
		{"POST", "/v1/topics/t/records", `{"records":null}`, "", 400, "no records"},
		{"POST", "/v1/topics/t/records", `null`, "", 400, "want an object"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"a"}]`, "", 400, "ends too early"},
		{"POST", "/v1/topics/t/records", `{"records":[` + strings.Repeat(`{},`, maxRecordCount) + `{}]}`, "", 413, "more than 100000 records"},
		{"POST", "/v1/topics/t/records", `{"records":[{"headers":[` + strings.Repeat(`{},`, maxHeaders) + `{}]}]}`, "", 400, "headers: more than 1000"},
		{"POST", "/v1/topics/t/records", `{"records":[{"value":"` + strings.Repeat("x", maxRecords) + `"}]}`, "", 413, "too large"},
		{"POST", "/topics/t", `{"records":[{"value":1}]} more`, rest, 400, "something follows"},
		{"POST", "/topics/t", `{"records":[` + strings.Repeat(`{},`, maxRecordCount) + `{}]}`, rest, 413, "more than 100000 records"},
		{"PUT", "/v1/groups/g/offsets", `{"offsets":[{"topic":"t","partition":0,"offset":-5}]}`, "", 400, "t/0: -5 is no offset"},
		{"PUT", "/v1/groups/g/offsets", `{"offsets":[{"topic":"t","partition":-1,"offset":5}]}`, "", 404, "t/-1"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, h.url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		resp, err := h.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := "application/problem+json"
		if c.kind != "" {
			want = restAnswer
		}
		if kind := resp.Header.Get("Content-Type"); err != nil || resp.StatusCode != c.status || kind != want || !strings.Contains(string(data), c.says) {
			t.Errorf("%s %s %.80s: %s %s %.300s %v; want %d and %s", c.method, c.path, c.body, resp.Status, kind, data, err, c.status, c.says)
		}
	}
	if values, _ := h.values("t", ""); len(values) != 0 {
		t.Errorf("stored: %q", values)
	}
	if n := h.s.bodies.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are still counted", n)
	}
	// What only looks like one of these is taken.
	h.do("POST", "/v1/topics/t/records", `{"records":[{"value":"\ufffd"},{"value":"�"},{"value":"\ud83d\ude00"},{"headers":null,"value":"x"}]} `, 200, nil)
	if values, _ := h.values("t", ""); strings.Join(values, " ") != "� � 😀 x" {
		t.Errorf("%q", values)
	}
}

// A client that has closed its side, or seems to be gone, is not told 200 for what was refused.
func TestGoneClientIsNotToldSuccess(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for path, kind := range map[string]string{"/v1/topics/none/records": "", "/topics/none": restJSON} {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(`{"records":[{"value":"a"}]}`))
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		h.s.http.Handler.ServeHTTP(w, r)
		if w.Code < 400 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if status := statusOf(fmt.Errorf("store: %w", context.Canceled)); status != http.StatusServiceUnavailable {
		t.Error(status)
	}
}

// dial opens a connection, and writes to it what is no whole request.
func dial(t *testing.T, url, request string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	return nc
}

// A body that does not come is not waited for, whoever is to send it.
func TestBodiesThatStop(t *testing.T) {
	s, server := guarded(t)
	s.patience = patience{open: 100 * time.Millisecond, body: 100 * time.Millisecond, answer: time.Minute}
	root := "Authorization: Basic cm9vdDpyb290LXNlY3JldA==\n"
	for name, c := range map[string]struct{ request, says string }{
		"logged in":        {"POST /v1/topics HTTP/1.1\nHost: x\n" + root + "Content-Length: 100\n\n{", "408"},
		"chunked":          {"POST /v1/topics HTTP/1.1\nHost: x\n" + root + "Transfer-Encoding: chunked\n\n1\n{\n", "408"},
		"nobody reads it":  {"DELETE /v1/topics/none HTTP/1.1\nHost: x\n" + root + "Content-Length: 100\n\n{", "404"},
		"upload":           {"PUT /v1/plugins/p HTTP/1.1\nHost: x\n" + root + "Content-Length: 100\n\n{", "408"},
		"wrong password":   {"POST /v1/topics HTTP/1.1\nHost: x\nAuthorization: Basic eDp5\nContent-Length: 100\n\n{", "401"},
		"login":            {"POST /v1/login HTTP/1.1\nHost: x\nContent-Length: 100\n\n{", "408"},
		"nothing of it":    {"POST /v1/logout HTTP/1.1\nHost: x\nContent-Length: 100\n\n", "204"},
		"it is continued?": {"POST /v1/topics HTTP/1.1\nHost: x\n" + root + "Expect: 100-continue\nContent-Length: 100\n\n", "100"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := io.ReadAll(dial(t, server.URL, c.request))
			if err != nil && len(data) == 0 || !strings.HasPrefix(string(data), "HTTP/1.1 "+c.says) {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
}

// A body that comes slowly, but comes, is read; and the time that its records then take is no business of that.
func TestBodiesThatComeSlowly(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 1)
	h.s.patience = patience{open: time.Minute, body: time.Minute, answer: time.Minute}
	r, w := io.Pipe()
	go func() {
		for _, c := range `{"records":[{"value":"slow"}]}` {
			_, _ = io.WriteString(w, string(c))
		}
		_ = w.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/topics/t/records", r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// All bodies together have a bound, and who comes too late is told so.
func TestBodiesAreBounded(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 1)
	h.s.bodies.Add(maxBodies)
	h.do("POST", "/v1/topics/t/records", `{"records":[{"value":"a"}]}`, 503, nil)
	h.do("PUT", "/v1/plugins/p", []byte("\x00asm"), 503, nil)
	h.s.bodies.Add(-maxBodies)
	h.do("POST", "/v1/topics/t/records", `{"records":[{"value":"a"}]}`, 200, nil)
}

// A client that does not read its answer is given up.
func TestAnswersThatNobodyReads(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 1)
	big := strings.Repeat("x", 900<<10)
	for range 4 {
		h.do("POST", "/v1/topics/t/records", NewRecords{Records: []NewRecord{{Value: Data(big)}}}, 200, nil)
	}
	h.s.patience = patience{open: time.Minute, body: time.Minute, answer: 100 * time.Millisecond}
	const request = "GET /v1/topics/t/records HTTP/1.1\nHost: localhost\n\n"
	dial(t, h.url, strings.Repeat(request, 10)) // more than sockets hold
	deadline := time.After(2 * time.Minute)
	for n := 0; h.s.active.Load() > 0 || n == 0; n++ {
		select {
		case <-h.s.left: // one has ended; the last one by itself
		case <-deadline:
			t.Fatal("the answer is still being written")
		}
	}
}

// HEAD of a stream ends, and the connection is good for the next request.
func TestHeadOfStreams(t *testing.T) {
	h := newHarness(t)
	h.topic("t", 1)
	for _, path := range []string{"/v1/live", "/v1/topics/t/tail", "/v1/backup"} {
		nc := dial(t, h.url, "HEAD "+path+" HTTP/1.1\nHost: localhost\n\nGET /healthz HTTP/1.1\nHost: localhost\n\n")
		in := bufio.NewReader(nc)
		for _, method := range []string{"HEAD", "GET"} {
			resp, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				t.Fatal(path, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Error(path, method, resp.Status)
			}
		}
		_ = nc.Close()
	}
}

// flaky is a response whose writes a test can look at.
type flaky struct {
	*httptest.ResponseRecorder
	writes atomic.Int64
	then   func()
}

func (f *flaky) Write(p []byte) (int, error) {
	n, err := f.ResponseRecorder.Write(p)
	if f.writes.Add(1) == 1 {
		f.then()
	}
	return n, err
}

func (f *flaky) Flush() {}

// A stream ends when what it shows may not be seen any more, and not only when the login ends.
func TestStreamsAskAgain(t *testing.T) {
	s, server := guarded(t)
	a := s.o.Auth
	revoke := func() {
		if _, err := a.DeleteRules(context.Background(), func(auth.Rule) bool { return true }); err != nil {
			t.Error(err)
		}
	}
	grant := func() {
		rule, err := auth.ParseRule("allow all user root")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.AddRules(t.Context(), rule); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("live", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/live", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("mon", "mon-secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		lines.Scan()
		revoke()
		for lines.Scan() { // until the test's own time is over, if the stream does not end
		}
	})
	grant()
	t.Run("wait", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/topics/t/records?from=latest&wait=30s", nil)
		r.SetBasicAuth("root", "root-secret")
		tp, _ := s.broker.Store().Topic("t")
		waits := make(chan struct{})
		go func() {
			defer close(waits)
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}()
		for s.active.Load() == 0 { // it came, and had its permission checked with the login that it came with
			select {
			case <-waits:
			case <-time.After(time.Millisecond):
			}
		}
		revoke()
		in := edge.Ingest{Items: []edge.Item{{Topic: tp, Record: batch.Record{Payload: batch.AppendPayload(nil, nil, []byte("secret"), nil)}}}, Done: func(*edge.Ingest) {}}
		if err := s.broker.Ingest(t.Context(), &in); err != nil {
			t.Error(err)
		}
		<-waits
	})
	grant()
	t.Run("backup", func(t *testing.T) {
		tp, _ := s.broker.Store().Topic("t")
		rng := rand.New(rand.NewPCG(1, 1))
		noise := make([]byte, 256<<10)
		for range 16 {
			for i := range noise {
				noise[i] = byte(rng.Uint32())
			}
			if err := s.broker.Store().Do(t.Context(), &storage.Commit{Appends: []storage.Append{{
				Partition: tp.Partitions[0], Records: []batch.Record{{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, noise, nil)}},
			}}}); err != nil {
				t.Fatal(err)
			}
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/backup", nil)
		r.SetBasicAuth("root", "root-secret")
		w := &flaky{ResponseRecorder: httptest.NewRecorder(), then: revoke}
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
					t.Error("the client believes that it has all")
				}
			}()
			s.http.Handler.ServeHTTP(w, r)
		}()
		if _, err := storage.VerifyBackup(w.Body, nil); err == nil {
			t.Error("it has all")
		}
	})
}

// A forced end waits for the handlers: the store is closed behind it.
func TestForcedCloseWaitsForHandlers(t *testing.T) {
	s := New(Options{})
	entered := make(chan struct{})
	var left atomic.Bool
	s.http.Handler = s.wrap(route{open: true, count: &requests{}, handle: func(_ http.ResponseWriter, r *http.Request) error {
		close(entered)
		<-r.Context().Done() // its connection was cut
		left.Store(true)
		return nil
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	dial(t, "http://"+l.Addr().String(), "GET / HTTP/1.1\nHost: x\n\n")
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); err == nil {
		t.Error("it was in time")
	}
	if !left.Load() {
		t.Error("a handler still runs")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("a€😀\xff"), 1)
	f.Add([]byte("\xe2\x82"), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		_, err := io.ReadAll(&text{r: &slow{b, n}})
		_, whole := io.ReadAll(&text{r: strings.NewReader(string(b))})
		if valid := strings.ToValidUTF8(string(b), "") == string(b); (err == nil) != valid || (whole == nil) != valid {
			t.Fatalf("%q in pieces of %d: %v, %v", b, n, err, whole)
		}
	})
}

// slow brings its bytes in pieces.
type slow struct {
	b []byte
	n int
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b[:min(s.n, len(s.b))])
	s.b = s.b[n:]
	return n, nil
}

// What is decoded one record at a time is what encoding/json makes of the whole.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"records":[{"key":"k","value":{"base64":"/w=="},"headers":[{"key":"h","value":null}],"partition":1,"timestamp":5}]}`))
	f.Add([]byte(`{"records":[]} `))
	f.Add([]byte(`{"records":null,"records":[{"value":null}]}`))
	f.Add([]byte(`{"records":[{"value":"\ud800"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(b))
		got, err := readRecords[NewRecord](httptest.NewRecorder(), r, true)
		if err != nil {
			if status := statusOf(err); status < 400 || status >= 500 {
				t.Errorf("%q: %d %v", b, status, err)
			}
			return
		}
		var want NewRecords
		if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want.Records) && len(got)+len(want.Records) > 0 {
			t.Errorf("%q is %v, want %v, %v", b, got, want.Records, err)
		}
	})
}
