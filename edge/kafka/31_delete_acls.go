package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// DeleteAcls: 1 to 3
//
//   - Of a rule with several actions, those that the filter picks go; what is left of it is stored before it is deleted, so that
//     nothing that is denied is allowed for a moment.
//   - Rules of the configuration file stay, and are not among the answer's.
func deleteACLsAPI() api {
	return api{key: kmsg.DeleteACLs, min: 1, max: 3, handle: serve((*conn).deleteACLs)}
}

func (c *conn) deleteACLs(req *kmsg.DeleteACLsRequest) kmsg.Response {
	resp := respond[*kmsg.DeleteACLsResponse](req)
	code, refused := c.clusterCode(edge.OpAdmin)
	for _, rf := range req.Filters {
		res := kmsg.NewDeleteACLsResponseResult()
		res.ErrorCode, res.ErrorMessage = code, message(refused)
		f := aclFilter{rf.ResourceType, rf.ResourceName, rf.ResourcePatternType, rf.Principal, rf.Host, rf.Operation, rf.PermissionType}
		if refused == nil {
			if err := f.check(); err != nil {
				res.ErrorCode, res.ErrorMessage = kerr.InvalidRequest.Code, message(err)
			}
		}
		if res.ErrorCode == 0 {
			gone, err := c.deleteMatching(c.ctx(), &f)
			if err != nil {
				res.ErrorCode, res.ErrorMessage = c.securityCode(err), message(err)
			}
			for _, b := range gone {
				m := kmsg.NewDeleteACLsResponseResultMatchingACL()
				m.ResourceType, m.ResourceName, m.ResourcePatternType = b.resource, b.name, b.pattern
				m.Principal, m.Host, m.Operation, m.PermissionType = b.principal, b.host, b.op, b.permit
				res.MatchingACLs = append(res.MatchingACLs, m)
			}
		}
		resp.Results = append(resp.Results, res)
	}
	return resp
}

// deleteMatching takes what the filter picks out of the stored rules.
func (c *conn) deleteMatching(ctx context.Context, f *aclFilter) (gone []binding, err error) {
	a := c.s.o.Auth
	var rest []auth.Rule
	doomed := map[string]bool{}
	for _, r := range a.Rules() {
		if r.Source != auth.SourceStore || r.Kind == auth.KindAny {
			continue
		}
		left := r
		var picked []binding
		for _, b := range bindings(r) {
			if f.matches(&b) {
				picked = append(picked, b)
				left.Actions &^= b.action
			}
		}
		if len(picked) == 0 {
			continue
		}
		doomed[r.ID()] = true
		gone = append(gone, picked...)
		if left.Actions != 0 {
			rest = append(rest, left)
		}
	}
	if len(doomed) == 0 {
		return nil, nil
	}
	if len(rest) > 0 {
		if err := a.AddRules(ctx, rest...); err != nil {
			return nil, err
		}
	}
	deleted, err := a.DeleteRules(ctx, func(r auth.Rule) bool { return doomed[r.ID()] })
	if err != nil {
		return nil, err
	}
	for _, r := range deleted {
		c.audit("delete ACL", r.String())
	}
	return gone, nil
}
