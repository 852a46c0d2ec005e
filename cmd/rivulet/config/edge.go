package config

import (
	"maps"

	"rivulet/edge"
)

// Edge is the route as the broker takes it.
func (r Route) Edge() edge.Route {
	return edge.Route{MQTT: r.MQTT, Topic: r.Topic, Key: r.Key, Timestamp: r.Timestamp, Partition: r.Partition, Live: r.Store == "none"}
}

// Edge is the topic as the broker takes it: what has a key of its own here is part of the topic's configuration there.
func (t Topic) Edge() edge.TopicSpec {
	config := maps.Clone(t.Config)
	if config == nil {
		config = map[string]string{}
	}
	if t.Timestamps != "" {
		config["rivulet.timestamps"] = t.Timestamps
	}
	if t.Partition != "" {
		config["rivulet.partition"] = t.Partition
	}
	return edge.TopicSpec{Name: t.Name, Partitions: t.Partitions, Config: config}
}
