package http

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rivulet/edge"
	"rivulet/examples/plugins/builtin"
)

// Every documented operation reaches a handler: what the mux does not know answers 404 or 405 in plain text.
func TestDescriptionAndMuxAgree(t *testing.T) {
	h := newHarness(t)
	n := 0
	for path, item := range h.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			n++
			if strings.Contains(path, "/live") || strings.Contains(path, "/tail") {
				continue // they do not end
			}
			url := pathParameter.ReplaceAllString(path, "none")
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), h.url+url, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := h.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusMethodNotAllowed || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") && resp.StatusCode >= 400 {
				t.Errorf("%s %s is described, but answers %s", method, path, resp.Status)
			}
		}
	}
	if n != len(h.s.table) {
		t.Errorf("%d operations are described, the mux has %d", n, len(h.s.table))
	}
}

func TestHealth(t *testing.T) {
	h := newHarness(t)
	h.do("GET", "/healthz", nil, 200, nil)
	h.do("GET", "/readyz", nil, 200, nil)
	h.s.SetReady(false)
	h.do("GET", "/healthz", nil, 200, nil)
	h.do("GET", "/readyz", nil, 503, nil)
}

func TestTopics(t *testing.T) {
	h := newHarness(t)
	var made, got Topic
	h.do("POST", "/v1/topics", NewTopic{Name: "a", Partitions: 2, Config: map[string]string{"retention.ms": "1000"}}, 201, &made)
	h.do("GET", "/v1/topics/a", nil, 200, &got)
	if diff := cmp.Diff(made, got); diff != "" || len(got.Partitions) != 2 || got.Config["retention.ms"] != "1000" {
		t.Error(diff, got)
	}
	h.do("POST", "/v1/topics", NewTopic{Name: "a"}, 409, nil)
	h.do("POST", "/v1/topics", NewTopic{Name: "a/b"}, 400, nil)
	h.do("POST", "/v1/topics", NewTopic{Name: "_rivulet-x"}, 403, nil)
	h.do("POST", "/v1/topics", NewTopic{Name: "b", Config: map[string]string{"retention": "1"}}, 400, nil)
	h.do("POST", "/v1/topics", `{"nam": "b"}`, 400, nil)
	h.do("POST", "/v1/topics", `{"name": "b"} {}`, 400, nil)
	h.do("GET", "/v1/topics/none", nil, 404, nil)

	value := "5"
	got = Topic{}
	h.do("PATCH", "/v1/topics/a", TopicChange{Partitions: 3, Config: map[string]*string{"retention.ms": nil, "retention.bytes": &value}}, 200, &got)
	if diff := cmp.Diff(map[string]string{"retention.bytes": "5"}, got.Config); diff != "" || len(got.Partitions) != 3 {
		t.Error(diff, got)
	}
	h.do("PATCH", "/v1/topics/a", TopicChange{Partitions: 1}, 400, nil)
	var all []Topic
	h.do("GET", "/v1/topics", nil, 200, &all)
	if len(all) != 1 || all[0].Name != "a" {
		t.Error(all)
	}
	h.do("DELETE", "/v1/topics/a", nil, 204, nil)
	h.do("GET", "/v1/topics/a", nil, 404, nil)
}

func (h *harness) topic(name string, partitions int) {
	h.t.Helper()
	h.do("POST", "/v1/topics", NewTopic{Name: name, Partitions: partitions}, 201, nil)
}

func (h *harness) values(topic, query string) (values []string, next string) {
	h.t.Helper()
	var page Records
	h.do("GET", "/v1/topics/"+topic+"/records?"+query, nil, 200, &page)
	for _, r := range page.Records {
		values = append(values, string(r.Value))
	}
	return values, page.Next
}

