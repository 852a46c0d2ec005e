package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// SyncGroup: 0 to 5
//
// Answered when the leader's assignment is there. Static members from version 3; from version 5 the protocol is checked.
func syncGroupAPI() api {
	return api{key: kmsg.SyncGroup, min: 0, max: 5, handle: serve((*conn).syncGroup), refuse: refuseSyncGroup, keeps: true}
}

func (c *conn) syncGroup(req *kmsg.SyncGroupRequest) kmsg.Response {
	resp := respond[*kmsg.SyncGroupResponse](req)
	resp.MemberAssignment = []byte{}
	if !c.allow(edge.OpGroup, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp
	}
	sync := edge.SyncRequest{
		Group: req.Group, MemberID: req.MemberID, InstanceID: deref(req.InstanceID), Generation: req.Generation,
		Kind: deref(req.ProtocolType), Protocol: deref(req.Protocol), Assignments: make(map[string][]byte, len(req.GroupAssignment)),
	}
	for _, a := range req.GroupAssignment {
		sync.Assignments[a.MemberID] = a.MemberAssignment
	}
	res := c.s.groups.Sync(c.ctx(), sync)
	if res.Err != nil {
		resp.ErrorCode = c.coordinatorCode(res.Err, nil)
		return resp
	}
	resp.ProtocolType, resp.Protocol = &res.Kind, &res.Protocol
	if res.Assignment != nil {
		resp.MemberAssignment = res.Assignment
	}
	return resp
}

func refuseSyncGroup(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.SyncGroupResponse](r)
	resp.ErrorCode, resp.MemberAssignment = code, []byte{}
	return resp
}
