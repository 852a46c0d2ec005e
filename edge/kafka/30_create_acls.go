package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// CreateAcls: 1 to 3
//
// Each ACL becomes a rule of its own, in the store that `rivulet acl` works on; one that is there already stays. They are durable
// when it is answered, all that are valid in one commit.
func createACLsAPI() api {
	return api{key: kmsg.CreateACLs, min: 1, max: 3, handle: serve((*conn).createACLs)}
}

func (c *conn) createACLs(req *kmsg.CreateACLsRequest) kmsg.Response {
	resp := respond[*kmsg.CreateACLsResponse](req)
	code, refused := c.clusterCode(edge.OpAdmin)
	var rules []auth.Rule
	for _, cr := range req.Creations {
		res := kmsg.NewCreateACLsResponseResult()
		res.ErrorCode, res.ErrorMessage = code, message(refused)
		if refused == nil {
			b := binding{
				resource: cr.ResourceType, name: cr.ResourceName, pattern: cr.ResourcePatternType, principal: cr.Principal,
				host: cr.Host, op: cr.Operation, permit: cr.PermissionType,
			}
			if r, err := b.rule(); err != nil {
				res.ErrorCode, res.ErrorMessage = kerr.InvalidRequest.Code, message(err)
			} else {
				rules = append(rules, r)
			}
		}
		resp.Results = append(resp.Results, res)
	}
	if len(rules) == 0 {
		return resp
	}
	if err := c.s.o.Auth.AddRules(c.ctx(), rules...); err != nil {
		for i := range resp.Results {
			if res := &resp.Results[i]; res.ErrorCode == 0 {
				res.ErrorCode, res.ErrorMessage = c.securityCode(err), message(err)
			}
		}
		return resp
	}
	for _, r := range rules {
		c.audit("create ACL", r.String())
	}
	return resp
}

// securityCode translates what the authority says of a change.
func (c *conn) securityCode(err error) int16 {
	switch {
	case errors.Is(err, auth.ErrReadOnly):
		return kerr.PolicyViolation.Code
	case errors.Is(err, auth.ErrInvalid):
		return kerr.InvalidRequest.Code
	}
	return c.code(err)
}

// audit records what was administrated.
func (c *conn) audit(what, resource string) {
	if a := c.s.o.Auth; a != nil {
		a.Record(auth.Event{
			Who: c.who.Name, From: c.who.Addr, Client: c.who.Client, Protocol: "kafka", What: what, Resource: resource, Allowed: true,
		})
	}
}
