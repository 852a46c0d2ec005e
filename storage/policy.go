package storage

import (
	"strconv"
	"strings"
)

// Policy is what a topic's configuration says about keeping its records. The names are Kafka's where Kafka has one.
type Policy struct {
	RetentionMs     int64   // store time that records are kept; -1: for ever
	RetentionBytes  int64   // stored bytes that a partition keeps; -1: no bound
	Delete          bool    // cleanup.policy names delete: the two above count
	Compact         bool    // cleanup.policy names compact: the last record of a key is kept
	TombstoneMs     int64   // delete.retention.ms: how long a compacted topic keeps tombstones
	CompactionLagMs int64   // min.compaction.lag.ms: how long a record is left alone
	DirtyRatio      float64 // min.cleanable.dirty.ratio: which share of the stored bytes is new when a compaction begins

	Compression    string // compression.type: producer, lz4, zstd, gzip, snappy, uncompressed
	Priority       int    // 0 to 9; of full stores, what is dropped last
	Refuse         bool   // rivulet.when.full=refuse: a full budget refuses records instead of dropping old ones
	WhenFullSet    bool   // rivulet.when.full is given; otherwise the store's Options decide
	DropUnmirrored bool   // rivulet.drop.unmirrored: a full budget may drop what no uplink has delivered yet
}

// DefaultPolicy is that of a topic without configuration. Its retention is Kafka's: seven days.
func DefaultPolicy() Policy {
	return Policy{
		RetentionMs: 7 * 24 * 60 * 60 * 1000, RetentionBytes: -1, Delete: true,
		TombstoneMs: 24 * 60 * 60 * 1000, DirtyRatio: 0.5, Compression: "producer",
	}
}

// ParsePolicy reads a topic's configuration. Values are checked before they come here: what cannot be read counts as not given, so
// that a start never fails for a topic's configuration.
func ParsePolicy(config map[string]string) Policy {
	p := DefaultPolicy()
	number := func(key string, to *int64) {
		if n, err := strconv.ParseInt(config[key], 10, 64); err == nil {
			*to = n
		}
	}
	number("retention.ms", &p.RetentionMs)
	number("retention.bytes", &p.RetentionBytes)
	number("delete.retention.ms", &p.TombstoneMs)
	number("min.compaction.lag.ms", &p.CompactionLagMs)
	if f, err := strconv.ParseFloat(config["min.cleanable.dirty.ratio"], 64); err == nil {
		p.DirtyRatio = f
	}
	if v := config["cleanup.policy"]; v != "" {
		p.Delete, p.Compact = false, false
		for word := range strings.SplitSeq(v, ",") {
			switch strings.TrimSpace(word) {
			case "delete":
				p.Delete = true
			case "compact":
				p.Compact = true
			}
		}
	}
	if v := config["compression.type"]; v != "" {
		p.Compression = v
	}
	priority := int64(p.Priority)
	number("rivulet.priority", &priority)
	p.Priority = int(min(max(priority, 0), 9))
	if v := config["rivulet.when.full"]; v != "" {
		p.WhenFullSet, p.Refuse = true, v == "refuse"
	}
	p.DropUnmirrored = config["rivulet.drop.unmirrored"] == "true"
	return p
}
