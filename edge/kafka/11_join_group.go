package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// JoinGroup: 0 to 9
//
//   - Answered when the generation begins: when all members joined, or the longest rebalance timeout is over.
//   - From version 4 a new member first gets MEMBER_ID_REQUIRED and an id (KIP-394).
//   - Static members from version 5 (KIP-345); a leader that came back keeps the assignment from version 9 (KIP-814).
//   - Version 0 has no rebalance timeout: it is the session's.
func joinGroupAPI() api {
	return api{key: kmsg.JoinGroup, min: 0, max: 9, handle: serve((*conn).joinGroup), refuse: refuseJoinGroup, keeps: true}
}

func (c *conn) joinGroup(req *kmsg.JoinGroupRequest) kmsg.Response {
	resp := respond[*kmsg.JoinGroupResponse](req)
	if !c.allow(edge.OpGroup, req.Group) {
		resp.ErrorCode, resp.Generation, resp.MemberID = kerr.GroupAuthorizationFailed.Code, -1, req.MemberID
		emptyProtocol(resp)
		return resp
	}
	join := edge.JoinRequest{
		Group: req.Group, MemberID: req.MemberID, InstanceID: deref(req.InstanceID),
		Client: c.who.Client, Host: hostOf(c.who.Addr), Kind: req.ProtocolType,
		Session:        time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		GiveID:         req.Version >= 4,
		SkipAssignment: req.Version >= 9,
	}
	if req.Version >= 1 {
		join.Rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	}
	for _, p := range req.Protocols {
		join.Protocols = append(join.Protocols, edge.GroupProtocol{Name: p.Name, Metadata: p.Metadata})
	}
	res := c.s.groups.Join(c.ctx(), join)
	resp.MemberID, resp.Generation = res.MemberID, res.Generation
	if res.Err != nil {
		resp.ErrorCode = c.coordinatorCode(res.Err, nil)
		emptyProtocol(resp)
		return resp
	}
	resp.ProtocolType, resp.Protocol = &res.Kind, &res.Protocol
	resp.LeaderID, resp.SkipAssignment = res.Leader, res.SkipAssignment
	for _, m := range res.Members {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.ID, ref(m.Instance), m.Metadata
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

// emptyProtocol fills what may not be null before version 7.
func emptyProtocol(resp *kmsg.JoinGroupResponse) {
	if resp.Version < 7 {
		empty := ""
		resp.Protocol = &empty
	}
}

// ref is s, or null when it is empty.
func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func refuseJoinGroup(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.JoinGroupResponse](r)
	resp.ErrorCode, resp.Generation = code, -1
	emptyProtocol(resp)
	return resp
}
