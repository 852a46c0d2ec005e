package config

import (
	"maps"
	"strconv"

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
	set := func(key, value string) {
		if value != "" {
			config[key] = value
		}
	}
	set("rivulet.timestamps", t.Timestamps)
	set("rivulet.partition", t.Partition)
	set("rivulet.when.full", t.WhenFull)
	if t.Priority != 0 {
		set("rivulet.priority", strconv.Itoa(t.Priority))
	}
	if t.DropUnmirror {
		set("rivulet.drop.unmirrored", "true")
	}
	return edge.TopicSpec{Name: t.Name, Partitions: t.Partitions, Config: config}
}
