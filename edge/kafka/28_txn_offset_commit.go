package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// TxnOffsetCommit: 0 to 4
//
//   - Durable when it is answered; the group's offsets change with the transaction's commit.
//   - From version 3 the member that reads is checked (KIP-447), also while its group waits for an assignment.
//   - More than the transaction's end could take into one commit: INVALID_COMMIT_OFFSET_SIZE.
//   - Version 5 belongs to transaction.version 2.
func txnOffsetCommitAPI() api {
	return api{key: kmsg.TxnOffsetCommit, min: 0, max: 4, handle: serve((*conn).txnOffsetCommit)}
}

func (c *conn) txnOffsetCommit(req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := respond[*kmsg.TxnOffsetCommitResponse](req)
	commit := edge.OffsetCommit{Group: req.Group, Generation: -1}
	if req.Version >= 3 {
		commit.MemberID, commit.InstanceID, commit.Generation = req.MemberID, deref(req.InstanceID), req.Generation
	}
	var codes offsetCodes
	var refused int16
	switch {
	case !c.allow(edge.OpTxn, req.TransactionalID):
		refused = kerr.TransactionalIDAuthorizationFailed.Code
	case !c.allow(edge.OpGroup, req.Group):
		refused = kerr.GroupAuthorizationFailed.Code
	}
	for _, t := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		readable := c.allow(edge.OpRead, t.Topic)
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, refused
			if rp.ErrorCode == 0 && !readable {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			}
			if rp.ErrorCode == 0 {
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
	// This request has no code for a fenced producer but the old one.
	err := c.s.txns.CommitOffsets(c.ctx(), req.TransactionalID, req.ProducerID, req.ProducerEpoch, &commit)
	codes.set(c, err, commit.Errs)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = codes.next()
			}
		}
	}
	return resp
}
