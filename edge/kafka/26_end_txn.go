package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// EndTxn: 0 to 4
//
//   - Markers, offsets and outcome are one commit, durable when it is answered: a reader sees all of the transaction, or
//     nothing. The same EndTxn again is answered alike.
//   - From version 2 a fenced producer gets PRODUCER_FENCED. Version 5 belongs to transaction.version 2.
func endTxnAPI() api {
	return api{key: kmsg.EndTxn, min: 0, max: 4, handle: serve((*conn).endTxn), refuse: refuseEndTxn}
}

func (c *conn) endTxn(req *kmsg.EndTxnRequest) kmsg.Response {
	resp := respond[*kmsg.EndTxnResponse](req)
	if !c.allow(edge.OpTxn, req.TransactionalID) {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp
	}
	err := c.s.txns.End(c.ctx(), req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit)
	resp.ErrorCode = c.coordinatorCode(err, fencedCode(req.Version >= 2))
	return resp
}

func refuseEndTxn(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.EndTxnResponse](r)
	resp.ErrorCode = code
	return resp
}