func TestRecords(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 2)
	zero, one := int32(0), int32(1)
	var stored Stored
	h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{
		{Key: Data("k"), Value: Data("v0"), Partition: &zero, Headers: []Header{{"x", Data("y")}, {"x", Data{0xff}}}, Timestamp: 12345},
		{Value: Data{0xff, 0}, Partition: &one},
		{Value: nil, Partition: &zero},
	}}, 200, &stored)
	if diff := cmp.Diff([]Placed{{0, 0, ""}, {1, 0, ""}, {0, 1, ""}}, stored.Records); diff != "" {
		t.Error(diff)
	}
	var page Records
	h.do("GET", "/v1/topics/a/records", nil, 200, &page)
	want := []Record{
		{Partition: 0, Offset: 0, Timestamp: 12345, Key: Data("k"), Value: Data("v0"), Headers: []Header{{"x", Data("y")}, {"x", Data{0xff}}}},
		{Partition: 0, Offset: 1, Timestamp: page.Records[1].Timestamp},
		{Partition: 1, Offset: 0, Timestamp: page.Records[2].Timestamp, Value: Data{0xff, 0}},
	}
	if diff := cmp.Diff(want, page.Records); diff != "" || page.Next != "0:2,1:1" {
		t.Error(diff, page.Next)
	}

	var many NewRecords
	for i := range 2500 {
		many.Records = append(many.Records, NewRecord{Value: Data(fmt.Sprint(i)), Partition: &one})
	}
	h.do("POST", "/v1/topics/a/records", many, 200, nil)
	var all []string
	next := "0:2,1:1"
	for {
		values, after := h.values("a", "at="+next)
		if len(values) == 0 {
			break
		}
		all, next = append(all, values...), after
	}
	if len(all) != 2500 || all[2499] != "2499" || next != "0:2,1:2501" {
		t.Errorf("%d records, next %s", len(all), next)
	}
	for query, want := range map[string]string{
		"partition=1&from=2499&limit=1": "2498",
		"partition=1&from=latest":       "",
		"partition=0&limit=1":           "v0",
		"from=-1h&partition=1&limit=2":  "\xff\x00 0",
	} {
		if got, _ := h.values("a", query); strings.ToValidUTF8(strings.Join(got, " "), "?") != strings.ToValidUTF8(want, "?") {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"from=yesterday", "at=1", "at=a:b", "partition=2", "limit=-1", "limit=99999", "wait=long"} {
		h.do("GET", "/v1/topics/a/records?"+query, nil, 400, nil)
	}
	two := int32(2)
	h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{{Partition: &two}}}, 400, nil)
	h.do("POST", "/v1/topics/a/records", NewRecords{}, 400, nil)
	h.do("POST", "/v1/topics/a/records", `{"records":[{"value": 5}]}`, 400, nil)
	h.do("POST", "/v1/topics/none/records", NewRecords{}, 404, nil)
}

// A reader that waits is answered by the record it waits for.
func TestRecordsWait(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 3)
	got := make(chan []string)
	go func() {
		values, _ := h.values("a", "from=latest&wait=15s")
		got <- values
	}()
	for {
		h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{{Value: Data("x")}}}, 200, nil)
		select {
		case values := <-got: // it may have begun to wait after the first
			if len(values) == 0 {
				t.Error("it did not wait")
			}
			return
		default:
		}
	}
}

func TestGroups(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 1)
	h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{{Value: Data("0")}, {Value: Data("1")}, {Value: Data("2")}}}, 200, nil)
	h.do("GET", "/v1/groups/g", nil, 404, nil)
	h.do("PUT", "/v1/groups/g/offsets", Commit{[]CommitOffset{{"a", 0, 1}}}, 200, nil)
	h.do("PUT", "/v1/groups/g/offsets", Commit{[]CommitOffset{{"none", 0, 1}}}, 404, nil)
	var g Group
	h.do("GET", "/v1/groups/g", nil, 200, &g)
	if g.State != "Empty" || g.Lag != 2 || len(g.Offsets) != 1 || g.Offsets[0].Offset != 1 || g.Offsets[0].End != 3 {
		t.Errorf("%+v", g)
	}
	var offsets []GroupOffset
	for to, want := range map[string]int64{"latest": 3, "earliest": 0, "2": 2, "99": 3, "-1h": 0} {
		h.do("POST", "/v1/groups/g/reset", Reset{"a", to}, 200, &offsets)
		if len(offsets) != 1 || offsets[0].Offset != want {
			t.Errorf("to %s: %+v", to, offsets)
		}
	}
	h.do("POST", "/v1/groups/g/reset", Reset{"a", "sometime"}, 400, nil)
	h.do("POST", "/v1/groups/g/reset", Reset{"none", "latest"}, 404, nil)
	var all []GroupListing
	h.do("GET", "/v1/groups", nil, 200, &all)
	if diff := cmp.Diff([]GroupListing{{Name: "g", State: "Empty"}}, all); diff != "" {
		t.Error(diff)
	}
	h.do("DELETE", "/v1/groups/g", nil, 204, nil)
	h.do("DELETE", "/v1/groups/g", nil, 404, nil)
}

