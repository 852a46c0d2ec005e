package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

func TestCloseAnswersWhatWaits(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	reader := dial(b)
	defer reader.close()
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis = 200000
	reader.send(req, 12)
	b.awaitRead()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	// A group whose first member never comes back holds up the second's Join.
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = "g", 200000, 200000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	if got := call[*kmsg.JoinGroupResponse](b, join, 3); got.ErrorCode != 0 {
		t.Fatalf("join: %+v", got)
	}
	member := dial(b)
	defer member.close()
	member.send(join, 3)
	idle := dial(b)
	defer idle.close()
	call[*kmsg.MetadataResponse](b, kmsg.NewPtrMetadataRequest(), 5)

	// Both are parked when the group rebalances.
	for d, err := b.edge.Groups().Describe("g"); err != nil || d.State != edge.GroupPreparing; d, err = b.edge.Groups().Describe("g") {
		<-tick.C
	}
	began := time.Now()
	b.stop()
	if d := time.Since(began); d > time.Minute {
		t.Errorf("Close took %v", d)
	}
	fetched := kmsg.NewPtrFetchResponse()
	fetched.SetVersion(12)
	reader.decode(fetched, 1)
	joined := kmsg.NewPtrJoinGroupResponse()
	joined.SetVersion(3)
	member.decode(joined, 1)
	if joined.ErrorCode != kerr.CoordinatorNotAvailable.Code {
		t.Errorf("the parked Join got %v", kerr.ErrorForCode(joined.ErrorCode))
	}
	reader.wantClosed()
	member.wantClosed()
	idle.wantClosed()
}

func TestTooManyConnections(t *testing.T) {
	b := startBroker(t, Options{MaxConns: 1})
	first := dial(b)
	defer first.close()
	ask[*kmsg.MetadataResponse](first, kmsg.NewPtrMetadataRequest(), 5)
	second := dial(b)
	defer second.close()
	second.wantClosed()
	ask[*kmsg.MetadataResponse](first, kmsg.NewPtrMetadataRequest(), 5)
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	b := startBroker(t, Options{IdleTimeout: 50 * time.Millisecond})
	r := dial(b)
	defer r.close()
	ask[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 5)
	r.wantClosed()
}

func TestServeEndsWithItsContext(t *testing.T) {
	b := startBroker(t, Options{})
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(ctx, l) }()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// denyAll lets nobody do anything but what is listed.
type denyAll map[edge.Op]bool

func (d denyAll) Allow(_ *edge.Principal, op edge.Op, _ string) bool { return d[op] }

