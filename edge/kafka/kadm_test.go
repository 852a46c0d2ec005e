package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
)

// kadm: what administrators do.

func TestAdminTopics(t *testing.T) {
	b := startBroker(t, Options{})
	ctx, adm := withTimeout(t), b.admin()
	value := "3600000"
	made, err := adm.CreateTopics(ctx, 3, 1, map[string]*string{"retention.ms": &value}, "one", "two")
	if err != nil || made.Error() != nil {
		t.Fatal(err, made.Error())
	}
	if cfg := made["one"].Configs["retention.ms"]; cfg.Value == nil || *cfg.Value != value || cfg.Source.String() != "DYNAMIC_TOPIC_CONFIG" {
		t.Errorf("retention.ms comes back as %+v", cfg)
	}
	for name, cfg := range made["one"].Configs {
		if cfg.Source <= 0 {
			t.Errorf("%s has source %d", name, cfg.Source)
		}
	}
	if r, err := adm.CreateTopic(ctx, 1, 1, nil, "one"); err == nil && !errors.Is(r.Err, kerr.TopicAlreadyExists) || err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("creating it again: %v, %v", r.Err, err)
	}
	if r, err := adm.CreateTopics(ctx, 1, 3, nil, "replicated"); err != nil || !errors.Is(r["replicated"].Err, kerr.InvalidReplicationFactor) {
		t.Errorf("replication factor 3: %v, %v", err, r)
	}
	grown, err := adm.UpdatePartitions(ctx, 5, "one")
	if err != nil || grown.Error() != nil {
		t.Fatal(err, grown.Error())
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil || len(topics["one"].Partitions) != 5 || len(topics["two"].Partitions) != 3 {
		t.Fatalf("topics %v, %v", topics, err)
	}
	gone, err := adm.DeleteTopics(ctx, "two", "never")
	if err != nil || gone["two"].Err != nil || !errors.Is(gone["never"].Err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("deleted %+v, %v", gone, err)
	}
}

func TestAdminConfigs(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	ctx, adm := withTimeout(t), b.admin()
	value := "compact"
	altered, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &value}}, "t")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := altered.On("t", nil); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	described, err := adm.DescribeTopicConfigs(ctx, "t")
	if err != nil || len(described) != 1 || len(described[0].Configs) != len(edge.TopicConfigs()) {
		t.Fatalf("described %+v, %v", described, err)
	}
	for _, c := range described[0].Configs {
		if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
			t.Errorf("cleanup.policy is %s", c.MaybeValue())
		}
		if c.Source <= 0 || c.Value == nil {
			t.Errorf("%s: source %v, value %v", c.Key, c.Source, c.Value)
		}
	}
	bad := "sometimes"
	altered, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &bad}}, "t")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := altered.On("t", nil); err != nil || !errors.Is(r.Err, kerr.InvalidConfig) {
		t.Errorf("a wrong value: %v, %v", err, r.Err)
	}
	node, err := adm.DescribeBrokerConfigs(ctx, nodeID)
	if err != nil || len(node) != 1 || len(node[0].Configs) < 10 {
		t.Errorf("node's configuration %+v, %v", node, err)
	}
}

func TestAdminGroups(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 2})
	ctx, adm := withTimeout(t), b.admin()
	produceAll(t, b.client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner())), "t", numbered("v", 10)...)
	reader := b.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, reader, 10)
	if err := reader.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	lags, err := adm.Lag(ctx, "g")
	lag := lags["g"]
	if err != nil || lag.Error() != nil || lag.Lag.Total() != 0 || lag.State != "Stable" || len(lag.Members) != 1 {
		t.Fatalf("lag %+v, %v", lag, err)
	}
	if r, err := adm.DeleteGroups(ctx, "g"); err != nil || !errors.Is(r["g"].Err, kerr.NonEmptyGroup) {
		t.Errorf("deleting a group with members: %+v, %v", r, err)
	}
	if r, err := adm.DeleteOffsets(ctx, "g", kadm.TopicsSet{"t": {0: {}}}); err != nil || !errors.Is(r["t"][0], kerr.GroupSubscribedToTopic) {
		t.Errorf("deleting offsets that are in use: %v, %v", r, err)
	}
	reader.Close()
	groups, err := adm.ListGroups(ctx)
	if err != nil || groups["g"].State != "Empty" || groups["g"].ProtocolType != "consumer" {
		t.Fatalf("groups %+v, %v", groups, err)
	}
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "t", Partition: 0, At: 2, LeaderEpoch: -1, Metadata: "by hand"})
	if r, err := adm.CommitOffsets(ctx, "g", o); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	fetched, err := adm.FetchOffsets(ctx, "g")
	if at, ok := fetched.Lookup("t", 0); err != nil || !ok || at.At != 2 || at.Metadata != "by hand" {
		t.Fatalf("offset %+v, %v", at, err)
	}
	if r, err := adm.DeleteOffsets(ctx, "g", kadm.TopicsSet{"t": {0: {}}}); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	if r, err := adm.DeleteGroups(ctx, "g"); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	if groups, err := adm.ListGroups(ctx); err != nil || len(groups) != 0 {
		t.Errorf("groups %+v, %v", groups, err)
	}
}
