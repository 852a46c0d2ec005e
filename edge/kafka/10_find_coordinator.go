package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// FindCoordinator: 0 to 4
//
// The only node coordinates every group (type 0) and every transactional id (type 1). Many keys from version 4.
func findCoordinatorAPI() api {
	return api{key: kmsg.FindCoordinator, min: 0, max: 4, handle: serve((*conn).findCoordinator), refuse: refuseFindCoordinator}
}

const (
	coordinatorGroup = 0
	coordinatorTxn   = 1
)

func (c *conn) findCoordinator(req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := respond[*kmsg.FindCoordinatorResponse](req)
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	for _, key := range keys {
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.NodeID = key, -1
		switch {
		case req.CoordinatorType == coordinatorGroup && !c.allow(edge.OpGroupDescribe, key):
			rc.ErrorCode = kerr.GroupAuthorizationFailed.Code
		case req.CoordinatorType == coordinatorTxn && !c.allow(edge.OpTxnDescribe, key):
			rc.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		case req.CoordinatorType != coordinatorGroup && req.CoordinatorType != coordinatorTxn:
			rc.ErrorCode = kerr.InvalidRequest.Code
		default:
			rc.NodeID = nodeID
			rc.Host, rc.Port = c.address()
		}
		resp.Coordinators = append(resp.Coordinators, rc)
	}
	if req.Version < 4 {
		rc := resp.Coordinators[0]
		resp.Coordinators = nil
		resp.ErrorCode, resp.NodeID, resp.Host, resp.Port = rc.ErrorCode, rc.NodeID, rc.Host, rc.Port
	}
	return resp
}

func refuseFindCoordinator(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.FindCoordinatorRequest)
	resp := respond[*kmsg.FindCoordinatorResponse](req)
	resp.ErrorCode, resp.NodeID = code, -1
	for _, key := range req.CoordinatorKeys {
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.NodeID, rc.ErrorCode = key, -1, code
		resp.Coordinators = append(resp.Coordinators, rc)
	}
	return resp
}
