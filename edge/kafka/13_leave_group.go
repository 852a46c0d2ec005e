package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// LeaveGroup: 0 to 5
//
// From version 3 many members at once, also by their instance id alone; before, one by its member id.
func leaveGroupAPI() api {
	return api{key: kmsg.LeaveGroup, min: 0, max: 5, handle: serve((*conn).leaveGroup), refuse: refuseLeaveGroup}
}

func (c *conn) leaveGroup(req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := respond[*kmsg.LeaveGroupResponse](req)
	if !c.allow(edge.OpGroup, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp
	}
	if req.Version < 3 {
		resp.ErrorCode = c.coordinatorCode(c.s.groups.Leave(req.Group, req.MemberID, ""), nil)
		return resp
	}
	for _, m := range req.Members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = m.MemberID, m.InstanceID
		rm.ErrorCode = c.coordinatorCode(c.s.groups.Leave(req.Group, m.MemberID, deref(m.InstanceID)), nil)
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

func refuseLeaveGroup(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.LeaveGroupResponse](r)
	resp.ErrorCode = code
	return resp
}
