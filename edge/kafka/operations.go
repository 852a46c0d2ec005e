package kafka

import "rivulet/edge"

// Kafka's numbers of ACL operations, of which answers with authorized operations are bit sets.
const (
	opRead            = 3
	opWrite           = 4
	opCreate          = 5
	opDelete          = 6
	opAlter           = 7
	opDescribe        = 8
	opDescribeConfigs = 10
	opAlterConfigs    = 11
	opIdempotentWrite = 12
)

func (c *conn) ops(resource string, ops map[int]edge.Op) int32 {
	var bits int32
	for bit, op := range ops {
		if c.allow(op, resource) {
			bits |= 1 << bit
		}
	}
	return bits
}

func (c *conn) topicOps(topic string) int32 {
	return c.ops(topic, map[int]edge.Op{
		opRead: edge.OpRead, opWrite: edge.OpWrite, opCreate: edge.OpCreate, opDelete: edge.OpDelete, opAlter: edge.OpAlter,
		opDescribe: edge.OpDescribe, opDescribeConfigs: edge.OpDescribeConfigs, opAlterConfigs: edge.OpAlterConfigs,
	})
}

func (c *conn) groupOps(group string) int32 {
	return c.ops(group, map[int]edge.Op{opRead: edge.OpGroup, opDelete: edge.OpGroupDelete, opDescribe: edge.OpGroupDescribe})
}

// clusterOps is 0 for who may not describe the cluster, as Kafka has it.
func (c *conn) clusterOps() int32 {
	if !c.allow(edge.OpClusterDescribe, "") {
		return 0
	}
	return c.ops("", map[int]edge.Op{
		opAlter: edge.OpAdmin, opDescribe: edge.OpClusterDescribe, opDescribeConfigs: edge.OpClusterDescribeConfigs,
		opAlterConfigs: edge.OpClusterAlterConfigs, opIdempotentWrite: edge.OpIdempotentWrite,
	})
}