func TestEveryRequestAsksTheAuthorizer(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	denied, err := edge.Open(t.Context(), edge.Options{Edge: "test", Store: b.store, Authorize: denyAll{}, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	b.server.broker = denied
	defer func() {
		if err := denied.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := dial(b)
	defer r.close()
	name, txn := "t", "x"
	topicCode, groupCode, txnCode := kerr.TopicAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code, kerr.TransactionalIDAuthorizationFailed.Code
	check := func(what string, got, want int16) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), kerr.ErrorForCode(want))
		}
	}
	check("produce", r.produce("t", 0, plainBatch(1)).ErrorCode, topicCode)
	check("fetch", r.fetch(fetchRequest("t", 0, 0)).ErrorCode, topicCode)
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	check("metadata", ask[*kmsg.MetadataResponse](r, meta, 9).Topics[0].ErrorCode, topicCode)
	if all := ask[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 9); len(all.Topics) != 0 {
		t.Errorf("metadata of all topics shows %d", len(all.Topics))
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}
	check("list offsets", ask[*kmsg.ListOffsetsResponse](r, list, 5).Topics[0].Partitions[0].ErrorCode, topicCode)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: "new", NumPartitions: 1, ReplicationFactor: 1}}
	check("create", ask[*kmsg.CreateTopicsResponse](r, create, 5).Topics[0].ErrorCode, topicCode)
	check("delete", ask[*kmsg.DeleteTopicsResponse](r, &kmsg.DeleteTopicsRequest{TopicNames: []string{"t"}}, 3).Topics[0].ErrorCode, topicCode)
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 2}}
	check("grow", ask[*kmsg.CreatePartitionsResponse](r, grow, 1).Topics[0].ErrorCode, topicCode)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "g", -1
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
	check("commit", ask[*kmsg.OffsetCommitResponse](r, commit, 5).Topics[0].Partitions[0].ErrorCode, groupCode)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = "g"
	check("offset fetch", ask[*kmsg.OffsetFetchResponse](r, fetch, 5).ErrorCode, groupCode)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "g"
	check("find", ask[*kmsg.FindCoordinatorResponse](r, find, 2).ErrorCode, groupCode)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group = "g"
	check("join", ask[*kmsg.JoinGroupResponse](r, join, 5).ErrorCode, groupCode)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group = "g"
	check("sync", ask[*kmsg.SyncGroupResponse](r, sync, 3).ErrorCode, groupCode)
	check("heartbeat", ask[*kmsg.HeartbeatResponse](r, &kmsg.HeartbeatRequest{Group: "g"}, 3).ErrorCode, groupCode)
	check("leave", ask[*kmsg.LeaveGroupResponse](r, &kmsg.LeaveGroupRequest{Group: "g"}, 3).ErrorCode, groupCode)
	check("describe group", ask[*kmsg.DescribeGroupsResponse](r, &kmsg.DescribeGroupsRequest{Groups: []string{"g"}}, 3).Groups[0].ErrorCode, groupCode)
	check("delete group", ask[*kmsg.DeleteGroupsResponse](r, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}}, 1).Groups[0].ErrorCode, groupCode)
	check("offset delete", ask[*kmsg.OffsetDeleteResponse](r, &kmsg.OffsetDeleteRequest{Group: "g"}, 0).ErrorCode, groupCode)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = &txn, 1000
	check("init", ask[*kmsg.InitProducerIDResponse](r, init, 3).ErrorCode, txnCode)
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.Topics = "x", []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	check("add partitions", ask[*kmsg.AddPartitionsToTxnResponse](r, add, 1).Topics[0].Partitions[0].ErrorCode, txnCode)
	check("add offsets", ask[*kmsg.AddOffsetsToTxnResponse](r, &kmsg.AddOffsetsToTxnRequest{TransactionalID: "x"}, 1).ErrorCode, txnCode)
	check("end", ask[*kmsg.EndTxnResponse](r, &kmsg.EndTxnRequest{TransactionalID: "x"}, 1).ErrorCode, txnCode)
	txnCommit := kmsg.NewPtrTxnOffsetCommitRequest()
	txnCommit.TransactionalID = "x"
	txnCommit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1}}}}
	check("txn commit", ask[*kmsg.TxnOffsetCommitResponse](r, txnCommit, 2).Topics[0].Partitions[0].ErrorCode, txnCode)
	describe := kmsg.NewPtrDescribeConfigsRequest()
	describe.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}
	check("describe configs", ask[*kmsg.DescribeConfigsResponse](r, describe, 2).Resources[0].ErrorCode, topicCode)
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	alter.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}}
	check("alter configs", ask[*kmsg.IncrementalAlterConfigsResponse](r, alter, 0).Resources[0].ErrorCode, topicCode)
	epoch := kmsg.NewPtrOffsetForLeaderEpochRequest()
	epoch.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}
	check("leader epoch", ask[*kmsg.OffsetForLeaderEpochResponse](r, epoch, 2).Topics[0].Partitions[0].ErrorCode, topicCode)
	if groups := ask[*kmsg.ListGroupsResponse](r, kmsg.NewPtrListGroupsRequest(), 4); len(groups.Groups) != 0 {
		t.Errorf("list groups shows %d", len(groups.Groups))
	}
}
