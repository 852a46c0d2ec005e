package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: 0 to 1
//
// One node. There are no controllers to ask for (endpoint type 2, from version 1): UNSUPPORTED_ENDPOINT_TYPE.
func describeClusterAPI() api {
	return api{key: kmsg.DescribeCluster, min: 0, max: 1, handle: serve((*conn).describeCluster), refuse: refuseDescribeCluster}
}

const endpointBrokers = 1

func (c *conn) describeCluster(req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeClusterResponse](req)
	resp.ClusterID, resp.ControllerID, resp.EndpointType = c.clusterID(), nodeID, endpointBrokers
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		return resp
	}
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = nodeID
	b.Host, b.Port = c.address()
	resp.Brokers = append(resp.Brokers, b)
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = c.clusterOps()
	}
	return resp
}

func refuseDescribeCluster(r kmsg.Request, code int16) kmsg.Response {
	resp := respond[*kmsg.DescribeClusterResponse](r)
	resp.ErrorCode = code
	return resp
}
