package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// ListOffsets: 1 to 8
//
//   - -1 latest (read_committed, from version 2: the last stable offset), -2 and -4 earliest, -3 the largest timestamp
//     (from version 7), else the first record at or after a time.
//   - No such record: offset and timestamp -1, no error.
func listOffsetsAPI() api {
	return api{key: kmsg.ListOffsets, min: 1, max: 8, handle: serve((*conn).listOffsets), refuse: refuseListOffsets}
}

// The timestamps that stand for positions.
const (
	latestOffset        = -1
	earliestOffset      = -2
	maxTimestampOffset  = -3
	earliestLocalOffset = -4
)

func (c *conn) listOffsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := respond[*kmsg.ListOffsetsResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, rp := range t.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Offset, p.Timestamp, p.LeaderEpoch = rp.Partition, -1, -1, -1
			part, code := c.partition(edge.OpDescribe, t.Topic, rp.Partition)
			if code == 0 {
				code = leaderEpochCode(rp.CurrentLeaderEpoch)
			}
			if code == 0 {
				code = c.listOffset(part, rp.Timestamp, req, &p)
			}
			p.ErrorCode = code
			rt.Partitions = append(rt.Partitions, p)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// partition finds a partition that the client may op.
func (c *conn) partition(op edge.Op, topic string, index int32) (*edge.Partition, int16) {
	if !c.allow(op, topic) {
		return nil, kerr.TopicAuthorizationFailed.Code
	}
	t, ok := c.s.broker.Store().Topic(topic)
	if !ok || index < 0 || int(index) >= len(t.Partitions) {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	return t.Partitions[index], 0
}

// toldOffsets are a partition's offsets as clients are told them: DeleteRecords may move the log start past the beginning of an open
// transaction, and the last stable offset is not told to be before the start, where nobody can read.
func toldOffsets(p *edge.Partition) (start, stable, high int64) {
	start, stable, high = p.Offsets()
	return start, max(stable, start), high
}

func (c *conn) listOffset(part *edge.Partition, at int64, req *kmsg.ListOffsetsRequest, p *kmsg.ListOffsetsResponseTopicPartition) int16 {
	start, stable, high := toldOffsets(part)
	end := high
	if req.IsolationLevel == 1 {
		end = stable
	}
	switch {
	case at == latestOffset:
		p.Offset, p.LeaderEpoch = end, 0
	case at == earliestOffset, at == earliestLocalOffset && req.Version >= 8:
		p.Offset, p.LeaderEpoch = start, 0
	case at == maxTimestampOffset && req.Version >= 7:
		offset, ts, err := part.MaxTimestamp()
		if err != nil {
			return c.code(err)
		}
		if offset >= 0 {
			p.Offset, p.Timestamp, p.LeaderEpoch = offset, ts, 0
		}
	case at < 0:
		return kerr.UnsupportedVersion.Code
	default:
		offset, ts, ok, err := part.OffsetForTime(at)
		if err != nil {
			return c.code(err)
		}
		if ok && offset < end {
			p.Offset, p.Timestamp, p.LeaderEpoch = offset, ts, 0
		}
	}
	return 0
}

func refuseListOffsets(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.ListOffsetsRequest)
	if req.Topics == nil && req.IsFlexible() { // it was not decoded
		return nil
	}
	resp := respond[*kmsg.ListOffsetsResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
