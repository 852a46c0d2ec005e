package kafka

import (
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeGroups: 0 to 5
//
// A group that does not exist is "Dead", without an error, as before version 6. One that is named twice is told once.
func describeGroupsAPI() api {
	return api{key: kmsg.DescribeGroups, min: 0, max: 5, handle: serve((*conn).describeGroups)}
}

func (c *conn) describeGroups(req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeGroupsResponse](req)
	for _, name := range once(req.Groups) {
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group, rg.State = name, "Dead"
		if !c.allow(edge.OpGroupDescribe, name) {
			rg.ErrorCode = kerr.GroupAuthorizationFailed.Code
			resp.Groups = append(resp.Groups, rg)
			continue
		}
		if req.IncludeAuthorizedOperations {
			rg.AuthorizedOperations = c.groupOps(name)
		}
		if d, err := c.s.groups.Describe(name); err == nil {
			rg.State, rg.ProtocolType, rg.Protocol = d.State.String(), d.Kind, d.Protocol
			for _, m := range d.Members {
				rm := kmsg.NewDescribeGroupsResponseGroupMember()
				rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.ID, ref(m.Instance), m.Client, "/"+m.Host
				rm.ProtocolMetadata, rm.MemberAssignment = m.Metadata, m.Assignment
				rg.Members = append(rg.Members, rm)
			}
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

// once is names without those that were there before.
func once(names []string) []string {
	told := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		again := told[name]
		told[name] = true
		return again
	})
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