func TestPlugins(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 1)
	produce := func(values ...string) {
		var in NewRecords
		for _, v := range values {
			in.Records = append(in.Records, NewRecord{Value: Data(v)})
		}
		h.do("POST", "/v1/topics/a/records", in, 200, nil)
	}
	produce(`{"temp":5}`, `{"temp":25}`)
	wasm := builtin.DropCold(20)

	var rep edge.TestReport
	h.do("POST", "/v1/plugin-tests", PluginTest{Plugin: "x", Wasm: wasm, Topic: "a"}, 200, &rep)
	if rep.In != 2 || rep.Out != 1 || rep.Dropped != 1 {
		t.Errorf("%+v", rep)
	}
	var rev edge.Revision
	h.do("PUT", "/v1/plugins/cold?version=1.2", wasm, 200, &rev)
	if rev.Number != 1 || rev.Version != "1.2" {
		t.Errorf("%+v", rev)
	}
	h.do("PUT", "/v1/plugins/bad", []byte("no module"), 422, nil)
	h.do("GET", "/v1/plugins/bad", nil, 404, nil)
	h.do("PUT", "/v1/attachments", edge.AttachSpec{Plugin: "none", Topic: "a"}, 404, nil)
	h.do("PUT", "/v1/attachments", edge.AttachSpec{Plugin: "cold", Topic: "a", OnError: "explode"}, 400, nil)
	h.do("PUT", "/v1/attachments", edge.AttachSpec{Plugin: "cold", Topic: "a"}, 200, nil)
	produce(`{"temp":6}`, `{"temp":26}`)
	if got, _ := h.values("a", ""); strings.Join(got, " ") != `{"temp":5} {"temp":25} {"temp":26}` {
		t.Error(got)
	}
	var info PluginInfo
	h.do("GET", "/v1/plugins/cold", nil, 200, &info)
	if len(info.Attachments) != 1 || info.Attachments[0].Stats.Dropped != 1 {
		t.Errorf("%+v", info)
	}
	h.do("GET", "/v1/attachments", nil, 200, nil)
	// Secrets are not shown, and who sends back what was shown does not lose them.
	var shown edge.AttachSpec
	h.do("PUT", "/v1/attachments", edge.AttachSpec{Plugin: "cold", Topic: "a", Set: map[string]string{"threshold": "1", "api_token": "s3cret"}}, 200, &shown)
	if shown.Set["api_token"] != edge.Mask || shown.Set["threshold"] != "1" {
		t.Errorf("attached %v", shown.Set)
	}
	shown.Set["threshold"] = "2"
	h.do("PUT", "/v1/attachments", shown, 200, nil)
	var infos []edge.AttachmentInfo
	h.do("GET", "/v1/attachments", nil, 200, &infos)
	if len(infos) != 1 || infos[0].Set["api_token"] != edge.Mask {
		t.Errorf("%+v", infos)
	}
	if now := h.broker.Attachments()[0].Set; now["api_token"] != "s3cret" || now["threshold"] != "2" {
		t.Errorf("set to %v", now)
	}
	h.do("GET", "/v1/plugins", nil, 200, nil)
	h.do("DELETE", "/v1/plugins/cold", nil, 409, nil)
	h.do("DELETE", "/v1/attachments/a/cold", nil, 204, nil)
	h.do("DELETE", "/v1/attachments/a/cold", nil, 404, nil)
	h.do("DELETE", "/v1/plugins/cold", nil, 204, nil)
}

func TestUplinks(t *testing.T) {
	h := newHarness(t)
	h.do("GET", "/v1/uplinks", nil, 200, nil)
	h.do("POST", "/v1/uplinks/cloud/pause", nil, 204, nil)
	h.do("POST", "/v1/uplinks/cloud/resume", nil, 204, nil)
	h.do("POST", "/v1/uplinks/none/pause", nil, 404, nil)
	h.do("GET", "/v1/bridges", nil, 200, nil)
	h.do("POST", "/v1/bridges/line/pause", nil, 204, nil)
	h.do("POST", "/v1/bridges/line/resume", nil, 204, nil)
	h.do("POST", "/v1/bridges/none/resume", nil, 404, nil)
	if h.bridges.paused != "line" || h.bridges.resumed != "none" {
		t.Errorf("%+v", h.bridges)
	}
	if h.uplinks.paused != "none" || h.uplinks.resumed != "cloud" {
		t.Errorf("%+v", h.uplinks)
	}
}

func TestBroker(t *testing.T) {
	h := newHarness(t)
	var b Broker
	h.do("GET", "/v1/broker", nil, 200, &b)
	if b.Edge != "test" || !b.Ready || b.Addresses["http"] == "" || b.Generation == "" {
		t.Errorf("%+v", b)
	}
}

