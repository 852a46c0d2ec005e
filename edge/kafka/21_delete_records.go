package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DeleteRecords: 0 to 2
//
//   - Moves log starts; durable when it is answered. Offset -1 is the high watermark. LowWatermark is the log start then.
//   - A topic that is compacted and nothing else: POLICY_VIOLATION.
func deleteRecordsAPI() api {
	return api{key: kmsg.DeleteRecords, min: 0, max: 2, handle: serve((*conn).deleteRecords)}
}

func (c *conn) deleteRecords(req *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := respond[*kmsg.DeleteRecordsResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, rp := range t.Partitions {
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = rp.Partition, -1
			part, code := c.partition(edge.OpDelete, t.Topic, rp.Partition)
			switch {
			case code != 0:
			case edge.Internal(t.Topic):
				code = kerr.TopicAuthorizationFailed.Code
			default:
				if code = c.code(c.s.broker.TrimTopic(c.ctx(), t.Topic, []edge.Trim{{Partition: rp.Partition, Offset: rp.Offset}})); code == 0 {
					p.LowWatermark, _, _ = part.Offsets()
				}
			}
			p.ErrorCode = code
			rt.Partitions = append(rt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
