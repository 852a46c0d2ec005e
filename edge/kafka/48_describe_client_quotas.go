package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeClientQuotas: 0 to 1
//
// There are none. It is answered since Kafka's tool asks for the quotas of a user before it shows the user's SCRAM credentials.
func describeClientQuotasAPI() api {
	return api{key: kmsg.DescribeClientQuotas, min: 0, max: 1, handle: serve((*conn).describeClientQuotas), refuse: refuseClientQuotas}
}

func (c *conn) describeClientQuotas(req *kmsg.DescribeClientQuotasRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeClientQuotasResponse](req)
	if !c.allow(edge.OpClusterDescribeConfigs, "") {
		resp.ErrorCode, resp.ErrorMessage = kerr.ClusterAuthorizationFailed.Code, message(edge.ErrNotAuthorized)
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	return resp
}

func refuseClientQuotas(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.DescribeClientQuotasResponse](r)
	resp.ErrorCode = code
	return resp
}