// What Prometheus reads: one TYPE a name, every line of it behind that, and numbers.
func TestMetrics(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 1)
	h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{{Value: Data("0")}}}, 200, nil)
	resp, err := h.client.Get(h.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	kinds, name := map[string]string{}, ""
	values := map[string]string{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			var kind string
			name, kind, _ = strings.Cut(rest, " ")
			if kinds[name] != "" {
				t.Errorf("%s begins twice", name)
			}
			kinds[name] = kind
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		metric, _, _ := strings.Cut(line[:i], "{")
		if metric != name && (kinds[name] != "histogram" || !strings.HasPrefix(metric, name+"_")) {
			t.Errorf("%s stands under %s", line, name)
		}
		values[line[:i]] = line[i+1:]
	}
	for metric, want := range map[string]string{
		"rivulet_messages_in_total":                              "1",
		"rivulet_store_records_total":                            "1",
		"rivulet_ready":                                          "1",
		`rivulet_topic_records{topic="a"}`:                       "1",
		`rivulet_uplink_lag_records{uplink="cloud"}`:             "7",
		`rivulet_bridge_messages_committed_total{bridge="line"}`: "9",
		`rivulet_http_request_duration_seconds_count{method="POST",path="/v1/topics/{topic}/records"}`:            "1",
		`rivulet_http_request_duration_seconds_bucket{method="POST",path="/v1/topics/{topic}/records",le="+Inf"}`: "1",
	} {
		if values[metric] != want {
			t.Errorf("%s is %q, want %s", metric, values[metric], want)
		}
	}
	if values["rivulet_store_sync_duration_seconds_count"] == "" {
		t.Error("no histogram of syncs")
	}
}

// event reads the next event of a stream into v.
func event(t *testing.T, lines *bufio.Scanner, v any) {
	t.Helper()
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), v); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the stream ended: ", lines.Err())
}

func (h *harness) stream(ctx context.Context, path string) *bufio.Scanner {
	h.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		h.t.Fatalf("%s answers %s with %s", path, resp.Status, kind)
	}
	return bufio.NewScanner(resp.Body)
}

func TestLive(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 2)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	lines := h.stream(ctx, "/v1/live")
	var first, second Live
	event(t, lines, &first)
	h.do("POST", "/v1/topics/a/records", NewRecords{[]NewRecord{{Value: Data("0")}}}, 200, nil)
	event(t, lines, &second)
	if first.Counters.MessagesIn != 0 || second.Counters.MessagesIn != 1 || second.Topics[0].Records != 1 || len(second.Uplinks) != 1 {
		t.Errorf("%+v\n%+v", first, second)
	}
}

func TestTail(t *testing.T) {
	h := newHarness(t)
	h.topic("a", 1)
	store := func(from, n int) {
		var in NewRecords
		for i := range n {
			in.Records = append(in.Records, NewRecord{Value: Data(fmt.Sprint(from + i))})
		}
		h.do("POST", "/v1/topics/a/records", in, 200, nil)
	}
	store(0, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	lines := h.stream(ctx, "/v1/topics/a/tail?last=3")
	var ev Tail
	event(t, lines, &ev)
	if len(ev.Records) != 3 || string(ev.Records[0].Value) != "7" {
		t.Errorf("%+v", ev)
	}
	store(10, 500)
	event(t, lines, &ev)
	if n := len(ev.Records); n == 0 || n > tailRecords || string(ev.Records[n-1].Value) != "509" || int64(n)+ev.Skipped != 500 {
		t.Errorf("%d records, %d skipped", len(ev.Records), ev.Skipped)
	}
	h.do("GET", "/v1/topics/none/tail", nil, 404, nil)
}

// Streams end with the server, so that they do not keep it.
func TestCloseEndsStreams(t *testing.T) {
	h := newHarness(t)
	lines := h.stream(t.Context(), "/v1/live")
	var ev Live
	event(t, lines, &ev)
	if err := h.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestOtherOrigins(t *testing.T) {
	h := newHarness(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/topics", strings.NewReader(`{"name":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://elsewhere.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := h.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Error(resp.Status)
	}
}

func TestConsole(t *testing.T) {
	h := newHarness(t)
	for path, kind := range map[string]string{"/": "text/html", "/console.js": "text/javascript", "/console.css": "text/css", "/favicon.svg": "image/svg+xml"} {
		resp, err := h.client.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || len(body) == 0 {
			t.Errorf("%s: %s %s, %v", path, resp.Status, resp.Header.Get("Content-Type"), err)
		}
		if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s has no policy", path)
		}
		for _, bad := range []string{"innerHTML", "https://", "eval("} {
			if strings.Contains(string(body), bad) {
				t.Errorf("%s holds %s", path, bad)
			}
		}
	}
	h.do("GET", "/console.mjs", nil, 404, nil)
}

func TestDataInJSON(t *testing.T) {
	for _, d := range []Data{nil, {}, Data("text"), Data("ünï"), {0xff}, {0}} {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Data
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if string(back) != string(d) || (back == nil) != (d == nil) {
			t.Errorf("%#v as %s is %#v", d, text, back)
		}
	}
}
