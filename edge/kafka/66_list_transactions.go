package kafka

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// ListTransactions: 0 to 1
//
// Filters by state, producer id, and, from version 1, by how long a transaction has been open.
func listTransactionsAPI() api {
	return api{key: kmsg.ListTransactions, min: 0, max: 1, handle: serve((*conn).listTransactions), refuse: refuseListTransactions}
}

func (c *conn) listTransactions(req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := respond[*kmsg.ListTransactionsResponse](req)
	for _, s := range req.StateFilters {
		switch s {
		case "Ongoing", "CompleteCommit", "CompleteAbort", "Empty", "PrepareCommit", "PrepareAbort", "Dead", "PrepareEpochFence":
		default:
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	longer := time.Duration(req.DurationFilterMillis) * time.Millisecond
	for _, info := range c.s.txns.List() {
		state := txnStateName(info.State)
		switch {
		case !c.allow(edge.OpTxnDescribe, info.ID),
			len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, state),
			len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, info.ProducerID),
			req.Version >= 1 && longer >= 0 && (info.Started.IsZero() || c.s.now().Sub(info.Started) <= longer):
			continue
		}
		rs := kmsg.NewListTransactionsResponseTransactionState()
		rs.TransactionalID, rs.ProducerID, rs.TransactionState = info.ID, info.ProducerID, state
		resp.TransactionStates = append(resp.TransactionStates, rs)
	}
	return resp
}

func refuseListTransactions(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.ListTransactionsResponse](r)
	resp.ErrorCode = code
	return resp
}
