package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// OffsetCommit: 2 to 9
//
//   - Durable when it is answered. Offsets are kept until the group or the topic is deleted: RetentionTimeMillis
//     (versions 2 to 4) has nothing to shorten.
//   - More than fits into one commit: INVALID_COMMIT_OFFSET_SIZE.
//   - Without a member (generation -1): for clients that assign partitions themselves, while the group has no members.
func offsetCommitAPI() api {
	return api{key: kmsg.OffsetCommit, min: 2, max: 9, handle: serve((*conn).offsetCommit)}
}

func (c *conn) offsetCommit(req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := respond[*kmsg.OffsetCommitResponse](req)
	commit := edge.OffsetCommit{
		Group: req.Group, MemberID: req.MemberID, InstanceID: deref(req.InstanceID), Generation: req.Generation,
	}
	var codes offsetCodes
	allowed := c.allow(edge.OpGroup, req.Group)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		readable := c.allow(edge.OpRead, t.Topic)
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			switch {
			case !allowed:
				rp.ErrorCode = kerr.GroupAuthorizationFailed.Code
			case !readable:
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			default:
				commit.Offsets = append(commit.Offsets, edge.GroupOffset{
					Topic: t.Topic, Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: deref(p.Metadata),
				})
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(commit.Offsets) == 0 {
		return resp
	}
	codes.set(c, c.s.groups.CommitOffsets(c.ctx(), &commit), commit.Errs)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = codes.next()
			}
		}
	}
	return resp
}

// offsetCodes are the codes of committed offsets, in the order in which they were handed to the coordinator.
type offsetCodes struct {
	all   int16 // when not 0
	codes []int16
}

func (o *offsetCodes) set(c *conn, err error, errs []error) {
	switch {
	case errors.Is(err, edge.ErrTooLarge):
		o.all = kerr.InvalidCommitOffsetSize.Code
		return
	case err != nil:
		o.all = c.coordinatorCode(err, nil)
		return
	}
	for _, err := range errs {
		o.codes = append(o.codes, c.code(err))
	}
}

func (o *offsetCodes) next() int16 {
	if o.all != 0 {
		return o.all
	}
	code := o.codes[0]
	o.codes = o.codes[1:]
	return code
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
