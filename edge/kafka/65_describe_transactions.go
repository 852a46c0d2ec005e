package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeTransactions: 0
func describeTransactionsAPI() api {
	return api{key: kmsg.DescribeTransactions, min: 0, max: 0, handle: serve((*conn).describeTransactions)}
}

func (c *conn) describeTransactions(req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeTransactionsResponse](req)
	for _, id := range once(req.TransactionalIDs) {
		rs := kmsg.NewDescribeTransactionsResponseTransactionState()
		rs.TransactionalID = id
		if !c.allow(edge.OpTxnDescribe, id) {
			rs.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		} else if info, err := c.s.txns.Describe(id); err != nil {
			rs.ErrorCode = c.code(err)
		} else {
			rs.State, rs.TimeoutMillis = txnStateName(info.State), int32(info.Timeout.Milliseconds())
			rs.ProducerID, rs.ProducerEpoch, rs.StartTimestamp = info.ProducerID, info.Epoch, -1
			if !info.Started.IsZero() {
				rs.StartTimestamp = info.Started.UnixMilli()
			}
			for topic, parts := range info.Parts {
				if !c.allow(edge.OpDescribe, topic) {
					continue
				}
				rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
				rt.Topic, rt.Partitions = topic, slices.Sorted(slices.Values(parts))
				rs.Topics = append(rs.Topics, rt)
			}
		}
		resp.TransactionStates = append(resp.TransactionStates, rs)
	}
	return resp
}

// txnStateName is a state as Kafka's tools show it.
func txnStateName(state string) string {
	switch state {
	case "ongoing":
		return "Ongoing"
	case "committed":
		return "CompleteCommit"
	case "aborted":
		return "CompleteAbort"
	default:
		return "Empty"
	}
}
