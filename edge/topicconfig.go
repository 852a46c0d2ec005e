package edge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ConfigType is how a topic's configuration value is written.
type ConfigType uint8

// The types, as Kafka's DescribeConfigs names them.
const (
	ConfigInt ConfigType = iota
	ConfigLong
	ConfigString
	ConfigBool
	ConfigList
	ConfigDouble
)

// ConfigKey is one key of a topic's configuration. Kafka's own keep Kafka's names and meaning; ours begin with rivulet.
type ConfigKey struct {
	Name    string
	Type    ConfigType
	Default string
	Values  []string // when only these are allowed
	Min     int64    // of an Int or Long
	Doc     string
}

// TopicConfigs lists all keys in order.
func TopicConfigs() []ConfigKey {
	return []ConfigKey{
		{Name: "cleanup.policy", Type: ConfigList, Default: "delete", Values: []string{"delete", "compact"}, Doc: "What becomes of old records."},
		{Name: "compression.type", Type: ConfigString, Default: "producer", Values: []string{"producer", "lz4"}, Doc: "Codec of sealed batches; large batches that a producer compressed stay as they are."},
		{Name: "delete.retention.ms", Type: ConfigLong, Default: "86400000", Min: 0, Doc: "How long tombstones of a compacted topic are kept, ms."},
		{Name: "max.message.bytes", Type: ConfigInt, Default: "1048588", Min: 0, Doc: "Largest batch that a producer may send, bytes."},
		{Name: "message.timestamp.type", Type: ConfigString, Default: "CreateTime", Values: []string{"CreateTime", "LogAppendTime"}, Doc: "Whose clock a record's timestamp is: the producer's or the broker's."},
		{Name: "min.compaction.lag.ms", Type: ConfigLong, Default: "0", Min: 0, Doc: "How long a record of a compacted topic is left alone, ms."},
		{Name: "retention.bytes", Type: ConfigLong, Default: "-1", Min: -1, Doc: "Stored bytes a partition keeps; -1 is no bound."},
		{Name: "retention.ms", Type: ConfigLong, Default: "604800000", Min: -1, Doc: "How long records are kept, ms; -1 is for ever."},
		{Name: "rivulet.partition", Type: ConfigString, Default: "key", Values: []string{"key", "round_robin", "range"}, Doc: "How MQTT and HTTP records without a chosen partition are spread."},
		{Name: "rivulet.range.bounds", Type: ConfigList, Default: "", Doc: "Ascending keys that divide the partitions of a topic spread by range: partition i holds the keys below bound i. Empty: equal parts of the byte space."},
		{Name: "rivulet.timestamps", Type: ConfigString, Default: "clamp", Values: []string{"arrival", "keep", "clamp"}, Doc: "What becomes of producers' timestamps: clamp keeps them unless they are more than 10 minutes ahead of the broker's clock."},
	}
}

// CheckTopicConfig refuses unknown keys and wrong values with an error that names both.
func CheckTopicConfig(config map[string]string) error {
	keys := TopicConfigs()
	for name, value := range config {
		i := slices.IndexFunc(keys, func(k ConfigKey) bool { return k.Name == name })
		if i < 0 {
			names := make([]string, len(keys))
			for i, k := range keys {
				names[i] = k.Name
			}
			return fmt.Errorf("%w: unknown key %q (nearest: %s)", ErrInvalidConfig, name, Nearest(name, names))
		}
		if err := keys[i].check(value); err != nil {
			return fmt.Errorf("%w: %s=%s: %w", ErrInvalidConfig, name, value, err)
		}
	}
	return nil
}

func (k ConfigKey) check(value string) error {
	switch k.Type {
	case ConfigInt, ConfigLong:
		bits := 64
		if k.Type == ConfigInt {
			bits = 32
		}
		n, err := strconv.ParseInt(value, 10, bits)
		if err != nil || n < k.Min {
			return fmt.Errorf("want a whole number from %d up", k.Min)
		}
	case ConfigBool:
		if value != "true" && value != "false" {
			return fmt.Errorf("want true or false")
		}
	case ConfigString:
		if k.Values != nil && !slices.Contains(k.Values, value) {
			return fmt.Errorf("want one of %s", strings.Join(k.Values, ", "))
		}
	case ConfigList:
		if k.Values == nil {
			return nil
		}
		for v := range strings.SplitSeq(value, ",") {
			if !slices.Contains(k.Values, strings.TrimSpace(v)) {
				return fmt.Errorf("want a list of %s", strings.Join(k.Values, ", "))
			}
		}
	}
	return nil
}

// Nearest is the one of some names that a misspelt one most likely meant.
func Nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// topicSettings are a topic's configuration as the path needs it, parsed once per snapshot.
type topicSettings struct {
	spread     string // key, round_robin, range
	bounds     []string
	timestamps string // arrival, keep, clamp
}

func settingsOf(t *Topic) topicSettings {
	s := topicSettings{spread: "key", timestamps: "clamp"}
	if v := t.Config["rivulet.partition"]; v != "" {
		s.spread = v
	}
	if v := t.Config["rivulet.range.bounds"]; v != "" {
		s.bounds = strings.Split(v, ",")
	}
	if v := t.Config["rivulet.timestamps"]; v != "" {
		s.timestamps = v
	}
	if t.Config["message.timestamp.type"] == "LogAppendTime" {
		s.timestamps = "arrival"
	}
	return s
}
