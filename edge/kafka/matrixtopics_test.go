package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rows of the permission matrix: topics and the cluster.

func topicRows() []row {
	named := func(name string, create bool) func(*broker) kmsg.Request {
		return func(*broker) kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			req.AllowAutoTopicCreation = create
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
			return req
		}
	}
	first := func(r kmsg.Response) int16 { return r.(*kmsg.MetadataResponse).Topics[0].ErrorCode }
	fresh := func(b *broker) { b.remove("new") }
	doomed := func(b *broker) { b.create("d") }
	created := func(r kmsg.Response) int16 { return r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode }
	create := func(*broker) kmsg.Request {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 1000
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "new", 1, 1
		req.Topics = append(req.Topics, rt)
		return req
	}
	deleted := func(r kmsg.Response) int16 {
		t := r.(*kmsg.DeleteTopicsResponse).Topics[0]
		if t.ErrorCode == kerr.TopicAuthorizationFailed.Code && t.TopicID != [16]byte{} && t.Topic != nil {
			return kerr.UnknownServerError.Code // it told both
		}
		return t.ErrorCode
	}
	return []row{
		{
			key: kmsg.Metadata, version: 9, prepare: withTopic, needs: []need{{rule: "describe topic t", code: topicRefused}},
			req: named("t", false), code: first,
		},
		{
			key: kmsg.Metadata, what: "of a topic that is made on first use", version: 9, prepare: fresh,
			needs: []need{{rule: "describe topic new", code: topicRefused}, {rule: "create topic new", code: topicRefused}},
			req:   named("new", true), code: first,
		},
		{
			key: kmsg.Metadata, what: "of a topic that is not there", version: 9, prepare: fresh, ok: kerr.UnknownTopicOrPartition.Code,
			needs: []need{{rule: "describe topic new", code: topicRefused}},
			req:   named("new", false), code: first,
		},
		{
			key: kmsg.Metadata, what: "of all topics", version: 9, prepare: withTopic, needs: []need{{rule: "describe topic t", code: unseen}},
			req: func(*broker) kmsg.Request { return kmsg.NewPtrMetadataRequest() },
			code: func(r kmsg.Response) int16 {
				for _, t := range r.(*kmsg.MetadataResponse).Topics {
					if *t.Topic == "t" {
						return t.ErrorCode
					}
				}
				return unseen
			},
		},
		{
			key: kmsg.Metadata, what: "by id", version: 12, prepare: withTopic, needs: []need{{rule: "describe topic t", code: topicRefused}},
			req: func(b *broker) kmsg.Request {
				t, _ := b.store.Topic("t")
				req := kmsg.NewPtrMetadataRequest()
				req.Topics = []kmsg.MetadataRequestTopic{{TopicID: t.ID}}
				return req
			},
			code: func(r kmsg.Response) int16 {
				t := r.(*kmsg.MetadataResponse).Topics[0]
				if t.ErrorCode != 0 && t.Topic != nil {
					return kerr.UnknownServerError.Code // it told the name
				}
				return t.ErrorCode
			},
		},
		{
			key: kmsg.CreateTopics, version: 5, prepare: fresh, needs: []need{{rule: "create topic new", code: topicRefused}},
			req: create, code: created,
		},
		{
			key: kmsg.CreateTopics, what: "for who may create any", version: 5, prepare: fresh, needs: []need{{rule: "create cluster", code: topicRefused}},
			req: create, code: created,
		},
		{
			key: kmsg.CreateTopics, what: "and what it looks like then", version: 5, prepare: fresh,
			needs: []need{{rule: "create topic new", code: topicRefused}, {rule: "describe_configs topic new", code: unseen}},
			req:   create,
			code: func(r kmsg.Response) int16 {
				t := r.(*kmsg.CreateTopicsResponse).Topics[0]
				if t.ErrorCode != 0 {
					return t.ErrorCode
				}
				return seen(len(t.Configs) > 0 && t.ConfigErrorCode == 0)
			},
		},
		{
			key: kmsg.DeleteTopics, version: 4, prepare: doomed,
			needs: []need{{rule: "delete topic d", code: topicRefused}, {rule: "describe topic d", code: topicRefused, implied: true}},
			req: func(*broker) kmsg.Request {
				return &kmsg.DeleteTopicsRequest{TopicNames: []string{"d"}, TimeoutMillis: 1000}
			},
			code: deleted,
		},
		{
			key: kmsg.DeleteTopics, what: "by id", version: 6, prepare: doomed,
			needs: []need{{rule: "describe topic d", code: topicRefused, implied: true}, {rule: "delete topic d", code: topicRefused}},
			req: func(b *broker) kmsg.Request {
				t, _ := b.store.Topic("d")
				return &kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{{TopicID: t.ID}}, TimeoutMillis: 1000}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode },
		},
		{
			key: kmsg.CreatePartitions, version: 2, prepare: withTopic, needs: []need{{rule: "alter topic t", code: topicRefused}},
			ok: kerr.InvalidPartitions.Code,
			req: func(*broker) kmsg.Request {
				return &kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 1}}}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode },
		},
		describeConfigsRow("of a topic", kmsg.ConfigResourceTypeTopic, "t", need{rule: "describe_configs topic t", code: topicRefused}),
		describeConfigsRow("of the node", kmsg.ConfigResourceTypeBroker, "0", need{rule: "describe_configs cluster", code: clusterRefused}),
		alterConfigsRow("of a topic", kmsg.ConfigResourceTypeTopic, "t", need{rule: "alter_configs topic t", code: topicRefused}, 0),
		alterConfigsRow("of the node", kmsg.ConfigResourceTypeBroker, "0", need{rule: "alter_configs cluster", code: clusterRefused}, kerr.PolicyViolation.Code),
		incrementalRow("of a topic", kmsg.ConfigResourceTypeTopic, "t", need{rule: "alter_configs topic t", code: topicRefused}, 0),
		incrementalRow("of the node", kmsg.ConfigResourceTypeBroker, "0", need{rule: "alter_configs cluster", code: clusterRefused}, kerr.PolicyViolation.Code),
	}
}

