package edge

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Target is where the messages of one MQTT topic go.
type Target struct {
	MQTT  string
	Topic *Topic // nil: the route says `store: none`
	// Head is the beginning of a payload: key length and key. TopicHeader is the encoded header mqtt.topic. Front ends
	// append value and header count between them and their own headers behind.
	Head        []byte
	TopicHeader []byte

	partition int32 // -1: spread slice by slice
	timestamp []string
	settings  topicSettings
}

// Target resolves an MQTT topic by the routes and makes the log topic if need be. Front ends cache the answer per
// connection while Epoch stays the same. Errors: ErrInvalidTopic, ErrInternal, storage's.
func (b *Broker) Target(ctx context.Context, mqttTopic string) (*Target, error) {
	if mqttTopic == "" || len(mqttTopic) > 65535 || strings.ContainsAny(mqttTopic, "+#\x00") || !utf8.ValidString(mqttTopic) {
		return nil, fmt.Errorf("%w %q (MQTT-3.3.2-2)", ErrInvalidTopic, mqttTopic)
	}
	name, key, spread := DefaultTopic, mqttTopic, ""
	route, captures := b.routes.Load().find(mqttTopic)
	if route != nil && route.Live {
		t := &Target{MQTT: mqttTopic}
		t.encodeNames("")
		return t, nil
	}
	if route != nil {
		name, spread = logTopicName(expand(route.Topic, captures)), route.Partition
		if route.Key != "" {
			key = expand(route.Key, captures)
		}
	}
	if Internal(name) {
		return nil, fmt.Errorf("route of %q to %s: %w", mqttTopic, name, ErrInternal)
	}
	topic, err := b.EnsureTopic(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("topic of %q: %w", mqttTopic, err)
	}
	t := &Target{MQTT: mqttTopic, Topic: topic, settings: settingsOf(topic)}
	if spread != "" {
		t.settings.spread = spread
	}
	t.partition = t.settings.place([]byte(key), len(topic.Partitions))
	if route != nil {
		t.timestamp = route.path
	}
	t.encodeNames(key)
	return t, nil
}

// encodeNames makes what is the same in every record of the target.
func (t *Target) encodeNames(key string) {
	t.Head = append(binary.AppendVarint(nil, int64(len(key))), key...)
	t.TopicHeader = append(binary.AppendVarint(nil, int64(len(HeaderTopic))), HeaderTopic...)
	t.TopicHeader = append(binary.AppendVarint(t.TopicHeader, int64(len(t.MQTT))), t.MQTT...)
}

// logTopicName makes a valid topic name of what devices put into their topics.
func logTopicName(s string) string {
	name := []byte(s)
	for i, c := range name {
		if !topicByte(c) {
			name[i] = '_'
		}
	}
	name = name[:min(len(name), 249)]
	if s := string(name); s != "" && s != "." && s != ".." {
		return s
	}
	return "_"
}
