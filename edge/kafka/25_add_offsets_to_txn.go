package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// AddOffsetsToTxn: 0 to 3
//
// Durable when it is answered. From version 2 a fenced producer gets PRODUCER_FENCED.
func addOffsetsToTxnAPI() api {
	return api{key: kmsg.AddOffsetsToTxn, min: 0, max: 3, handle: serve((*conn).addOffsetsToTxn), refuse: refuseAddOffsetsToTxn}
}

func (c *conn) addOffsetsToTxn(req *kmsg.AddOffsetsToTxnRequest) kmsg.Response {
	resp := respond[*kmsg.AddOffsetsToTxnResponse](req)
	switch {
	case !c.allow(edge.OpTxn, req.TransactionalID):
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
	case !c.allow(edge.OpGroup, req.Group):
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
	default:
		err := c.s.txns.AddGroup(c.ctx(), req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group)
		resp.ErrorCode = c.coordinatorCode(err, fencedCode(req.Version >= 2))
	}
	return resp
}

func refuseAddOffsetsToTxn(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.AddOffsetsToTxnResponse](r)
	resp.ErrorCode = code
	return resp
}
