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
	ConfigDouble // a share, 0 to 1
)

// ConfigKey is one key of a topic's configuration. Kafka's own keep Kafka's names and meaning; ours begin with rivulet.
type ConfigKey struct {
	Name    string
	Type    ConfigType
	Default string   // "": the key is not set
	Values  []string // when only these are allowed
	Min     int64    // of an Int or Long
	Max     int64    // of an Int or Long; 0: what the type holds
	Doc     string
	// Idle is why a key of Kafka's does nothing here. It is kept and shown, so that tools which compare what they set with what
	// they read find it again; what would promise something that one node cannot keep is refused by Values, Min and Max.
	Idle string
}

// TopicConfigs lists all keys, by name.
func TopicConfigs() []ConfigKey {
	return slices.SortedFunc(slices.Values(append(activeKeys(), idleKeys()...)), func(a, b ConfigKey) int { return strings.Compare(a.Name, b.Name) })
}

// activeKeys are those that change something.
func activeKeys() []ConfigKey {
	return []ConfigKey{
		{Name: "cleanup.policy", Type: ConfigList, Default: "delete", Values: []string{"delete", "compact"}, Doc: "What becomes of old records: delete lets them go by retention, compact keeps the last of each key; both may be named."},
		{Name: "compression.type", Type: ConfigString, Default: "producer", Values: []string{"producer", "lz4", "zstd", "gzip", "snappy", "uncompressed"}, Doc: "Codec of stored batches. producer: batches that a producer compressed to 16 KiB or more stay as they are, all others are merged and stored with lz4."},
		{Name: "delete.retention.ms", Type: ConfigLong, Default: "86400000", Doc: "How long a compacted topic keeps tombstones after a compaction that left nothing of their key before them, ms."},
		{Name: "max.message.bytes", Type: ConfigInt, Default: "1048588", Doc: "Largest batch that a producer may send, bytes."},
		{Name: "message.timestamp.type", Type: ConfigString, Default: "CreateTime", Values: []string{"CreateTime", "LogAppendTime"}, Doc: "Whose clock a record's timestamp is: the producer's or the broker's. LogAppendTime is the same as rivulet.timestamps=arrival, and overrules that key."},
		{Name: "min.cleanable.dirty.ratio", Type: ConfigDouble, Default: "0.5", Doc: "A partition of a compacted topic is compacted when this share of its stored bytes came since the last time."},
		{Name: "min.compaction.lag.ms", Type: ConfigLong, Default: "0", Doc: "How long a record of a compacted topic is left alone, ms."},
		{Name: "retention.bytes", Type: ConfigLong, Default: "-1", Min: -1, Doc: "Stored bytes a partition keeps; -1 is no bound."},
		{Name: "retention.ms", Type: ConfigLong, Default: "604800000", Min: -1, Doc: "How long records are kept, ms of the store's own clock; -1 is for ever."},
		{Name: "rivulet.drop.unmirrored", Type: ConfigBool, Default: "false", Doc: "Whether a full store may drop records that no uplink has delivered yet."},
		{Name: "rivulet.partition", Type: ConfigString, Default: "key", Values: []string{"key", "round_robin", "range"}, Doc: "How MQTT and HTTP records without a chosen partition are spread."},
		{Name: "rivulet.priority", Type: ConfigInt, Default: "0", Max: 9, Doc: "0 to 9; of a full store, records of the lowest priority are dropped first. Uplinks send by it where their own entry has none."},
		{Name: "rivulet.range.bounds", Type: ConfigList, Doc: "Ascending keys that divide the partitions of a topic spread by range: partition i holds the keys below bound i. Not set: equal parts of the byte space."},
		{Name: "rivulet.timestamps", Type: ConfigString, Default: "clamp", Values: []string{"arrival", "keep", "clamp"}, Doc: "What becomes of producers' timestamps: clamp keeps them unless they are more than 10 minutes ahead of the broker's clock."},
		{Name: "rivulet.when.full", Type: ConfigString, Values: []string{"drop_oldest", "refuse"}, Doc: "What a full store does for this topic: drop its oldest records or refuse new ones. Not set: as the store's own configuration says."},
	}
}

