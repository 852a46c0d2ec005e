package edge

import (
	"strings"
	"unicode/utf8"

	"rivulet/storage/batch"
)

// Names of record headers (INTERFACE, Record of a publish).
const (
	HeaderTopic         = "mqtt.topic"
	HeaderQoS           = "mqtt.qos"
	HeaderRetain        = "mqtt.retain"
	HeaderContentType   = "mqtt.content-type"
	HeaderResponseTopic = "mqtt.response-topic"
	HeaderCorrelation   = "mqtt.correlation-data"
	HeaderClient        = "mqtt.client"
	HeaderExpiry        = "mqtt.expiry"
	HeaderPayloadFormat = "mqtt.payload-format"

	HeaderError  = "rivulet.error"
	HeaderSource = "rivulet.source"
	HeaderPlugin = "rivulet.plugin"
	HeaderUplink = "rivulet.uplink"
)

// MQTTName is the MQTT topic under which a record of the log is delivered to MQTT subscribers, nil when it is not. Its
// mqtt.topic header counts only on topics that routes write to; elsewhere the name is TOPIC/KEY, or TOPIC. The result may
// alias the payload.
func (b *Broker) MQTTName(p *Partition, payload batch.Payload) []byte {
	return b.nameIn(p.Topic(), payload)
}

// nameIn is MQTTName for a record of a topic. What it looks at is in the record's labels: appendLabels goes with it.
func (b *Broker) nameIn(topic string, payload batch.Payload) []byte {
	if Internal(topic) {
		return nil
	}
	routed := topic == DefaultTopic
	if routed || b.routes.Load().writesTo(topic) {
		if name, ok := payload.Header(HeaderTopic); ok && validName(name) {
			return name
		}
	}
	key := payload.Key()
	if routed {
		if validName(key) {
			return key
		}
		return nil
	}
	if len(key) > 0 {
		name := append(append([]byte(topic), '/'), key...)
		if validName(name) {
			return name
		}
	}
	return []byte(topic)
}

// validName is asked once a record and delivery.
func validName(name []byte) bool {
	if len(name) == 0 || len(name) > 65535 {
		return false
	}
	ascii := true
	for _, c := range name {
		if c == '+' || c == '#' || c == 0 {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(name)
}

// dlqSuffix names the topic of dead letters after their topic.
const dlqSuffix = ".dlq"

// DeadLetterTopic is where a topic's records go that cannot go on.
func DeadLetterTopic(topic string) string {
	if strings.HasSuffix(topic, dlqSuffix) {
		return topic // a dead letter that fails again stays where it is
	}
	return topic + dlqSuffix
}
