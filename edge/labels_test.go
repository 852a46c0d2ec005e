package edge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rivulet/storage"
	"rivulet/storage/batch"
)

// Whatever a filter matches, its query is about: for all names that routes can give a record, before and after they change.
func TestQueryMissesNothing(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b", "cmd", "sensors", "device-1234567", "device-1234568", "$SYS", "ü"})
	levels := func(t *rapid.T, of *rapid.Generator[string]) string {
		return strings.Join(rapid.SliceOfN(of, 1, 7).Draw(t, "levels"), "/")
	}
	rapid.Check(t, func(t *rapid.T) {
		routes := []Route{{MQTT: "sensors/#", Topic: "sensors"}, {MQTT: "cmd/+", Topic: "cmd-{1}", Key: "{1}"}}
		compiled, err := compileRoutes(routes[:rapid.IntRange(0, 2).Draw(t, "routes")])
		if err != nil {
			t.Fatal(err)
		}
		b := &Broker{}
		b.routes.Store(compiled)
		var headers []batch.KV
		if rapid.Bool().Draw(t, "named") {
			name := levels(t, level)
			if rapid.IntRange(0, 9).Draw(t, "valid") == 0 {
				name += "/#"
			}
			headers = []batch.KV{{Key: "x", Value: nil}, {Key: HeaderTopic, Value: []byte(name)}}
		}
		key := []byte(levels(t, level))
		switch rapid.IntRange(0, 3).Draw(t, "key") {
		case 0:
			key = nil
		case 1:
			if len(headers) > 0 {
				key = headers[1].Value
			}
		case 2:
			key = append(key, "/+"...)
		}
		topic := rapid.SampledFrom([]string{DefaultTopic, "sensors", "cmd-a", "orders", "_rivulet-audit"}).Draw(t, "topic")
		payload := batch.Payload(batch.AppendPayload(nil, key, []byte("value"), headers))
		name := b.nameIn(topic, payload)
		filter := levels(t, rapid.OneOf(level, rapid.Just("+")))
		switch rapid.IntRange(0, 3).Draw(t, "filter") {
		case 0:
			filter += "/#"
		case 1:
			if name != nil {
				filter = string(name)
			}
		case 2:
			parts := strings.Split(string(name), "/")
			for i := range parts {
				if rapid.IntRange(0, 2).Draw(t, "plus") == 0 {
					parts[i] = "+"
				}
			}
			if rapid.Bool().Draw(t, "rest") {
				parts = append(parts[:rapid.IntRange(0, len(parts)).Draw(t, "cut")], "#")
			}
			filter = strings.Join(parts, "/")
		}
		if CheckFilter(filter) != nil || name == nil || !MatchFilter(filter, string(name)) {
			return
		}
		q := b.Query([]string{"other/x", filter}, nil)
		if q == nil {
			return
		}
		labels := appendLabels(nil, topic, payload)
		if q.Topics(topic) == storage.WantNone || !slices.ContainsFunc(q.Labels, func(l uint32) bool { return slices.Contains(labels, l) }) {
			t.Fatalf("%q matches %q, in topic %s: labels %x, asked for %x", filter, name, topic, labels, q.Labels)
		}
	})
}

// A narrow filter is about little.
func TestQueryIsNarrow(t *testing.T) {
	compiled, err := compileRoutes([]Route{{MQTT: "sensors/#", Topic: "sensors"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{}
	b.routes.Store(compiled)
	record := func(name string) []uint32 {
		return appendLabels(nil, DefaultTopic, batch.Payload(batch.AppendPayload(nil, []byte(name), nil, []batch.KV{{Key: HeaderTopic, Value: []byte(name)}})))
	}
	for _, c := range []struct {
		filter  string
		matches []string
		others  []string
	}{
		{"cmd/dev-7", []string{"cmd/dev-7"}, []string{"cmd/dev-70", "telemetry/dev-7", "cmd", "cmd/dev-7/a"}},
		{"cmd/dev-7/#", []string{"cmd/dev-7", "cmd/dev-7/a", "cmd/dev-7/a/b/c/d"}, []string{"cmd/dev-70", "cmd", "cmd/dev-8/a"}},
		{"cmd/+/stop", []string{"cmd/x/stop"}, []string{"telemetry/x/stop", "cmd"}},
		{"a/b/c/d/e/#", []string{"a/b/c/d/e", "a/b/c/d/e/f"}, []string{"a/b/c/d", "a/b/c/x/e/f"}},
	} {
		q := b.Query([]string{c.filter}, nil)
		hits := func(name string) bool {
			labels := record(name)
			return slices.ContainsFunc(q.Labels, func(l uint32) bool { return slices.Contains(labels, l) })
		}
		for _, name := range c.matches {
			if !hits(name) {
				t.Errorf("%q misses %q", c.filter, name)
			}
		}
		for _, name := range c.others {
			if hits(name) {
				t.Errorf("%q is about %q", c.filter, name)
			}
		}
	}
	q := b.Query([]string{"orders/7", "x/+"}, func(topic string) bool { return topic == "held" })
	for topic, want := range map[string]storage.Want{
		DefaultTopic: storage.WantLabels, "orders": storage.WantLabels, "x": storage.WantLabels, "sensors": storage.WantLabels,
		"bills": storage.WantNone, "_rivulet-audit": storage.WantNone, "held": storage.WantAll, "recovered-3": storage.WantAll,
	} {
		if got := q.Topics(topic); got != want {
			t.Errorf("topic %s: %d, want %d", topic, got, want)
		}
	}
	for _, wide := range []string{"#", "+", "+/state"} {
		if b.Query([]string{"cmd/dev-7", wide}, nil) != nil {
			t.Errorf("%q is about everything", wide)
		}
	}
}

// What is on disk must mean the same for ever.
func TestLabelsStayTheSame(t *testing.T) {
	payload := batch.Payload(batch.AppendPayload(nil, []byte("device-1234567"), nil, []batch.KV{{Key: HeaderTopic, Value: []byte("plant/line 3/device-1234567/temperature")}}))
	got := fmt.Sprintf("%x", appendLabels(nil, "sensors", payload))
	if want := labelsOfScheme1; got != want {
		t.Errorf("labels %s, want %s: another scheme needs another number", got, want)
	}
}

const labelsOfScheme1 = "[6dd18aaf 6acd337 5f1acc5c 2de4f9f5 6260c03e 41692fdb]"

func BenchmarkLabels(b *testing.B) {
	name := []byte("telemetry/device-1234")
	payload := batch.Payload(batch.AppendPayload(nil, name, make([]byte, 200), []batch.KV{{Key: HeaderTopic, Value: name}, {Key: HeaderClient, Value: []byte("device-1234")}}))
	var labels []uint32
	b.ReportAllocs()
	for b.Loop() {
		labels = appendLabels(labels[:0], DefaultTopic, payload)
	}
}
