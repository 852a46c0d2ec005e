package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// The rows say what Apache Kafka's authorizer asks for (its KafkaApis and ControllerApis): topic t, group g, transactional id x.

var ( // codes that rows share
	topicRefused   = kerr.TopicAuthorizationFailed.Code
	groupRefused   = kerr.GroupAuthorizationFailed.Code
	txnRefused     = kerr.TransactionalIDAuthorizationFailed.Code
	clusterRefused = kerr.ClusterAuthorizationFailed.Code
)

func matrixRows() []row {
	var rows []row
	for _, part := range [][]row{openRows(), recordRows(), topicRows(), groupRows(), txnRows(), clusterRows()} {
		rows = append(rows, part...)
	}
	return rows
}

func withTopic(b *broker) { b.create("t") }

func withGroup(b *broker) { b.offset("g") }

func openRows() []row {
	return []row{
		{
			key: kmsg.ApiVersions, version: 3, open: true,
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrApiVersionsRequest() },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.ApiVersionsResponse).ErrorCode },
		},
		{
			key: kmsg.SASLHandshake, version: 1, open: true,
			req:  func(*broker) kmsg.Request { return &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.SASLHandshakeResponse).ErrorCode },
		},
		{
			key: kmsg.SASLAuthenticate, what: "without a handshake", version: 1, open: true, ok: kerr.IllegalSaslState.Code,
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrSASLAuthenticateRequest() },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.SASLAuthenticateResponse).ErrorCode },
		},
		{
			key: kmsg.DescribeCluster, version: 1,
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrDescribeClusterRequest() },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeClusterResponse).ErrorCode },
		},
		{
			key: kmsg.DescribeCluster, what: "authorized operations", version: 1, needs: []need{{rule: "describe cluster", code: unseen}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrDescribeClusterRequest()
				req.IncludeClusterAuthorizedOperations = true
				return req
			},
			code: func(r kmsg.Response) int16 {
				return seen(r.(*kmsg.DescribeClusterResponse).ClusterAuthorizedOperations != 0)
			},
		},
	}
}

func seen(ok bool) int16 {
	if ok {
		return 0
	}
	return unseen
}

func recordRows() []row {
	var pid int64
	var epoch int16
	return []row{
		{
			key: kmsg.Produce, version: 9, prepare: withTopic, needs: []need{{rule: "write topic t", code: topicRefused}},
			req:  func(*broker) kmsg.Request { return produceRequest("t", 0, 1, plainBatch(1)) },
			code: produced,
		},
		{
			key: kmsg.Produce, what: "in a transaction", version: 9,
			needs: []need{{rule: "write txn x", code: txnRefused}, {rule: "write topic t", code: topicRefused}},
			prepare: func(b *broker) {
				pid, epoch = b.open("x")
			},
			req: func(*broker) kmsg.Request {
				req, id := produceRequest("t", 0, 1, makeBatch(1, 1<<4, pid, epoch, 0)), "x"
				req.TransactionID = &id
				return req
			},
			code: produced,
		},
		{
			key: kmsg.Fetch, version: 12, prepare: withTopic, needs: []need{{rule: "read topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := fetchRequest("t", 0, 0)
				req.MaxWaitMillis = 0
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode },
		},
		{
			key: kmsg.ListOffsets, version: 6, prepare: withTopic, needs: []need{{rule: "describe topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrListOffsetsRequest()
				req.ReplicaID = -1
				rt := kmsg.NewListOffsetsRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: latestOffset}}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode },
		},
		{
			key: kmsg.OffsetForLeaderEpoch, version: 3, prepare: withTopic, needs: []need{{rule: "describe topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrOffsetForLeaderEpochRequest()
				rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 {
				return r.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0].ErrorCode
			},
		},
		{
			key: kmsg.DeleteRecords, version: 1, prepare: withTopic, needs: []need{{rule: "delete topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrDeleteRecordsRequest()
				rt := kmsg.NewDeleteRecordsRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: -1}}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode },
		},
		{
			key: kmsg.InitProducerID, version: 4, needs: []need{{rule: "idempotent_write cluster", code: clusterRefused}},
			req: initProducer(nil), code: initialized,
		},
		{
			key: kmsg.InitProducerID, what: "for who may write to some topic", version: 4,
			needs: []need{{rule: "write topic t", code: clusterRefused, unless: "idempotent_write cluster"}},
			req:   initProducer(nil), code: initialized,
		},
	}
}

func produced(r kmsg.Response) int16 {
	return r.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
}

func initProducer(id *string) func(*broker) kmsg.Request {
	return func(*broker) kmsg.Request {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = id, 10_000
		return req
	}
}

func initialized(r kmsg.Response) int16 { return r.(*kmsg.InitProducerIDResponse).ErrorCode }

