package edge_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// What a Kafka or HTTP producer says about a record's MQTT topic counts only where routes write to, and only if it may publish
// there itself; else the name is made of topic and key, and in topic mqtt the record is refused.
func TestProducersClaimOnlyWhatTheyMayPublish(t *testing.T) {
	store, err := storage.Open(t.Context(), storage.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rules := auth.Config{Anonymous: auth.AnonymousYes}
	for _, text := range []string{"allow write topic *", "allow publish user ann mqtt a/#", "deny publish user ann mqtt a/secret", "allow all user root"} {
		r, err := auth.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules.Rules = append(rules.Rules, r)
	}
	authority, err := auth.New(auth.Options{Store: store, Config: rules})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	b, err := edge.Open(t.Context(), edge.Options{
		Store: store, Authorize: authority, Routes: []edge.Route{{MQTT: "a/+", Topic: "routed"}},
		Topics: []edge.TopicSpec{{Name: "routed"}, {Name: "plain"}, {Name: "mqtt", Partitions: 1}, {Name: "empty"}},
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		user, topic, key, header string
		want                     string // the name; "!" refused
	}{
		{"ann", "routed", "k", "a/b", "a/b"},
		{"ann", "routed", "k", "a/secret", "routed/k"},
		{"ann", "routed", "k", "b", "routed/k"},
		{"ann", "routed", "", "b", "routed"},
		{"ann", "routed", "k", "$SYS/broker/load", "routed/k"},
		{"ann", "routed", "k", "a/+", "routed/k"},
		{"bob", "routed", "k", "a/b", "routed/k"},
		{"root", "routed", "k", "anything", "anything"},
		{"ann", "plain", "k", "a/b", "plain/k"},
		{"root", "plain", "k", "a/b", "plain/k"},
		{"ann", "mqtt", "a/b", "", "a/b"},
		{"ann", "mqtt", "a/secret", "", "!"},
		{"ann", "mqtt", "b", "", "!"},
		{"ann", "mqtt", "b", "a/b", "a/b"},
		{"ann", "mqtt", "a/b", "b", "a/b"},
		{"bob", "mqtt", "a/b", "", "!"},
		{"root", "mqtt", "b", "", "b"},
	} {
		who := authority.Someone(c.user, nil, auth.Conn{})
		topic, _ := store.Topic(c.topic)
		headers := []batch.KV{{Key: "x", Value: []byte("1")}}
		if c.header != "" {
			headers = append(headers, batch.KV{Key: edge.HeaderTopic, Value: []byte(c.header)})
		}
		payload := batch.AppendPayload(nil, []byte(c.key), []byte("v"), headers)
		for _, way := range []struct {
			name string
			put  func() (base int64, err error)
		}{
			{"records", func() (int64, error) {
				done := make(chan struct{})
				in := &edge.Ingest{Principal: who, Items: []edge.Item{{Topic: topic, Record: batch.Record{Payload: payload}}}, Done: func(*edge.Ingest) { close(done) }}
				if err := b.Ingest(t.Context(), in); err != nil {
					return 0, err
				}
				<-done
				return in.Items[0].Base, in.Err
			}},
			{"batch", func() (int64, error) {
				var w batch.Builder
				w.Begin(nil, 0, 0)
				w.Add(1, batch.AppendPayload(nil, []byte("a/ok"), nil, nil))
				w.Add(2, payload)
				done := make(chan struct{})
				in := &edge.BatchIn{Principal: who, Topic: topic, Batch: w.End(0, -1, -1, -1), Done: func(*edge.BatchIn) { close(done) }}
				if c.user == "bob" && c.topic == "mqtt" {
					return 0, edge.ErrNotAuthorized // bob's first record would be refused already
				}
				if err := b.IngestBatch(t.Context(), in); err != nil {
					return 0, err
				}
				<-done
				return in.Base + 1, in.Err
			}},
		} {
			base, err := way.put()
			if c.want == "!" {
				if !errors.Is(err, edge.ErrNotAuthorized) {
					t.Errorf("%s, %+v: %v", way.name, c, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %+v: %v", way.name, c, err)
				continue
			}
			part := topic.Partitions[0]
			batches, err := part.Read(base, base+1, 1<<20)
			if err != nil || len(batches) == 0 {
				t.Fatal(err)
			}
			var d batch.Decoder
			if err := d.Reset(batches[0], 1<<20); err != nil {
				t.Fatal(err)
			}
			for r, ok := d.Next(); ok; r, ok = d.Next() {
				if r.Offset != base {
					continue
				}
				if got := string(b.MQTTName(part, r.Payload)); got != c.want {
					t.Errorf("%s, %+v: name is %q", way.name, c, got)
				}
				if x, ok := r.Payload.Header("x"); !ok || string(x) != "1" || string(r.Payload.Value()) != "v" {
					t.Errorf("%s, %+v: the record has changed: %q", way.name, c, r.Payload)
				}
				if _, kept := r.Payload.Header("user.mqtt.topic"); kept != (c.header != "" && c.header != c.want && c.topic != "plain" && !strings.Contains(c.header, "+")) {
					t.Errorf("%s, %+v: renamed header: %v", way.name, c, kept)
				}
			}
		}
	}
	// What was not looked at, since no route led there, counts when one does: that is said.
	if err := b.SetRoutes([]edge.Route{{MQTT: "a/+", Topic: "routed"}, {MQTT: "b/+", Topic: "plain"}, {MQTT: "c/+", Topic: "empty"}, {MQTT: "#", Topic: "mqtt"}}); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "never checked") != 1 || !strings.Contains(text, "topic=plain") {
		t.Errorf("the log: %s", text)
	}
}
