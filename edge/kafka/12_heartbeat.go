package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// Heartbeat: 0 to 4
//
// REBALANCE_IN_PROGRESS tells the member to join again. Static members from version 3.
func heartbeatAPI() api {
	return api{key: kmsg.Heartbeat, min: 0, max: 4, handle: serve((*conn).heartbeat), refuse: refuseHeartbeat}
}

func (c *conn) heartbeat(req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := respond[*kmsg.HeartbeatResponse](req)
	if !c.allow(edge.OpGroup, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp
	}
	err := c.s.groups.Heartbeat(req.Group, req.MemberID, deref(req.InstanceID), req.Generation)
	resp.ErrorCode = c.coordinatorCode(err, nil)
	return resp
}

func refuseHeartbeat(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.HeartbeatResponse](r)
	resp.ErrorCode = code
	return resp
}
