package config

import (
	"strings"
	"time"
)

// mqtt checks what the protocol bounds.
func (k *checker) mqtt() {
	m := &k.c.MQTT
	most := func(key string, value, limit int, why string) {
		if value < 0 || value > limit {
			k.fail("mqtt."+key, "%d is not between 1 and %d%s", value, limit, why)
		}
	}
	const ids = ": there are no more packet identifiers"
	most("max_in_flight", m.MaxInFlight, 65535, ids)
	most("receive_maximum", m.ReceiveMaximum, 65535, ids)
	most("topic_aliases", m.TopicAliases, 65535, "")
	most("max_topic_levels", m.MaxTopicLevels, 65535, "")
	most("max_connections", m.MaxConnections, 1<<24, "")
	most("max_subscriptions", m.MaxSubscriptions, 1<<24, "")
	most("all_max_subscriptions", m.MaxAllSubs, 1<<24, "")
	most("messages_per_second", m.MessagesPerSecond, 1<<30, "")
	most("all_messages_per_second", m.AllMessagesPerSecond, 1<<30, "")
	if m.MaxPacket > 256<<20 {
		k.fail("mqtt.max_packet", "%s is more than 256MiB, which is the largest packet there is", m.MaxPacket)
	}
	if m.MaxQueued > 1<<30 {
		k.fail("mqtt.max_queued", "%s is more than 1GiB", m.MaxQueued)
	}
	if d := time.Duration(m.MaxKeepAlive); d != 0 && (d < time.Second || d > 65535*time.Second) {
		k.fail("mqtt.max_keep_alive", "%s is not between 1s and 65535s", d)
	}
	if strings.ContainsAny(m.ResponsePrefix, "+#\x00") {
		k.fail("mqtt.response_prefix", "%q holds wildcards; it begins a topic", m.ResponsePrefix)
	}
	if m.OnExcess != "" && m.MessagesPerSecond == 0 && m.BytesPerSecond == 0 {
		k.fail("mqtt.on_excess", "of what? say mqtt.messages_per_second or mqtt.bytes_per_second, too")
	}
}
