package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// AddPartitionsToTxn: 0 to 3
//
//   - Durable when it is answered. If one partition cannot be added none is: the others get OPERATION_NOT_ATTEMPTED.
//   - From version 2 a fenced producer gets PRODUCER_FENCED. Version 4 is for brokers among themselves.
func addPartitionsToTxnAPI() api {
	return api{key: kmsg.AddPartitionsToTxn, min: 0, max: 3, handle: serve((*conn).addPartitionsToTxn), refuse: refuseAddPartitionsToTxn}
}

func (c *conn) addPartitionsToTxn(req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	resp := respond[*kmsg.AddPartitionsToTxnResponse](req)
	var parts []edge.TxnPartition
	bad := false
	for _, t := range req.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = p
			_, rp.ErrorCode = c.partition(edge.OpWrite, t.Topic, p)
			if rp.ErrorCode == 0 && edge.Internal(t.Topic) {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			}
			bad = bad || rp.ErrorCode != 0
			parts = append(parts, edge.TxnPartition{Topic: t.Topic, Partition: p})
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	var code int16
	switch {
	case !c.allow(edge.OpTxn, req.TransactionalID): // whatever else is wrong
		return c.refuseTxn(resp)
	case bad:
		code = kerr.OperationNotAttempted.Code
	default:
		err := c.s.txns.AddPartitions(c.ctx(), req.TransactionalID, req.ProducerID, req.ProducerEpoch, parts)
		code = c.coordinatorCode(err, fencedCode(req.Version >= 2))
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
	return resp
}

func (c *conn) refuseTxn(resp *kmsg.AddPartitionsToTxnResponse) kmsg.Response {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		}
	}
	return resp
}

func refuseAddPartitionsToTxn(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.AddPartitionsToTxnResponse](r)
	resp.ErrorCode = code
	return resp
}