// open begins a transaction that topic t is part of.
func (b *broker) open(id string) (pid int64, epoch int16) {
	b.t.Helper()
	b.create("t")
	pid, epoch = b.producer(id)
	if err := b.edge.Txns().AddPartitions(b.t.Context(), id, pid, epoch, []edge.TxnPartition{{Topic: "t"}}); err != nil {
		b.t.Fatal(err)
	}
	return pid, epoch
}

func groupRows() []row {
	group := func(code int16) []need { return []need{{rule: "read group g", code: code}} }
	return []row{
		{
			key: kmsg.OffsetCommit, version: 8, prepare: withGroup, needs: append(group(groupRefused), need{rule: "read topic t", code: topicRefused}),
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrOffsetCommitRequest()
				req.Group = "g"
				rt := kmsg.NewOffsetCommitRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{kmsg.NewOffsetCommitRequestTopicPartition()}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode },
		},
		offsetFetchRow("", 7, topicRefused, func(req *kmsg.OffsetFetchRequest) {
			req.Group, req.Topics = "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		}),
		offsetFetchRow("of all topics", 7, unseen, func(req *kmsg.OffsetFetchRequest) { req.Group = "g" }),
		offsetFetchRow("of many groups", 8, topicRefused, func(req *kmsg.OffsetFetchRequest) {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.Topics = "g", []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}
			req.Groups = append(req.Groups, g)
		}),
		{
			key: kmsg.FindCoordinator, what: "of a group", version: 3, needs: []need{{rule: "describe group g", code: groupRefused}},
			req:  func(*broker) kmsg.Request { return &kmsg.FindCoordinatorRequest{CoordinatorKey: "g"} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.FindCoordinatorResponse).ErrorCode },
		},
		{
			key: kmsg.FindCoordinator, what: "of a transactional id", version: 4, needs: []need{{rule: "describe txn x", code: txnRefused}},
			req: func(*broker) kmsg.Request {
				return &kmsg.FindCoordinatorRequest{CoordinatorType: coordinatorTxn, CoordinatorKeys: []string{"x"}}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode },
		},
		{
			key: kmsg.JoinGroup, version: 5, needs: []need{{rule: "read group j", code: groupRefused}}, ok: kerr.MemberIDRequired.Code,
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrJoinGroupRequest()
				req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "j", "consumer", 10_000, 10_000
				req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.JoinGroupResponse).ErrorCode },
		},
		{
			key: kmsg.Heartbeat, version: 3, prepare: withGroup, needs: group(groupRefused), ok: kerr.UnknownMemberID.Code,
			req:  func(*broker) kmsg.Request { return &kmsg.HeartbeatRequest{Group: "g", MemberID: "m"} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.HeartbeatResponse).ErrorCode },
		},
		{
			key: kmsg.LeaveGroup, version: 1, prepare: withGroup, needs: group(groupRefused), ok: kerr.UnknownMemberID.Code,
			req:  func(*broker) kmsg.Request { return &kmsg.LeaveGroupRequest{Group: "g", MemberID: "m"} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.LeaveGroupResponse).ErrorCode },
		},
		{
			key: kmsg.SyncGroup, version: 3, prepare: withGroup, needs: group(groupRefused), ok: kerr.UnknownMemberID.Code,
			req:  func(*broker) kmsg.Request { return &kmsg.SyncGroupRequest{Group: "g", MemberID: "m"} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.SyncGroupResponse).ErrorCode },
		},
		{
			key: kmsg.DescribeGroups, version: 5, prepare: withGroup, needs: []need{{rule: "describe group g", code: groupRefused}},
			req:  func(*broker) kmsg.Request { return &kmsg.DescribeGroupsRequest{Groups: []string{"g"}} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeGroupsResponse).Groups[0].ErrorCode },
		},
		{
			key: kmsg.ListGroups, version: 4, prepare: withGroup, needs: []need{{rule: "describe group g", code: unseen, unless: "describe cluster"}},
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrListGroupsRequest() },
			code: listed,
		},
		{
			key: kmsg.ListGroups, what: "for who may describe the cluster", version: 4, prepare: withGroup,
			needs: []need{{rule: "describe cluster", code: unseen, unless: "describe group g"}},
			req:   func(*broker) kmsg.Request { return kmsg.NewPtrListGroupsRequest() },
			code:  listed,
		},
		{
			key: kmsg.DeleteGroups, version: 2, prepare: withGroup, needs: []need{{rule: "delete group g", code: groupRefused}},
			req:  func(*broker) kmsg.Request { return &kmsg.DeleteGroupsRequest{Groups: []string{"g"}} },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode },
		},
		{
			key: kmsg.OffsetDelete, version: 0, prepare: withGroup,
			needs: []need{{rule: "delete group g", code: groupRefused}, {rule: "read topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrOffsetDeleteRequest()
				req.Group = "g"
				rt := kmsg.NewOffsetDeleteRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 {
				resp := r.(*kmsg.OffsetDeleteResponse)
				if resp.ErrorCode != 0 {
					return resp.ErrorCode
				}
				return resp.Topics[0].Partitions[0].ErrorCode
			},
		},
	}
}

