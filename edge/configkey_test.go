package edge

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rivulet/plugins"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// What is shown as a default is what the store does without a configuration.
func TestConfigDefaultsAreTheStores(t *testing.T) {
	all := map[string]string{}
	for _, k := range TopicConfigs() {
		if k.Default != "" {
			all[k.Name] = k.Default
		}
		if k.Doc == "" {
			t.Errorf("%s is not documented", k.Name)
		}
	}
	if diff := cmp.Diff(storage.DefaultPolicy(), storage.ParsePolicy(all)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(storage.DefaultPolicy(), storage.ParsePolicy(nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(settingsOf(&Topic{}), settingsOf(&Topic{Config: all}), cmp.AllowUnexported(topicSettings{})); diff != "" {
		t.Error(diff)
	}
	if !slices.IsSortedFunc(TopicConfigs(), func(a, b ConfigKey) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("keys are not in order")
	}
}

func TestConfigIsRead(t *testing.T) {
	got := storage.ParsePolicy(map[string]string{
		"cleanup.policy": "compact, delete", "compression.type": "zstd", "delete.retention.ms": "5", "min.compaction.lag.ms": "6",
		"min.cleanable.dirty.ratio": "0.25", "retention.ms": "-1", "retention.bytes": "7", "rivulet.priority": "9",
		"rivulet.when.full": "refuse", "rivulet.drop.unmirrored": "true",
	})
	want := storage.Policy{
		RetentionMs: -1, RetentionBytes: 7, Delete: true, Compact: true, TombstoneMs: 5, CompactionLagMs: 6, DirtyRatio: 0.25,
		Compression: "zstd", Priority: 9, Refuse: true, WhenFullSet: true, DropUnmirrored: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Keys without effect promise nothing that one node cannot keep.
func TestIdleConfigKeys(t *testing.T) {
	for key, value := range map[string]string{
		"segment.ms": "1000", "segment.bytes": "1048576", "min.insync.replicas": "1", "unclean.leader.election.enable": "true",
		"flush.messages": "1", "remote.storage.enable": "false", "message.timestamp.after.max.ms": "9223372036854775807",
	} {
		if err := CheckTopicConfig(map[string]string{key: value}); err != nil {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	for _, c := range []struct{ key, value, want string }{
		{"min.insync.replicas", "2", "want 1: there is one node"},
		{"remote.storage.enable", "true", "want one of false: all records are local"},
		{"segment.ms", "soon", "want a whole number from 1 up"},
		{"rivulet.priority", "10", "want a whole number from 0 to 9"},
		{"min.cleanable.dirty.ratio", "1.5", "want a number from 0 to 1"},
		{"min.cleanable.dirty.ratio", "NaN", "want a number from 0 to 1"},
		{"rivulet.drop.unmirrored", "yes", "want true or false"},
		{"compression.type", "lzo", "want one of producer, lz4, zstd, gzip, snappy, uncompressed"},
	} {
		err := CheckTopicConfig(map[string]string{c.key: c.value})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: got %v, want %q", c.key, c.value, err, c.want)
		}
	}
}

func TestCompactedTopicWantsKeys(t *testing.T) {
	compacted := map[string]string{"cleanup.policy": "compact"}
	r := open(t, Options{Topics: []TopicSpec{{Name: "c", Config: compacted}, {Name: "t", Config: compacted}}})
	c, _ := r.store.Topic("c")
	item := func(key []byte) Item {
		return Item{Topic: c, Partition: -1, Record: batch.Record{Payload: batch.AppendPayload(nil, key, []byte("v"), nil)}}
	}
	in := &Ingest{Items: []Item{item([]byte("a")), item(nil), item([]byte{})}}
	if err := r.ingest(in); err != nil {
		t.Fatal(err)
	}
	if in.Items[0].Err != nil || !errors.Is(in.Items[1].Err, ErrNoKey) || !errors.Is(in.Items[1].Err, ErrRejected) || in.Items[2].Err != nil {
		t.Errorf("items say %v, %v, %v; want only the second refused: an empty key is a key", in.Items[0].Err, in.Items[1].Err, in.Items[2].Err)
	}
	if got := r.values("c"); len(got) != 2 || in.Items[2].Base != 1 {
		t.Errorf("stored %q, the last at %d", got, in.Items[2].Base)
	}

	// What a plugin lets through without a key is dead-lettered.
	r.attach("p", trapOn("poison"), AttachSpec{Topic: "t", OnError: plugins.Drop})
	topic, _ := r.store.Topic("t")
	in = &Ingest{Items: []Item{{Topic: topic, Record: batch.Record{Payload: batch.AppendPayload(nil, nil, []byte("bare"), nil)}}}}
	if err := r.ingest(in); err != nil {
		t.Fatal(err)
	}
	if got, dead := r.values("t"), r.read("t.dlq"); len(got) != 0 || len(dead) != 1 {
		t.Fatalf("stored %q, dead letters %d", got, len(dead))
	}
	if v, _ := r.read("t.dlq")[0].Payload.Header(HeaderError); !strings.Contains(string(v), "needs a key") {
		t.Errorf("the dead letter says %q", v)
	}
}

func TestTrimTopic(t *testing.T) {
	r := open(t, Options{Topics: []TopicSpec{
		{Name: "t", Partitions: 2},
		{Name: "c", Config: map[string]string{"cleanup.policy": "compact"}},
		{Name: "cd", Config: map[string]string{"cleanup.policy": "compact,delete"}},
	}})
	topic, _ := r.store.Topic("t")
	for range 3 {
		in := &Ingest{Items: []Item{{Topic: topic, Partition: 1, Record: batch.Record{Payload: batch.AppendPayload(nil, nil, []byte("v"), nil)}}}}
		if err := r.ingest(in); err != nil {
			t.Fatal(err)
		}
	}
	start := func() int64 {
		topic, _ := r.store.Topic("t")
		at, _, _ := topic.Partitions[1].Offsets()
		return at
	}
	for _, c := range []struct {
		topic string
		trim  Trim
		err   error
		start int64
	}{
		{"t", Trim{1, 4}, ErrOffsetRange, 0},
		{"t", Trim{1, -2}, ErrOffsetRange, 0},
		{"t", Trim{2, 0}, ErrNoTopic, 0},
		{"none", Trim{0, 0}, ErrNoTopic, 0},
		{"c", Trim{0, 0}, ErrCompacted, 0},
		{"cd", Trim{0, 0}, nil, 0},
		{"t", Trim{1, 2}, nil, 2},
		{"t", Trim{1, 1}, nil, 2}, // it stays further on
		{"t", Trim{1, HighWatermark}, nil, 3},
	} {
		if err := r.TrimTopic(t.Context(), c.topic, []Trim{c.trim}); !errors.Is(err, c.err) {
			t.Errorf("%s %+v: %v, want %v", c.topic, c.trim, err, c.err)
		}
		if got := start(); got != c.start {
			t.Errorf("%s %+v: the log starts at %d, want %d", c.topic, c.trim, got, c.start)
		}
	}
	r.restart()
	if got := start(); got != 3 {
		t.Errorf("after a restart the log starts at %d, want 3", got)
	}
}
