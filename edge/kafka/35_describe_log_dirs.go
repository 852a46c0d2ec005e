package kafka

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// DescribeLogDirs: 1 to 3
//
// One directory, with the bytes that each partition's sealed batches take.
func describeLogDirsAPI() api {
	return api{key: kmsg.DescribeLogDirs, min: 1, max: 3, handle: serve((*conn).describeLogDirs)}
}

func (c *conn) describeLogDirs(req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := respond[*kmsg.DescribeLogDirsResponse](req)
	if !c.allow(edge.OpClusterDescribe, "") {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = "log"
	wanted := make(map[string][]int32)
	for _, t := range req.Topics {
		wanted[t.Topic] = append(wanted[t.Topic], t.Partitions...)
	}
	for _, t := range c.s.broker.Store().Topics() {
		list, named := wanted[t.Name]
		if req.Topics != nil && !named || !c.allow(edge.OpDescribe, t.Name) {
			continue
		}
		rt := kmsg.NewDescribeLogDirsResponseDirTopic()
		rt.Topic = t.Name
		for _, p := range t.Partitions {
			if named && len(list) > 0 && !slices.Contains(list, p.Index) {
				continue
			}
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition = p.Index
			_, rp.Size = p.Size()
			rt.Partitions = append(rt.Partitions, rp)
		}
		dir.Topics = append(dir.Topics, rt)
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}
