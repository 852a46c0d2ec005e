package kafka

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// ListGroups: 0 to 5
//
// Filters by state from version 4, by type from version 5; every group is of type "classic".
func listGroupsAPI() api {
	return api{key: kmsg.ListGroups, min: 0, max: 5, handle: serve((*conn).listGroups), refuse: refuseListGroups}
}

const groupType = "classic"

func (c *conn) listGroups(req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := respond[*kmsg.ListGroupsResponse](req)
	all := c.allow(edge.OpClusterDescribe, "")
	for _, g := range c.s.groups.List() {
		if !all && !c.allow(edge.OpGroupDescribe, g.Name) || !matches(req.StatesFilter, g.State.String()) || !matches(req.TypesFilter, groupType) {
			continue
		}
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = g.Name, g.Kind, g.State.String(), groupType
		resp.Groups = append(resp.Groups, rg)
	}
	return resp
}

// matches reports whether a filter, if there is one, names s.
func matches(filter []string, s string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, s) })
}

func refuseListGroups(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.ListGroupsResponse](r)
	resp.ErrorCode = code
	return resp
}