func describeConfigsRow(what string, kind kmsg.ConfigResourceType, name string, n need) row {
	return row{
		key: kmsg.DescribeConfigs, what: what, version: 1, prepare: withTopic, needs: []need{n},
		req: func(*broker) kmsg.Request {
			return &kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name}}}
		},
		code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeConfigsResponse).Resources[0].ErrorCode },
	}
}

func alterConfigsRow(what string, kind kmsg.ConfigResourceType, name string, n need, ok int16) row {
	return row{
		key: kmsg.AlterConfigs, what: what, version: 1, prepare: withTopic, needs: []need{n}, ok: ok,
		req: func(*broker) kmsg.Request {
			return &kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: name}}}
		},
		code: func(r kmsg.Response) int16 { return r.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode },
	}
}

func incrementalRow(what string, kind kmsg.ConfigResourceType, name string, n need, ok int16) row {
	return row{
		key: kmsg.IncrementalAlterConfigs, what: what, version: 1, prepare: withTopic, needs: []need{n}, ok: ok,
		req: func(*broker) kmsg.Request {
			return &kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name}}}
		},
		code: func(r kmsg.Response) int16 { return r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode },
	}
}

func clusterRows() []row {
	describe := []need{{rule: "describe cluster", code: clusterRefused}}
	administer := []need{{rule: "alter cluster", code: clusterRefused}}
	principal := "User:zoe"
	return []row{
		{
			key: kmsg.DescribeLogDirs, version: 3, prepare: withTopic, needs: append(describe, need{rule: "describe topic t", code: unseen}),
			req: func(*broker) kmsg.Request {
				return &kmsg.DescribeLogDirsRequest{Topics: []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{0}}}}
			},
			code: func(r kmsg.Response) int16 {
				resp := r.(*kmsg.DescribeLogDirsResponse)
				if resp.ErrorCode != 0 {
					return resp.ErrorCode
				}
				return seen(len(resp.Dirs[0].Topics) > 0)
			},
		},
		{
			key: kmsg.DescribeACLs, version: 2, needs: describe,
			req: func(*broker) kmsg.Request {
				req := kmsg.NewPtrDescribeACLsRequest()
				req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
				req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
				return req
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeACLsResponse).ErrorCode },
		},
		{
			key: kmsg.CreateACLs, version: 2, needs: administer,
			req: func(*broker) kmsg.Request {
				c := kmsg.NewCreateACLsRequestCreation()
				c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, "z", kmsg.ACLResourcePatternTypeLiteral
				c.Principal, c.Host, c.Operation, c.PermissionType = principal, "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
				return &kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{c}}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.CreateACLsResponse).Results[0].ErrorCode },
		},
		{
			key: kmsg.DeleteACLs, version: 2, needs: administer,
			req: func(*broker) kmsg.Request {
				f := kmsg.NewDeleteACLsRequestFilter()
				f.ResourceType, f.ResourcePatternType, f.Principal = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, &principal
				f.Operation, f.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
				return &kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{f}}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DeleteACLsResponse).Results[0].ErrorCode },
		},
		{
			key: kmsg.DescribeClientQuotas, version: 1, needs: []need{{rule: "describe_configs cluster", code: clusterRefused}},
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrDescribeClientQuotasRequest() },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeClientQuotasResponse).ErrorCode },
		},
		{
			key: kmsg.DescribeUserSCRAMCredentials, version: 0, needs: describe,
			req:  func(*broker) kmsg.Request { return kmsg.NewPtrDescribeUserSCRAMCredentialsRequest() },
			code: func(r kmsg.Response) int16 { return r.(*kmsg.DescribeUserSCRAMCredentialsResponse).ErrorCode },
		},
		{
			key: kmsg.AlterUserSCRAMCredentials, version: 0, needs: administer,
			req: func(*broker) kmsg.Request {
				u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
				u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = "zoe", scramSHA256, 4096, []byte("salt"), make([]byte, 32)
				return &kmsg.AlterUserSCRAMCredentialsRequest{Upsertions: []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{u}}
			},
			code: func(r kmsg.Response) int16 { return r.(*kmsg.AlterUserSCRAMCredentialsResponse).Results[0].ErrorCode },
		},
	}
}
