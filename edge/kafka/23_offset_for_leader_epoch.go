package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// OffsetForLeaderEpoch: 2 to 4
//
// The epoch is 0 for ever: epoch 0 ends at the high watermark, and there is nothing to tell of any other. librdkafka
// uses exactly version 2.
func offsetForLeaderEpochAPI() api {
	return api{key: kmsg.OffsetForLeaderEpoch, min: 2, max: 4, handle: serve((*conn).offsetForLeaderEpoch)}
}

func (c *conn) offsetForLeaderEpoch(req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := respond[*kmsg.OffsetForLeaderEpochResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, rp := range t.Partitions {
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = rp.Partition, -1, -1
			part, code := c.partition(edge.OpDescribe, t.Topic, rp.Partition)
			if code == 0 {
				code = leaderEpochCode(rp.CurrentLeaderEpoch)
			}
			if code == 0 && rp.LeaderEpoch == 0 {
				_, _, p.EndOffset = part.Offsets()
				p.LeaderEpoch = 0
			}
			p.ErrorCode = code
			rt.Partitions = append(rt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
