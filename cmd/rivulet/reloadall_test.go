package main

import (
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/edge"
	"rivulet/examples/plugins/builtin"
	"rivulet/sync/mirror"
)

// runs is what runs of a broker, as far as a reload may change it.
type runs struct {
	Topics      map[string]map[string]string
	Partitions  map[string]int
	Attachments []edge.AttachSpec
	Target      string // of a/b
	Mirrored    string // of cold, hot
	Uplinks     []*mirror.Uplink
	Bridges     []string
}

func (s *server) runs(t *testing.T) (r runs) {
	t.Helper()
	r.Topics, r.Partitions = map[string]map[string]string{}, map[string]int{}
	for _, topic := range s.store.Topics() {
		if !edge.Internal(topic.Name) {
			r.Topics[topic.Name], r.Partitions[topic.Name] = topic.Config, len(topic.Partitions)
		}
	}
	for _, a := range s.broker.Attachments() {
		r.Attachments = append(r.Attachments, a.AttachSpec)
	}
	target, err := s.broker.Target(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	r.Target = target.Topic.Name
	r.Mirrored = fmt.Sprint(s.mirrored("cold"), s.mirrored("hot"))
	r.Uplinks = s.uplinks.all()
	for _, b := range s.bridges.all() {
		r.Bridges = append(r.Bridges, b.Status().Name)
	}
	return r
}

// Topics, routes, plugins, limits, uplinks and bridges change while a client stays; a bad file, wherever it is at fault, changes nothing.
func TestReloadEverything(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "half.wasm", builtin.DropHalf())
	writeFile(t, dir, "all.wasm", builtin.Identity())
	writeFile(t, dir, "broken.wasm", []byte("\x00asm\x01\x00\x00\x00\x01"))
	const before = `edge: gw
topics:
  - {name: cold, partitions: 2}
  - {name: hot}
routes:
  - {mqtt: "a/#", topic: cold}
plugins:
  - {name: p, file: all.wasm, topic: cold}
sync:
  - {name: stays, kafka: {brokers: ["127.0.0.1:1"]}, up: [{topic: nothing}]}
  - {name: leaves, kafka: {brokers: ["127.0.0.1:1"]}, up: [{topic: cold}]}
bridges:
  - {name: line, broker: "tcp://127.0.0.1:1", subscribe: ["x/#"]}
`
	s, rewrite := configured(t, dir, before, io.Discard)
	lost := make(chan error, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetAutoReconnect(false).SetConnectTimeout(time.Minute).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	publish := func() {
		t.Helper()
		if err := await(t.Context(), c.Publish("a/b", 1, false, "x")); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	was := s.runs(t)
	if was.Mirrored != "true false" || was.Target != "cold" || len(was.Uplinks) != 2 {
		t.Fatalf("at start %+v", was)
	}

	for name, c := range map[string]struct{ old, now, says string }{
		"fewer partitions":   {"partitions: 2", "partitions: 1", `r.yaml:3:5: topics[0]: invalid topic configuration: it has 2 partitions, which cannot shrink to 1`},
		"topic's config":     {"{name: hot}", "{name: hot, config: {retention.ms: soon}}", "r.yaml:4:"},
		"topic's name":       {"{name: hot}", "{name: h t}", "r.yaml:4:"},
		"route":              {"topic: cold}\nplugins", "topic: \"{2}\"}\nplugins", "r.yaml:6:5: routes[0]"},
		"no plugin":          {"all.wasm", "none.wasm", "r.yaml:8:21: plugins[0].file"},
		"broken plugin":      {"all.wasm", "broken.wasm", "r.yaml:8:5: plugins[0]"},
		"plugin's output":    {"topic: cold}\nsync", "topic: cold, output: [_rivulet-x]}\nsync", "r.yaml:8:"},
		"uplink's authority": {"{topic: cold}]}", "{topic: cold}]}\n  - {name: third, kafka: {brokers: [\"x:1\"], tls: {ca: none.pem}}, up: [{topic: hot}]}", "r.yaml:12:5: sync[2]"},
		"uplink's password": {
			"{topic: cold}]}", "{topic: cold}]}\n  - {name: third, kafka: {brokers: [\"x:1\"], sasl: {mechanism: PLAIN, user: u, password_file: none}}, up: [{topic: hot}]}",
			"r.yaml:12:5: sync[2]",
		},
		"bridge's authority": {`subscribe: ["x/#"]`, `subscribe: ["x/#"], tls: {ca: none.pem}`, "r.yaml:13:5: bridges[0]"},
		"limit":              {"routes:", "limits: {connections: -1}\nroutes:", "r.yaml:5:"},
	} {
		text := strings.Replace(before, c.old, c.now, 1)
		// All that could change besides does not.
		text = strings.Replace(text, "- {name: leaves", "- {name: left", 1)
		if text = strings.Replace(text, "- {name: line,", "- {name: lines,", 1); c.old == "partitions: 2" {
			text += "auth: {iterations: 8192}\n"
		}
		rewrite(text)
		if _, err := s.reload(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasSuffix(err.Error(), "; nothing was changed") {
			t.Errorf("%s: %v", name, err)
		}
		if now := s.runs(t); !reflect.DeepEqual(now, was) {
			t.Errorf("%s: %+v, was %+v", name, now, was)
		}
	}

	rewrite(`edge: gw
topics:
  - {name: cold, partitions: 3, config: {retention.ms: 60000}}
  - {name: hot, priority: 7}
routes:
  - {mqtt: "a/#", topic: hot}
plugins:
  - {name: p, file: half.wasm, topic: hot, on_error: drop}
sync:
  - {name: stays, kafka: {brokers: ["127.0.0.1:1"]}, up: [{topic: nothing}]}
  - {name: new, kafka: {brokers: ["127.0.0.1:1"]}, up: [{topic: hot}]}
bridges:
  - {name: line, broker: "tcp://127.0.0.1:1", subscribe: ["y/#"]}
limits: {connections_per_address: 1, login_timeout: 1m}
log: {level: debug}
mqtt: {max_packet: 2MiB}
storage: {linger: 5ms}
`)
	out, err := s.reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(out.Changed, " "); got != "topics plugins routes auth limits mqtt sync bridges log" {
		t.Errorf("changed %s", got)
	}
	if got := strings.Join(out.Restart, " "); got != "limits.login_timeout storage" {
		t.Errorf("needs a restart: %s", got)
	}
	now := s.runs(t)
	if now.Target != "hot" || now.Mirrored != "false true" || now.Partitions["cold"] != 3 || now.Topics["cold"]["retention.ms"] != "60000" ||
		now.Topics["hot"]["rivulet.priority"] != "7" || !reflect.DeepEqual(now.Bridges, []string{"line"}) {
		t.Errorf("now %+v", now)
	}
	if len(now.Attachments) != 1 || now.Attachments[0].Topic != "hot" || now.Attachments[0].OnError != "drop" {
		t.Errorf("attached %+v", now.Attachments)
	}
	if len(now.Uplinks) != 2 || now.Uplinks[0] != was.Uplinks[0] || now.Uplinks[1].Status().Name != "new" {
		t.Errorf("uplinks %+v", now.Uplinks)
	}
	if st := was.Uplinks[1].Status(); st.State != mirror.StateStopped {
		t.Errorf("the uplink that left is %s", st.State)
	}
	publish()
	// The limit holds for who comes next.
	nc, err := net.Dial("tcp", s.address("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a second connection is open: %v", err)
	} else if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // as it came from the socket
		t.Error("a second connection is open")
	}
	select {
	case err := <-lost:
		t.Errorf("the connection was lost: %v", err)
	default:
	}

	// Again changes nothing, and what runs is not touched.
	again, err := s.reload(t.Context())
	if err != nil || strings.Join(again.Changed, " ") != "auth" || strings.Join(again.Restart, " ") != "limits.login_timeout storage" {
		t.Errorf("%+v, %v", again, err)
	}
	if now2 := s.runs(t); !reflect.DeepEqual(now2, now) {
		t.Errorf("%+v, was %+v", now2, now)
	}
}

// What MQTT clients may do changes while they are connected.
func TestReloadMQTT(t *testing.T) {
	s, rewrite := configured(t, t.TempDir(), "edge: gw\n", io.Discard)
	connect := func(id string) (mqtt.Client, error) {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetClientID(id).SetAutoReconnect(false).
			SetConnectRetry(false).SetProtocolVersion(4).SetConnectTimeout(time.Minute))
		err := await(t.Context(), c.Connect())
		if err == nil {
			t.Cleanup(func() { c.Disconnect(100) })
		}
		return c, err
	}
	first, err := connect("first")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text, changed string
		in            bool
	}{{"edge: gw\nmqtt: {max_connections: 1}\n", "auth mqtt", false}, {"edge: gw\n", "auth mqtt", true}, {"edge: gw\n", "auth", true}} {
		rewrite(c.text)
		out, err := s.reload(t.Context())
		if err != nil || strings.Join(out.Changed, " ") != c.changed || len(out.Restart) > 0 {
			t.Errorf("%q: %+v, %v", c.text, out, err)
		}
		if _, err := connect("second"); (err == nil) != c.in {
			t.Errorf("%q: a second client: %v", c.text, err)
		}
		if err := await(t.Context(), first.Publish("a", 1, false, "1")); err != nil {
			t.Errorf("%q: the first client: %v", c.text, err)
		}
	}
}