func listed(r kmsg.Response) int16 {
	return seen(slices.ContainsFunc(r.(*kmsg.ListGroupsResponse).Groups, func(g kmsg.ListGroupsResponseGroup) bool { return g.Group == "g" }))
}

func offsetFetchRow(what string, version, topic int16, fill func(*kmsg.OffsetFetchRequest)) row {
	return row{
		key: kmsg.OffsetFetch, what: what, version: version, prepare: withGroup,
		needs: []need{{rule: "describe group g", code: groupRefused}, {rule: "describe topic t", code: topic}},
		req: func(*broker) kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			fill(req)
			return req
		},
		code: func(r kmsg.Response) int16 {
			resp := r.(*kmsg.OffsetFetchResponse)
			switch {
			case resp.ErrorCode != 0:
				return resp.ErrorCode
			case len(resp.Topics) > 0:
				return resp.Topics[0].Partitions[0].ErrorCode
			case len(resp.Groups) == 0:
				return unseen
			case resp.Groups[0].ErrorCode != 0:
				return resp.Groups[0].ErrorCode
			}
			return resp.Groups[0].Topics[0].Partitions[0].ErrorCode
		},
	}
}

func txnRows() []row {
	id := "x"
	var pid int64
	var epoch int16
	begin := func(b *broker) { pid, epoch = b.open("x") }
	return []row{
		{
			key: kmsg.InitProducerID, what: "with a transactional id", version: 4, needs: []need{{rule: "write txn x", code: txnRefused}},
			req: initProducer(&id), code: initialized,
		},
		{
			key: kmsg.AddPartitionsToTxn, version: 1, prepare: begin,
			needs: []need{{rule: "write txn x", code: txnRefused}, {rule: "write topic t", code: topicRefused}},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrAddPartitionsToTxnRequest()
				req.TransactionalID, req.ProducerID, req.ProducerEpoch = "x", pid, epoch
				req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
				return req
			},
			code: func(r kmsg.Response) int16 {
				return r.(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode
			},
		},
		{
			key: kmsg.AddOffsetsToTxn, version: 1, prepare: begin,
			needs: []need{{rule: "write txn x", code: txnRefused}, {rule: "read group g", code: groupRefused}},
			req: func(*broker) kmsg.Request {
				return &kmsg.AddOffsetsToTxnRequest{TransactionalID: "x", ProducerID: pid, ProducerEpoch: epoch, Group: "g"}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.AddOffsetsToTxnResponse).ErrorCode },
		},
		{
			key: kmsg.EndTxn, version: 1, prepare: begin, needs: []need{{rule: "write txn x", code: txnRefused}},
			req: func(*broker) kmsg.Request {
				return &kmsg.EndTxnRequest{TransactionalID: "x", ProducerID: pid, ProducerEpoch: epoch, Commit: true}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.EndTxnResponse).ErrorCode },
		},
		{
			key: kmsg.TxnOffsetCommit, version: 2,
			prepare: func(b *broker) {
				begin(b)
				if err := b.edge.Txns().AddGroup(b.t.Context(), "x", pid, epoch, "g"); err != nil {
					b.t.Fatal(err)
				}
			},
			needs: []need{
				{rule: "write txn x", code: txnRefused}, {rule: "read group g", code: groupRefused}, {rule: "read topic t", code: topicRefused},
			},
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrTxnOffsetCommitRequest()
				req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = "x", "g", pid, epoch
				rt := kmsg.NewTxnOffsetCommitRequestTopic()
				rt.Topic, rt.Partitions = "t", []kmsg.TxnOffsetCommitRequestTopicPartition{kmsg.NewTxnOffsetCommitRequestTopicPartition()}
				req.Topics = append(req.Topics, rt)
				return req
			},
			code: func(r kmsg.Response) int16 {
				return r.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
			},
		},
		{
			key: kmsg.DescribeTransactions, version: 0, prepare: begin,
			needs: []need{{rule: "describe txn x", code: txnRefused}, {rule: "describe topic t", code: unseen}},
			req:   func(*broker) kmsg.Request { return &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"x"}} },
			code: func(r kmsg.Response) int16 {
				s := r.(*kmsg.DescribeTransactionsResponse).TransactionStates[0]
				if s.ErrorCode != 0 {
					return s.ErrorCode
				}
				return seen(len(s.Topics) > 0)
			},
		},
		{
			key: kmsg.ListTransactions, version: 0, prepare: begin, needs: []need{{rule: "describe txn x", code: unseen}},
			req: func(*broker) kmsg.Request { return kmsg.NewPtrListTransactionsRequest() },
			code: func(r kmsg.Response) int16 {
				return seen(len(r.(*kmsg.ListTransactionsResponse).TransactionStates) > 0)
			},
		},
	}
}
