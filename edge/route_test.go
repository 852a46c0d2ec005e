package edge

import (
	"math"
	"strings"
	"testing"
)

func TestRoutesFirstMatchWinsAndCaptures(t *testing.T) {
	table, err := compileRoutes([]Route{
		{MQTT: "factory/+/jog", Topic: "jog", Key: "{1}"},
		{MQTT: "factory/+/telemetry/#", Topic: "t-{1}", Key: "{1}/{2}"},
		{MQTT: "#", Topic: "rest"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ mqtt, topic, key string }{
		{"factory/7/jog", "jog", "7"},
		{"factory/7/telemetry/a/b", "t-7", "7/a/b"},
		{"factory/7/telemetry", "t-7", "7/"},          // # matches its parent (MQTT-4.7.1-2)
		{"factory/{2}/telemetry/x", "t-{2}", "{2}/x"}, // a device's text is never a template
		{"else", "rest", ""},
	} {
		r, captures := table.find(c.mqtt)
		if r == nil || expand(r.Topic, captures) != c.topic || expand(r.Key, captures) != c.key {
			t.Errorf("%s: got %+v %q, want topic %s key %s", c.mqtt, r, captures, c.topic, c.key)
		}
	}
	if r, _ := table.find("$SYS/x"); r != nil {
		t.Errorf("$SYS/x matches %s, but a leading wildcard does not match $ (MQTT-4.7.2-1)", r.MQTT)
	}
	for topic, want := range map[string]bool{"jog": true, "t-9": true, "t-": true, "rest": true, "other": false, "x-jog": false} {
		if table.writesTo(topic) != want {
			t.Errorf("writesTo(%s) is %v", topic, !want)
		}
	}
}

func TestBadRoutesNameTheRoute(t *testing.T) {
	for _, c := range []struct {
		route Route
		want  string
	}{
		{Route{MQTT: "a/#/b", Topic: "x"}, "# stands alone and last"},
		{Route{MQTT: "a+/b", Topic: "x"}, "+ stands alone"},
		{Route{MQTT: "", Topic: "x"}, "1 to 65535 bytes"},
		{Route{MQTT: "a/+", Topic: ""}, "topic is missing"},
		{Route{MQTT: "a/+", Topic: "x{2}"}, "want {1} to {1}"},
		{Route{MQTT: "a/+", Topic: "x", Key: "{1"}, "want {1} to {1}"},
		{Route{MQTT: "a", Topic: "x", Timestamp: "ts"}, "want json(path)"},
		{Route{MQTT: "a", Topic: "x", Partition: "hash"}, "want key, round_robin or range"},
	} {
		_, err := compileRoutes([]Route{{MQTT: "ok", Topic: "ok"}, c.route})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "route 2") {
			t.Errorf("%+v: got %v, want route 2 and %q", c.route, err, c.want)
		}
	}
}

func TestMatchFilter(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"+/+", "/a", true},
		{"#", "a/b", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"a/#", "a", true},
		{"a/#", "ab", false},
		{"/+", "/x", true},
		{"+", "/x", false},
	} {
		if got := MatchFilter(c.filter, c.topic); got != c.want {
			t.Errorf("MatchFilter(%s, %s) = %v", c.filter, c.topic, got)
		}
	}
}

func TestTopicConfigErrorsNameKeyAndFix(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"retention.sm", "1", `unknown key "retention.sm" (nearest: retention.ms)`},
		{"retention.ms", "1h", "want a whole number from -1 up"},
		{"retention.ms", "-2", "want a whole number from -1 up"},
		{"max.message.bytes", "3000000000", "want a whole number from 0 up"},
		{"cleanup.policy", "compact,purge", "want a list of delete, compact"},
		{"rivulet.timestamps", "now", "want one of arrival, keep, clamp"},
	} {
		err := CheckTopicConfig(map[string]string{c.key: c.value})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: got %v, want %q", c.key, c.value, err, c.want)
		}
	}
	for _, k := range TopicConfigs() {
		if err := CheckTopicConfig(map[string]string{k.Name: k.Default}); err != nil && k.Default != "" {
			t.Errorf("default of %s is refused: %v", k.Name, err)
		}
	}
}

func TestRangePartitionKeepsNeighboursTogether(t *testing.T) {
	bounds := []string{"g", "n", "t"}
	for key, want := range map[string]int32{"": 0, "f": 0, "g": 1, "m": 1, "n": 2, "z": 3} {
		if got := rangePartition([]byte(key), bounds, 4); got != want {
			t.Errorf("key %q goes to %d, want %d", key, got, want)
		}
	}
	last := int32(0)
	for c := range 256 {
		got := rangePartition([]byte{byte(c), 200}, nil, 7)
		if got < last || got > 6 {
			t.Fatalf("first byte %d goes to %d after %d", c, got, last)
		}
		last = got
	}
	if last != 6 {
		t.Errorf("the last key goes to partition %d of 7", last)
	}
}

func TestJSONTime(t *testing.T) {
	for _, c := range []struct {
		value, path string
		want        int64
	}{
		{`{"ts":1700000000}`, "ts", 1700000000000},
		{`{"ts":1700000000123}`, "ts", 1700000000123},
		{`{"m":{"at":"2026-01-02T03:04:05Z"}}`, "m.at", 1767323045000},
		{`{"ts":"soon"}`, "ts", 0},
		{`{"ts":"1969-12-31T23:59:59Z"}`, "ts", 0},
		{`{"ts":-5}`, "ts", 0},
		{`{}`, "ts", 0},
		{`nonsense`, "ts", 0},
		{``, "ts", 0},
		{`{"ts":1e300}`, "ts", 0},
	} {
		if got := jsonTime([]byte(c.value), strings.Split(c.path, ".")); got != c.want {
			t.Errorf("%s %s: got %d, want %d", c.value, c.path, got, c.want)
		}
	}
}

func FuzzJSONTime(f *testing.F) {
	f.Add([]byte(`{"m":{"at":"2026-01-02T03:04:05Z"}}`), "m.at")
	f.Add([]byte(`{"at":"0000-01-01T00:00:00Z"}`), "at")
	f.Add([]byte(`{"ts":1700000000.5,"ts":1e15}`), "ts")
	f.Fuzz(func(t *testing.T, value []byte, path string) {
		if got := jsonTime(value, strings.Split(path, ".")); got < 0 || got > math.MaxInt64/1000 {
			t.Errorf("%s %s: %d", value, path, got)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("$SYS/#", "$SYS")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if CheckFilter(filter) != nil {
			return
		}
		if strings.ContainsAny(filter, "+#") {
			MatchFilter(filter, topic)
		} else if MatchFilter(filter, topic) != (filter == topic) {
			t.Errorf("filter %q without wildcard against %q", filter, topic)
		}
	})
}
