package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

func TestDeleteRecords(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 2},
		edge.TopicSpec{Name: "c", Partitions: 1, Config: map[string]string{"cleanup.policy": "compact"}})
	ctx, adm := withTimeout(t), b.admin()
	produceAll(t, b.client(kgo.RecordPartitioner(kgo.ManualPartitioner())), "t", numbered("v", 10)...)
	remove := func(topic string, partition int32, at int64) kadm.DeleteRecordsResponse {
		t.Helper()
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: topic, Partition: partition, At: at, LeaderEpoch: -1})
		got, err := adm.DeleteRecords(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return got[topic][partition]
	}
	r := dial(b)
	defer r.close()
	if r := remove("t", 0, 4); r.Err != nil || r.LowWatermark != 4 {
		t.Fatalf("before 4: %+v", r)
	}
	if r := remove("t", 0, 2); r.Err != nil || r.LowWatermark != 4 {
		t.Errorf("before 2: %+v, want the low watermark to stay", r)
	}
	for _, c := range []struct {
		topic     string
		partition int32
		at        int64
		want      error
	}{
		{"t", 0, 11, kerr.OffsetOutOfRange},
		{"t", 0, -2, kerr.OffsetOutOfRange},
		{"t", 5, 0, kerr.UnknownTopicOrPartition},
		{"none", 0, 0, kerr.UnknownTopicOrPartition},
		{"c", 0, 0, kerr.PolicyViolation},
		{"t", 1, -1, nil},
	} {
		p := ask[*kmsg.DeleteRecordsResponse](r, deleteRequest(c.topic, c.partition, c.at), 2).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); !errors.Is(err, c.want) || err != nil && p.LowWatermark != -1 {
			t.Errorf("%s/%d before %d: %v, want %v; low watermark %d", c.topic, c.partition, c.at, err, c.want, p.LowWatermark)
		}
	}
	starts, err := adm.ListStartOffsets(ctx, "t")
	if at, ok := starts.Lookup("t", 0); err != nil || !ok || at.Offset != 4 {
		t.Errorf("ListOffsets says it starts at %+v, %v", at, err)
	}
	if p := r.fetch(fetchRequest("t", 0, 4)); p.ErrorCode != 0 || p.LogStartOffset != 4 {
		t.Errorf("Fetch at 4: code %d, log start %d", p.ErrorCode, p.LogStartOffset)
	}
	if p := r.fetch(fetchRequest("t", 0, 3)); p.ErrorCode != kerr.OffsetOutOfRange.Code || p.LogStartOffset != 4 {
		t.Errorf("Fetch at 3: code %d, log start %d", p.ErrorCode, p.LogStartOffset)
	}
	got := consume(t, b.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 6)
	if got[0].Offset != 4 {
		t.Errorf("a consumer begins at %d", got[0].Offset)
	}
	// Every version.
	for v := int16(0); v <= 2; v++ {
		if p := ask[*kmsg.DeleteRecordsResponse](r, deleteRequest("t", 0, -1), v).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.LowWatermark != 10 {
			t.Errorf("version %d: %+v", v, p)
		}
	}
	b.restart()
	if starts, err = b.admin().ListStartOffsets(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	if at, _ := starts.Lookup("t", 0); at.Offset != 10 {
		t.Errorf("after a restart it starts at %d", at.Offset)
	}
}

func deleteRequest(topic string, partition int32, at int64) *kmsg.DeleteRecordsRequest {
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = partition, at
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.DeleteRecordsRequestTopicPartition{rp}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = []kmsg.DeleteRecordsRequestTopic{rt}
	return req
}

// What tools set they find again, also where it has no effect.
func TestConfigsRoundTrip(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	ctx, adm := withTimeout(t), b.admin()
	str := func(s string) *string { return &s }
	alter := func(list ...kadm.AlterConfig) error {
		t.Helper()
		got, err := adm.AlterTopicConfigs(ctx, list, "t")
		if err != nil {
			t.Fatal(err)
		}
		r, err := got.On("t", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.Err
	}
	read := func() map[string]*kadm.Config {
		t.Helper()
		all, err := adm.DescribeTopicConfigs(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]*kadm.Config{}
		for _, c := range all[0].Configs {
			out[c.Key] = &c
		}
		return out
	}
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.ms", Value: str("1000")},
		kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: str("5")},
		kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: str("compact")}); err != nil {
		t.Fatal(err)
	}
	got := read()
	for key, want := range map[string]string{"segment.ms": "1000", "retention.ms": "5", "cleanup.policy": "delete,compact", "min.insync.replicas": "1"} {
		if got[key].MaybeValue() != want {
			t.Errorf("%s is %q, want %q", key, got[key].MaybeValue(), want)
		}
	}
	if s := got["segment.ms"].Source; s != kmsg.ConfigSourceDynamicTopicConfig {
		t.Errorf("source of segment.ms is %v", s)
	}
	if s := got["segment.bytes"].Source; s != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("source of segment.bytes is %v", s)
	}
	if topic, _ := b.store.Topic("t"); !topic.Policy.Compact || topic.Policy.RetentionMs != 5 {
		t.Errorf("policy %+v", topic.Policy)
	}
	if err := alter(kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: str("delete")},
		kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "segment.ms"}); err != nil {
		t.Fatal(err)
	}
	if got = read(); got["cleanup.policy"].MaybeValue() != "compact" || got["segment.ms"].MaybeValue() != "604800000" {
		t.Errorf("after subtracting: %q, %q", got["cleanup.policy"].MaybeValue(), got["segment.ms"].MaybeValue())
	}
	if err := alter(kadm.AlterConfig{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: str("2")}); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("two replicas in sync: %v", err)
	}
	// AlterConfigs replaces the whole.
	whole, err := adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: str("100")}}, "t")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := whole.On("t", nil); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	if got = read(); got["cleanup.policy"].MaybeValue() != "delete" || got["max.message.bytes"].MaybeValue() != "100" {
		t.Errorf("after replacing: %q, %q", got["cleanup.policy"].MaybeValue(), got["max.message.bytes"].MaybeValue())
	}
}