// idleKeys are Kafka's keys that have no meaning here.
func idleKeys() []ConfigKey {
	const (
		segments = "log files are not a topic's own: their size follows from the store's"
		synced   = "every record is on disk before it is acknowledged"
		replicas = "there is one node"
		clamps   = "see rivulet.timestamps"
		levels   = "the codecs run at one level"
		local    = "all records are local; uplinks copy them to the centre"
	)
	const forever = "9223372036854775807"
	keys := []ConfigKey{
		{Name: "compression.gzip.level", Type: ConfigInt, Default: "-1", Min: -1, Max: 9, Idle: levels},
		{Name: "compression.lz4.level", Type: ConfigInt, Default: "9", Min: 1, Max: 17, Idle: levels},
		{Name: "compression.zstd.level", Type: ConfigInt, Default: "3", Min: -131072, Max: 22, Idle: levels},
		{Name: "file.delete.delay.ms", Type: ConfigLong, Default: "60000", Idle: segments},
		{Name: "flush.messages", Type: ConfigLong, Default: forever, Min: 1, Idle: synced},
		{Name: "flush.ms", Type: ConfigLong, Default: forever, Idle: synced},
		{Name: "follower.replication.throttled.replicas", Type: ConfigList, Idle: replicas},
		{Name: "index.interval.bytes", Type: ConfigInt, Default: "4096", Idle: segments},
		{Name: "leader.replication.throttled.replicas", Type: ConfigList, Idle: replicas},
		{Name: "local.retention.bytes", Type: ConfigLong, Default: "-2", Min: -2, Idle: local},
		{Name: "local.retention.ms", Type: ConfigLong, Default: "-2", Min: -2, Idle: local},
		{Name: "max.compaction.lag.ms", Type: ConfigLong, Default: forever, Min: 1, Idle: "the share of new bytes alone decides, see min.cleanable.dirty.ratio"},
		{Name: "message.downconversion.enable", Type: ConfigBool, Default: "true", Idle: "formats older than record batches are not served"},
		{Name: "message.format.version", Type: ConfigString, Default: "3.0-IV1", Idle: "batches have version 2"},
		{Name: "message.timestamp.after.max.ms", Type: ConfigLong, Default: "3600000", Idle: clamps},
		{Name: "message.timestamp.before.max.ms", Type: ConfigLong, Default: forever, Idle: clamps},
		{Name: "message.timestamp.difference.max.ms", Type: ConfigLong, Default: forever, Idle: clamps},
		{Name: "min.insync.replicas", Type: ConfigInt, Default: "1", Min: 1, Max: 1, Idle: replicas},
		{Name: "preallocate", Type: ConfigBool, Default: "false", Idle: segments},
		{Name: "remote.storage.enable", Type: ConfigBool, Default: "false", Values: []string{"false"}, Idle: local},
		{Name: "segment.bytes", Type: ConfigInt, Default: "1073741824", Min: 1, Idle: segments},
		{Name: "segment.index.bytes", Type: ConfigInt, Default: "10485760", Idle: segments},
		{Name: "segment.jitter.ms", Type: ConfigLong, Default: "0", Idle: segments},
		{Name: "segment.ms", Type: ConfigLong, Default: "604800000", Min: 1, Idle: segments},
		{Name: "unclean.leader.election.enable", Type: ConfigBool, Default: "false", Idle: replicas},
	}
	for i := range keys {
		keys[i].Doc = "Without effect: " + keys[i].Idle + "."
	}
	return keys
}

func (k ConfigKey) check(value string) error {
	switch k.Type {
	case ConfigInt, ConfigLong:
		return k.checkNumber(value)
	case ConfigDouble:
		if f, err := strconv.ParseFloat(value, 64); err != nil || !(f >= 0 && f <= 1) { // NaN is neither
			return fmt.Errorf("want a number from 0 to 1")
		}
	case ConfigBool:
		if value != "true" && value != "false" {
			return fmt.Errorf("want true or false")
		}
		fallthrough
	case ConfigString:
		if k.Values != nil && !slices.Contains(k.Values, value) {
			return k.refused("want one of %s", strings.Join(k.Values, ", "))
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

func (k ConfigKey) checkNumber(value string) error {
	bits := 64
	if k.Type == ConfigInt {
		bits = 32
	}
	n, err := strconv.ParseInt(value, 10, bits)
	switch {
	case k.Max != 0 && k.Max == k.Min && (err != nil || n != k.Min):
		return k.refused("want %d", k.Min)
	case k.Max != 0 && (err != nil || n < k.Min || n > k.Max):
		return fmt.Errorf("want a whole number from %d to %d", k.Min, k.Max)
	case err != nil || n < k.Min:
		return fmt.Errorf("want a whole number from %d up", k.Min)
	}
	return nil
}

// refused says why an idle key takes no other value.
func (k ConfigKey) refused(format string, args ...any) error {
	if k.Idle == "" {
		return fmt.Errorf(format, args...)
	}
	return fmt.Errorf(format+": %s", append(args, k.Idle)...)
}
