package kafka

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// configValue is one key of a topic's or the node's configuration as clients see it.
type configValue struct {
	name, value, def string
	source           kmsg.ConfigSource
	kind             kmsg.ConfigType
	doc              string
	readOnly         bool
}

// topicConfigValues is a topic's whole configuration, in order.
func topicConfigValues(set map[string]string) []configValue {
	keys := edge.TopicConfigs()
	list := make([]configValue, 0, len(keys))
	for _, k := range keys {
		v := configValue{
			name: k.Name, value: k.Default, def: k.Default, source: kmsg.ConfigSourceDefaultConfig, kind: configKind(k.Type), doc: k.Doc,
		}
		if value, ok := set[k.Name]; ok {
			v.value, v.source = value, kmsg.ConfigSourceDynamicTopicConfig
		}
		list = append(list, v)
	}
	return list
}

func configKind(t edge.ConfigType) kmsg.ConfigType {
	switch t {
	case edge.ConfigInt:
		return kmsg.ConfigTypeInt
	case edge.ConfigLong:
		return kmsg.ConfigTypeLong
	case edge.ConfigBool:
		return kmsg.ConfigTypeBoolean
	case edge.ConfigList:
		return kmsg.ConfigTypeList
	case edge.ConfigDouble:
		return kmsg.ConfigTypeDouble
	default:
		return kmsg.ConfigTypeString
	}
}

// nodeConfigValues is the node's configuration under the names that Kafka's tools look for. All of it is read-only: it
// comes from the configuration file.
func (c *conn) nodeConfigValues() []configValue {
	o := c.s.o
	host, port := c.address()
	listener := "PLAINTEXT://" + host + ":" + strconv.Itoa(int(port))
	maxTxn := c.s.txns.MaxTimeout().Milliseconds()
	minSession, maxSession := c.s.groups.SessionBounds()
	str, integer, long, boolean := kmsg.ConfigTypeString, kmsg.ConfigTypeInt, kmsg.ConfigTypeLong, kmsg.ConfigTypeBoolean
	list := []configValue{
		{name: "advertised.listeners", value: listener, kind: str, doc: "Where clients are told to connect."},
		{name: "auto.create.topics.enable", value: strconv.FormatBool(!o.NoAutoCreate), def: "true", kind: boolean, doc: "Whether topics are made on first use."},
		{name: "broker.id", value: strconv.Itoa(nodeID), kind: integer, doc: "Id of this node, the only one."},
		{name: "connections.max.idle.ms", value: strconv.FormatInt(o.IdleTimeout.Milliseconds(), 10), def: "600000", kind: long, doc: "After how long a connection without requests is closed, ms."},
		{name: "default.replication.factor", value: "1", def: "1", kind: integer, doc: "There is one node."},
		{name: "delete.topic.enable", value: "true", def: "true", kind: boolean, doc: "Whether topics can be deleted."},
		{name: "fetch.max.bytes", value: strconv.Itoa(o.MaxFetch), def: "16777216", kind: integer, doc: "Most bytes of one Fetch response."},
		{name: "group.max.session.timeout.ms", value: strconv.FormatInt(maxSession.Milliseconds(), 10), def: "1800000", kind: integer, doc: "Longest session of a group member, ms."},
		{name: "group.min.session.timeout.ms", value: strconv.FormatInt(minSession.Milliseconds(), 10), def: "1000", kind: integer, doc: "Shortest session of a group member, ms."},
		{name: "log.cleanup.policy", value: "delete", def: "delete", kind: kmsg.ConfigTypeList, doc: "What becomes of old records, unless the topic says otherwise."},
		{name: "log.message.timestamp.type", value: "CreateTime", def: "CreateTime", kind: str, doc: "Whose clock a record's timestamp is, unless the topic says otherwise."},
		{name: "log.retention.ms", value: "604800000", def: "604800000", kind: long, doc: "How long records are kept, unless the topic says otherwise, ms."},
		{name: "message.max.bytes", value: strconv.Itoa(defaultMaxBytes), def: strconv.Itoa(defaultMaxBytes), kind: integer, doc: "Largest batch, unless the topic says otherwise, bytes."},
		{name: "min.insync.replicas", value: "1", def: "1", kind: integer, doc: "There is one node."},
		{name: "node.id", value: strconv.Itoa(nodeID), kind: integer, doc: "Id of this node, the only one."},
		{name: "num.partitions", value: "1", def: "1", kind: integer, doc: "Partitions of a topic that is made without saying how many."},
		{name: "offsets.retention.minutes", value: "2147483647", def: "2147483647", kind: integer, doc: "Committed offsets are kept until their group or topic is deleted."},
		{name: "socket.request.max.bytes", value: strconv.Itoa(o.MaxRequest), def: "104857600", kind: integer, doc: "Largest request, bytes."},
		{name: "transaction.max.timeout.ms", value: strconv.FormatInt(maxTxn, 10), def: "60000", kind: integer, doc: "Longest transaction, ms."},
		{name: "transaction.state.log.replication.factor", value: "1", def: "1", kind: integer, doc: "There is one node."},
	}
	for i := range list {
		v := &list[i]
		v.readOnly, v.source = true, kmsg.ConfigSourceStaticBrokerConfig
		if v.def != "" && v.value == v.def {
			v.source = kmsg.ConfigSourceDefaultConfig
		}
	}
	return list
}
