package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// OffsetDelete: 0
//
// Forgets committed offsets of topics that no member of the group reads; the others: GROUP_SUBSCRIBED_TO_TOPIC.
func offsetDeleteAPI() api {
	return api{key: kmsg.OffsetDelete, min: 0, max: 0, handle: serve((*conn).offsetDelete), refuse: refuseOffsetDelete}
}

func (c *conn) offsetDelete(req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := respond[*kmsg.OffsetDeleteResponse](req)
	if !c.allow(edge.OpGroupDelete, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp
	}
	d, err := c.s.groups.Describe(req.Group)
	if err != nil {
		resp.ErrorCode = c.coordinatorCode(err, nil)
		return resp
	}
	if d.State != edge.GroupEmpty && d.Kind != consumerKind {
		resp.ErrorCode = kerr.NonEmptyGroup.Code
		return resp
	}
	read := subscribed(d)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		var code int16
		var partitions []int32
		for _, p := range t.Partitions {
			partitions = append(partitions, p.Partition)
		}
		switch {
		case !c.allow(edge.OpRead, t.Topic):
			code = kerr.TopicAuthorizationFailed.Code
		case slices.Contains(read, t.Topic):
			code = kerr.GroupSubscribedToTopic.Code
		default:
			code = c.coordinatorCode(c.s.groups.DeleteOffsets(c.ctx(), req.Group, t.Topic, partitions), nil)
		}
		for _, p := range partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// consumerKind is the protocol type of consumers, whose metadata says which topics they read.
const consumerKind = "consumer"

func subscribed(d edge.GroupDescription) []string {
	var topics []string
	for _, m := range d.Members {
		var meta kmsg.ConsumerMemberMetadata
		if err := meta.ReadFrom(m.Metadata); err == nil {
			topics = append(topics, meta.Topics...)
		}
	}
	return topics
}

func refuseOffsetDelete(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.OffsetDeleteResponse](r)
	resp.ErrorCode = code
	return resp
}
