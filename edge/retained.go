package edge

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"rivulet/storage"
	"rivulet/storage/batch"
)

// Bounds of retained messages: their copies live in the metadata, which is small.
const (
	maxRetained    = 64 << 10
	maxAllRetained = 16 << 20
	// maxRetainedTopic keeps the topic, which is the copy's key, within what the store takes.
	maxRetainedTopic = 16 << 10
	retainedSpace    = "retained"
)

// retained accounts for the retained copies; the copies themselves are in the store.
type retained struct {
	mu      sync.Mutex
	sizes   map[string]int // MQTT topic → bytes
	all     int
	Refused uint64 // too large, or no room in all
}

func (r *retained) load(s *storage.Store) error {
	r.sizes = map[string]int{}
	err := s.Scan(retainedSpace, "", func(topic string, value []byte) bool {
		r.sizes[topic] = len(topic) + len(value)
		r.all += r.sizes[topic]
		return true
	})
	if err != nil {
		return fmt.Errorf("load retained messages: %w", err)
	}
	return nil
}

// set adds the change of a retained message to c. What is too large stays in the log and replaces nothing, but the old copy
// goes: a stale value is worse than none.
func (r *retained) set(c *storage.Commit, topic string, rec batch.Record) {
	if topic == "" {
		return
	}
	if len(topic) > maxRetainedTopic {
		r.mu.Lock()
		r.Refused++
		r.mu.Unlock()
		return
	}
	var value []byte
	if len(rec.Payload.Value()) > 0 {
		value = append(binary.BigEndian.AppendUint64(nil, uint64(rec.Timestamp)), rec.Payload...)
	}
	r.mu.Lock()
	size, old := len(topic)+len(value), r.sizes[topic]
	if value != nil && (len(value) > maxRetained || r.all-old+size > maxAllRetained) {
		r.Refused++
		value = nil
	}
	if value == nil {
		r.all -= old
		delete(r.sizes, topic)
	} else {
		r.all += size - old
		r.sizes[topic] = size
	}
	r.mu.Unlock()
	c.Puts = append(c.Puts, storage.Put{Space: retainedSpace, Key: topic, Value: value})
}

// Retained calls fn for every durable retained message whose topic matches the filter.
func (b *Broker) Retained(filter string, fn func(topic string, r batch.Record)) error {
	one := func(topic string, value []byte) {
		if len(value) >= 8 {
			fn(topic, batch.Record{Timestamp: int64(binary.BigEndian.Uint64(value)), Payload: value[8:]})
		}
	}
	wild := strings.IndexAny(filter, "+#")
	if wild < 0 {
		value, err := b.store.Get(retainedSpace, filter)
		if err == nil && value != nil {
			one(filter, value)
		}
		return err
	}
	// "a/#" also matches "a" (MQTT-4.7.1-2), which does not begin with "a/".
	prefix := strings.TrimSuffix(filter[:wild], "/")
	return b.store.Scan(retainedSpace, prefix, func(topic string, value []byte) bool {
		if MatchFilter(filter, topic) {
			one(topic, value)
		}
		return true
	})
}

// RetainedCount is the number of retained messages and their bytes.
func (b *Broker) RetainedCount() (messages, bytes int, refused uint64) {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return len(b.retained.sizes), b.retained.all, b.retained.Refused
}
