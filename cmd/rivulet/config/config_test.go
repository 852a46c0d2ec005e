package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rivulet/edge"
)

func check(t *testing.T, text string) error {
	t.Helper()
	c, err := Parse("r.yaml", []byte(text))
	if err != nil {
		return err
	}
	return c.Check()
}

func TestBad(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "edge: a\nlisteners:\n  mqqt: {addr: 127.0.0.1:1}\n", `r.yaml:3:3: unknown key "mqqt" in listeners; did you mean "mqtt"?`},
		{"unknown key on top", "storag: {}\n", `r.yaml:1:1: unknown key "storag"; did you mean "storage"?`},
		{"unknown key in a list", "topics:\n  - name: a\n    partition_count: 3\n", `r.yaml:3:5: unknown key "partition_count" in topics[0]; did you mean "partitions"?`},
		{"all errors at once", "edge: [a]\nstorage: {linger: fast}\n", "r.yaml:1:7: edge: want a single value\nr.yaml:2:19: storage.linger: \"fast\" is not a duration; write a number and a unit, such as 250ms, 5s, 1h30m or 7d"},
		{"key twice", "edge: a\nedge: b\n", `r.yaml:2:1: key "edge" is given twice`},
		{"map key twice", "topics: [{name: a, config: {retention.ms: 1, retention.ms: 2}}]\n", `r.yaml:1:46: key "topics[0].config.retention.ms" is given twice`},
		{"not YAML", "edge: a\n\tdata_dir: b\n", "r.yaml:2:1: not YAML: found a tab character that violates indentation"},
		{"second document", "edge: a\n---\nedge: b\n", "r.yaml:2:1: a second document begins here; a configuration is one document"},
		{"alias", "edge: &e a\ndata_dir: *e\n", "r.yaml:2:11: aliases are not supported: write the value out"},
		{"merge key", "storage:\n  <<: {linger: 1s}\n", `r.yaml:2:3: unknown key "<<" in storage; did you mean "linger"?`},
		{"no value", "edge:\n", "r.yaml:1:6: edge: the value is missing"},
		{"a list", "- a\n", "r.yaml:1:1: the configuration: want keys and values"},
		{"list for map", "storage: [a]\n", "r.yaml:1:10: storage: want keys and values"},
		{"map for list", "topics: {a: b}\n", "r.yaml:1:9: topics: want a list"},
		{"size", "storage: {tail_bytes: 8 gigs}\n", `r.yaml:1:23: storage.tail_bytes: "8 gigs" is not a size; write a number and a unit, such as 64MiB or 8GiB`},
		{"negative size", "storage: {tail_bytes: -1MiB}\n", `r.yaml:1:23: storage.tail_bytes: "-1MiB" is not a size; write a number and a unit, such as 64MiB or 8GiB`},
		{"huge size", "storage: {tail_bytes: 99999999TiB}\n", `r.yaml:1:23: storage.tail_bytes: "99999999TiB" is not a size; write a number and a unit, such as 64MiB or 8GiB`},
		{"rate", "sync: [{name: a, kafka: {brokers: [b:1]}, up: [{topic: t}], limit: 2MiB}]\n", `r.yaml:1:68: sync[0].limit: "2MiB" is not a rate; write a size a second, such as 2MiB/s`},
		{"enum", "storage: {profile: tiny}\n", `r.yaml:1:20: storage.profile: "tiny" is not one of normal, small; did you mean "small"?`},
		{"bool", "auth: {anonymous: yes}\n", `r.yaml:1:19: auth.anonymous: "yes" is not true or false`},
		{"int", "topics: [{name: a, partitions: many}]\n", `r.yaml:1:32: topics[0].partitions: "many" is not a whole number`},

		{"budget", "storage: {max_bytes: 32MiB}\n", "r.yaml:1:22: storage.max_bytes: 32MiB is too small: journal, tails and one log file take half of 64MiB; give it that, or lower storage.tail_bytes"},
		{"budget and tails", "storage: {max_bytes: 64MiB, profile: small}\n", "r.yaml:1:22: storage.max_bytes: 64MiB is too small: journal, tails and one log file take half of 88MiB; give it that, or lower storage.tail_bytes"},
		{"when_full", "storage: {when_full: refuses}\n", `r.yaml:1:22: storage.when_full: "refuses" is not one of drop_oldest, refuse; did you mean "refuse"?`},
		{"later: down", "sync: [{name: a, kafka: {brokers: [b:1]}, up: [{topic: t}], down: [{topic: x}]}]\n", "r.yaml:1:61: not supported yet: sync[0].down (topics of the centre mirrored here)"},
		{"later: idempotent", "sync: [{name: a, kafka: {brokers: [b:1]}, up: [{topic: t}], delivery: idempotent}]\n", "r.yaml:1:71: sync[0].delivery: not supported yet: idempotent; transactional is exactly once"},
		{"later: ack central", "topics: [{name: a, ack: central}]\n", "r.yaml:1:25: topics[0].ack: not supported yet: acknowledging after the centre has it"},
		{"later: stream", "plugins: [{name: a, file: a.wasm, topic: t, stage: stream}]\n", "r.yaml:1:52: plugins[0].stage: not supported yet: plugins behind the log"},
		{"later: signed", "plugin_trust: {require_signed: true}\n", "r.yaml:1:16: not supported yet: plugin_trust.require_signed (signed plugins)"},
		{"mqtt ids", "mqtt: {max_in_flight: 65536}\n", "r.yaml:1:23: mqtt.max_in_flight: 65536 is not between 1 and 65535: there are no more packet identifiers"},
		{"mqtt packet", "mqtt: {max_packet: 1GiB}\n", "r.yaml:1:20: mqtt.max_packet: 1GiB is more than 256MiB, which is the largest packet there is"},
		{"mqtt keep alive", "mqtt: {max_keep_alive: 1ms}\n", "r.yaml:1:24: mqtt.max_keep_alive: 1ms is not between 1s and 65535s"},
		{"mqtt prefix", "mqtt: {response_prefix: \"a/#\"}\n", `r.yaml:1:25: mqtt.response_prefix: "a/#" holds wildcards; it begins a topic`},
		{"mqtt excess", "mqtt: {on_excess: disconnect}\n", "r.yaml:1:19: mqtt.on_excess: of what? say mqtt.messages_per_second or mqtt.bytes_per_second, too"},
		{"priority", "topics: [{name: a, priority: 10}]\n", "r.yaml:1:30: topics[0].priority: 10 is not between 0 and 9"},

		{"open to the network", "listeners: {mqtt: {addr: 0.0.0.0:1883}}\n", "r.yaml:1:26: listeners.mqtt.addr: 0.0.0.0:1883 is open to the network and nobody has to log in; listen on 127.0.0.1, or say auth: {anonymous: true}; to have users log in, say auth: {anonymous: false} and make some with rivulet user add"},
		{"open to the network, no host", "listeners: {mqtt: {addr: \":1883\"}}\n", "r.yaml:1:26: listeners.mqtt.addr: :1883 is open to the network and nobody has to log in; listen on 127.0.0.1, or say auth: {anonymous: true}; to have users log in, say auth: {anonymous: false} and make some with rivulet user add"},
		{"address", "listeners: {mqtt: {addr: localhost}}\n", `r.yaml:1:26: listeners.mqtt.addr: "localhost" is not HOST:PORT`},
		{"TLS without files", "listeners: {mqtts: {addr: 127.0.0.1:8883}}\n", "r.yaml:1:20: listeners.mqtts: needs tls: {cert: FILE, key: FILE}"},
		{"TLS on the plain one", "listeners: {mqtt: {addr: 127.0.0.1:1, tls: {cert: a, key: b}}}\n", "r.yaml:1:44: listeners.mqtt.tls: mqtt is not encrypted; use listeners.mqtts"},
		{"advertised", "listeners: {mqtt: {addr: 127.0.0.1:1, advertised: a:1}}\n", "r.yaml:1:51: listeners.mqtt.advertised: only Kafka's clients are told an address"},
		{"wss without files", "listeners: {wss: {addr: 127.0.0.1:1}}\n", "r.yaml:1:18: listeners.wss: needs tls: {cert: FILE, key: FILE}"},
		{"origins", "listeners: {ws: {addr: 127.0.0.1:1, origins: [dash]}}\n", `r.yaml:1:47: listeners.ws.origins[0]: "dash" is not like https://dashboard.example`},
		{"origins of no page", "listeners: {mqtt: {addr: 127.0.0.1:1, origins: [\"*\"]}}\n", "r.yaml:1:48: listeners.mqtt.origins: only listeners.ws and listeners.wss are for web pages"},
		{"proxy protocol", "listeners: {http: {addr: 127.0.0.1:1, proxy_protocol: true}}\n", "r.yaml:1:55: listeners.http.proxy_protocol: only MQTT's listeners take it"},
		{"unix socket", "listeners: {kafka: {addr: \"unix:k.sock\"}}\n", "r.yaml:1:27: listeners.kafka.addr: only listeners.mqtt and listeners.ws may be unix sockets"},
		{"unix socket without path", "listeners: {mqtt: {addr: \"unix:\"}}\n", "r.yaml:1:26: listeners.mqtt.addr: unix: needs the path of a socket, as in unix:mqtt.sock"},
		{"topic name", "topics: [{name: a/b}]\n", `r.yaml:1:17: topics[0].name: invalid topic name "a/b": only letters, digits, '.', '_' and '-'`},
		{"topic twice", "topics: [{name: a}, {name: a}]\n", "r.yaml:1:28: topics[1].name: topic a is declared twice"},
		{"topic of the broker", "topics: [{name: _rivulet-x}]\n", "r.yaml:1:17: topics[0].name: names that begin with _rivulet are the broker's own"},
		{"topic configuration", "topics:\n  - name: a\n    config:\n      retention.msec: 1\n", `r.yaml:4:7: topics[0].config.retention.msec: invalid topic configuration: unknown key "retention.msec" (nearest: retention.ms)`},
		{"topic configuration value", "topics: [{name: a, config: {retention.ms: soon}}]\n", "r.yaml:1:29: topics[0].config.retention.ms: invalid topic configuration: retention.ms=soon: want a whole number from -1 up"},
		{"route filter", "routes: [{mqtt: \"a/#/b\", topic: t}]\n", `r.yaml:1:10: routes[0]: filter "a/#/b": # stands alone and last`},
		{"route template", "routes: [{mqtt: \"a/+\", topic: \"{2}\"}]\n", `r.yaml:1:10: routes[0]: template "{2}": want {1} to {1}, one for each wildcard`},
		{"route without log but topic", "routes: [{mqtt: a, store: none, topic: t}]\n", "r.yaml:1:10: routes[0]: store: none keeps no log, so topic, key, timestamp and partition have no place there"},
		{"plugin without file", "plugins: [{name: a, topic: t}]\n", "r.yaml:1:11: plugins[0]: file is missing"},
		{"uplink without brokers", "sync: [{name: a, up: [{topic: t}]}]\n", "r.yaml:1:8: sync[0].kafka: brokers are missing: give HOST:PORT of one or more"},
		{"uplink without topics", "sync: [{name: a, kafka: {brokers: [b:1]}}]\n", "r.yaml:1:8: sync[0]: up is missing: say which topics go to the centre"},
		{"uplink pattern", "sync: [{name: a, kafka: {brokers: [b:1]}, up: [{topic: \"a.*\", to: x}]}]\n", `r.yaml:1:67: sync[0].up[0].to: a.* may match many topics, so "x" needs {topic}`},
		{"bridge", "bridges: [{name: a, broker: b, subscribe: [c]}]\n", `r.yaml:1:11: bridges[0]: broker "b": want tcp, ssl, ws, wss or unix://…`},
		{"bridge QoS", "bridges: [{name: a, broker: \"tcp://b:1\", subscribe: [c], qos: 3}]\n", "r.yaml:1:63: bridges[0].qos: 3 is not 0, 1 or 2"},
		{
			"bridge with an uplink's name", "sync: [{name: a, kafka: {brokers: [\"h:1\"]}, up: [{topic: t}]}]\nbridges: [{name: a, broker: \"tcp://b:1\", subscribe: [c]}]\n",
			"r.yaml:2:18: bridges[0].name: an uplink is called a, too",
		},
		{"bridge password", "bridges: [{name: a, broker: \"tcp://b:1\", subscribe: [c], password_file: p}]\n", "r.yaml:1:73: bridges[0].password_file: goes with user"},
		{"SASL", "sync: [{name: a, kafka: {brokers: [b:1], sasl: {mechanism: PLAIN}}, up: [{topic: t}]}]\n", "r.yaml:1:48: sync[0].kafka.sasl: mechanism, user and password_file are all needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := check(t, c.text)
			if err == nil {
				t.Fatal("it was taken")
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGood(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":             "",
		"comments alone":      "# nothing\n",
		"open but anonymous":  "listeners: {mqtt: {addr: 0.0.0.0:1883}}\nauth: {anonymous: true}\n",
		"closed":              "listeners: {kafka: {addr: off}}\n",
		"IPv6 loopback":       "listeners: {mqtt: {addr: \"[::1]:0\"}}\n",
		"what does no harm":   "plugin_trust: {require_signed: false, keys: []}\nsync: []\nauth: {acl: []}\n",
		"an empty section":    "storage:\ntopics:\n",
		"numbers as text":     "plugins: [{name: a, file: f, topic: t, set: {threshold: 20, on: true}}]\n",
		"one JSON object too": `{"edge": "a", "topics": [{"name": "t", "partitions": 3}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(t, text); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSmallSamples(t *testing.T) {
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		c, err := Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestSample(t *testing.T) {
	const file = "../../../examples/rivulet.yaml"
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if u := c.Sync[0]; u.Limit != 2<<20 || time.Duration(u.Age) != 5*time.Second || u.Up[1].Topic != "alarm.*" {
		t.Errorf("uplink is %+v", u)
	}
	// Every key that this version has is shown, in use or in a comment.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	eachKey(reflect.TypeFor[Config](), func(name string) {
		if !strings.Contains(string(text), name+":") && !strings.Contains(string(text), name+" ") {
			t.Errorf("the sample does not show %s", name)
		}
	})
}

func eachKey(typ reflect.Type, fn func(name string)) {
	for _, f := range fieldsOf(typ) {
		if f.later != "" {
			continue
		}
		ft := typ.Field(f.index).Type
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if f.name != "plugin_trust" {
			fn(f.name)
		}
		if ft.Kind() == reflect.Struct && f.name != "plugin_trust" {
			eachKey(ft, fn)
		}
	}
}

func TestPrintIsRead(t *testing.T) {
	before, err := Load("../../../examples/rivulet.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	before.Plugins = []Plugin{{Name: "a", File: "/a.wasm", Topic: "t", Set: map[string]string{"api_token": "hush", "x": "1"}}}
	var out bytes.Buffer
	if err := before.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hush") {
		t.Error("a secret was printed")
	}
	after, err := Parse("printed", out.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	before.Plugins[0].Set["api_token"] = edge.Mask
	if diff := cmp.Diff(before, after, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(file, []byte("edge: from-file\ndata_dir: d\nstorage: {tail_bytes: 1MiB}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, []string{
		"RIVULET_EDGE=from-env", "RIVULET_STORAGE_TAIL_BYTES=3MiB", "RIVULET_LISTENERS_MQTT_ADDR=127.0.0.1:7",
		"RIVULET_TOPICS=[{name: a, partitions: 3}]", "RIVULET_LISTENERS_KAFKAS_TLS_CLIENT_CA=ca.pem", "RIVULET_AUTH_ANONYMOUS=true",
		"RIVULET_SERVER=http://x", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Edge != "from-env" || c.DataDir != "d" || c.Storage.TailBytes != 3<<20 || c.Listeners.MQTT.Addr != "127.0.0.1:7" ||
		len(c.Topics) != 1 || c.Topics[0].Partitions != 3 || c.Listeners.Kafkas.TLS.ClientCA != "ca.pem" || c.Auth.Anonymous == nil || !*c.Auth.Anonymous {
		t.Errorf("configuration is %+v", c)
	}

	_, err = Load(file, []string{"RIVULET_STORAGE_LINGER=soon", "RIVULET_TOPICS=[{nam: a}]", "RIVULET_PLUGIN_TRUST_REQUIRE_SIGNED=true"})
	if err == nil {
		t.Fatal("a wrong environment was taken")
	}
	for _, want := range []string{
		`RIVULET_STORAGE_LINGER: storage.linger: "soon" is not a duration`,
		`RIVULET_TOPICS:1:3: unknown key "nam" in topics[0]; did you mean "name"?`,
		"RIVULET_PLUGIN_TRUST_REQUIRE_SIGNED: not supported yet: plugin_trust.require_signed",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestFilesAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "r.yaml")
	text := "plugins: [{name: a, file: a.wasm, topic: t}, {name: b, file: /b.wasm, topic: t}]\nlisteners: {mqtts: {addr: 127.0.0.1:0, tls: {cert: c.pem, key: k.pem}}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Plugins[0].File; got != filepath.Join(dir, "a.wasm") {
		t.Error(got)
	}
	if got := c.Plugins[1].File; got != "/b.wasm" {
		t.Error(got)
	}
	if got := c.Listeners.MQTTS.TLS.Cert; got != filepath.Join(dir, "c.pem") {
		t.Error(got)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "512": 512, "1KiB": 1 << 10, "1.5MiB": 3 << 19, "8GiB": 8 << 30, "2TiB": 2 << 40, "10MB": 1e7, "3 B": 3} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(want.String())); err != nil || again != want {
			t.Errorf("%d prints as %s, which reads as %d, %v", want, want, again, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("edge: a\ntopics: [{name: a, config: {b: 1}}]\n")
	f.Add("a: &x [*x]\n")
	f.Add("---\n---\n")
	f.Add("sync: [{limit: 2MiB/s, age: 9999999d}]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("r.yaml", []byte(text))
		if err != nil {
			return
		}
		_ = c.Check() // what matters is that it returns
	})
}
