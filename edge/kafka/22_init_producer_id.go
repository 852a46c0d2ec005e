package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// InitProducerId: 0 to 4
//
//   - Without a transactional id: a new producer id, epoch 0.
//   - With one: the id's next epoch. The producer that had it is fenced and its open transaction aborted, all in one
//     commit, so that CONCURRENT_TRANSACTIONS is only seen while that is under way.
//   - From version 3 a producer may ask to go on with its own id and epoch (KIP-360), also after its transaction timed
//     out (KIP-588).
//   - A timeout above transaction.max.timeout.ms: INVALID_TRANSACTION_TIMEOUT. From version 4 a fenced producer gets
//     PRODUCER_FENCED, before INVALID_PRODUCER_EPOCH.
func initProducerIDAPI() api {
	return api{key: kmsg.InitProducerID, min: 0, max: 4, handle: serve((*conn).initProducerID), refuse: refuseInitProducerID}
}

func (c *conn) initProducerID(req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := respond[*kmsg.InitProducerIDResponse](req)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	in := edge.InitProducer{
		TxnID: deref(req.TransactionalID), Timeout: time.Duration(req.TransactionTimeoutMillis) * time.Millisecond,
		ProducerID: -1, Epoch: -1,
	}
	if req.Version >= 3 {
		in.ProducerID, in.Epoch = req.ProducerID, req.ProducerEpoch
	}
	switch {
	case req.TransactionalID != nil && in.TxnID == "":
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	case in.TxnID != "" && !c.allow(edge.OpTxn, in.TxnID):
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp
	}
	if req.TransactionalID == nil && !c.allow(edge.OpIdempotentWrite, "") {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp
	}
	pid, epoch, err := c.s.txns.Init(c.ctx(), in)
	if err != nil {
		resp.ErrorCode = c.coordinatorCode(err, fencedCode(req.Version >= 4))
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = pid, epoch
	return resp
}

// fencedCode is what a fenced producer is told: newer versions have a code of their own (KIP-588).
func fencedCode(newer bool) *kerr.Error {
	if newer {
		return kerr.ProducerFenced
	}
	return kerr.InvalidProducerEpoch
}

func refuseInitProducerID(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.InitProducerIDResponse](r)
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, -1, -1
	return resp
}
