package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeAcls: 1 to 3
//
//   - Rules of the configuration file and of the store alike, as far as Kafka's API can say them: rules on MQTT, plugins and
//     uplinks are not there.
//   - Where no authentication is configured: SECURITY_DISABLED.
func describeACLsAPI() api {
	return api{key: kmsg.DescribeACLs, min: 1, max: 3, handle: serve((*conn).describeACLs), refuse: refuseDescribeACLs}
}

func (c *conn) describeACLs(req *kmsg.DescribeACLsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeACLsResponse](req)
	filter := aclFilter{req.ResourceType, req.ResourceName, req.ResourcePatternType, req.Principal, req.Host, req.Operation, req.PermissionType}
	code, err := c.clusterCode(edge.OpClusterDescribe)
	if err == nil {
		if err = filter.check(); err != nil {
			code = kerr.InvalidRequest.Code
		}
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code, message(err)
		return resp
	}
	type resource struct {
		kind    kmsg.ACLResourceType
		name    string
		pattern kmsg.ACLResourcePatternType
	}
	at := map[resource]int{}
	for _, r := range c.s.o.Auth.Rules() {
		for _, b := range bindings(r) {
			if !filter.matches(&b) {
				continue
			}
			key := resource{b.resource, b.name, b.pattern}
			i, ok := at[key]
			if !ok {
				i = len(resp.Resources)
				at[key] = i
				rr := kmsg.NewDescribeACLsResponseResource()
				rr.ResourceType, rr.ResourceName, rr.ResourcePatternType = b.resource, b.name, b.pattern
				resp.Resources = append(resp.Resources, rr)
			}
			ra := kmsg.NewDescribeACLsResponseResourceACL()
			ra.Principal, ra.Host, ra.Operation, ra.PermissionType = b.principal, b.host, b.op, b.permit
			resp.Resources[i].ACLs = append(resp.Resources[i].ACLs, ra)
		}
	}
	return resp
}

// clusterCode is why the client may not do op on the cluster, if it may not, or that there is nothing to do it on.
func (c *conn) clusterCode(op edge.Op) (int16, error) {
	switch {
	case c.s.o.Auth == nil:
		return kerr.SecurityDisabled.Code, kerr.SecurityDisabled
	case !c.allow(op, ""):
		return kerr.ClusterAuthorizationFailed.Code, edge.ErrNotAuthorized
	}
	return 0, nil
}

func refuseDescribeACLs(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.DescribeACLsResponse](r)
	resp.ErrorCode = code
	return resp
}
