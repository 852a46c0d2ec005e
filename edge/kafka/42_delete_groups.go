package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DeleteGroups: 0 to 2
//
// A group without members, with its committed offsets. Durable when it is answered.
func deleteGroupsAPI() api {
	return api{key: kmsg.DeleteGroups, min: 0, max: 2, handle: serve((*conn).deleteGroups)}
}

func (c *conn) deleteGroups(req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := respond[*kmsg.DeleteGroupsResponse](req)
	for _, name := range req.Groups {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group = name
		if c.allow(edge.OpGroupDelete, name) {
			rg.ErrorCode = c.coordinatorCode(c.s.groups.Delete(c.ctx(), name), nil)
		} else {
			rg.ErrorCode = kerr.GroupAuthorizationFailed.Code
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}
