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
	coming  int    // bytes of copies whose commit is under way
	Refused uint64 // too large, or no room in all
}

// retainedChange is a copy whose commit is under way.
type retainedChange struct {
	topic string
	size  int // 0: the copy goes
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
// goes: a stale value is worse than none. The change counts when settle hears that it is durable.
func (r *retained) set(st *staging, topic string, rec batch.Record) {
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
	change := retainedChange{topic: topic}
	if value != nil {
		change.size = len(topic) + len(value)
	}
	if value != nil && (len(value) > maxRetained || r.all+r.coming-r.sizes[topic]+change.size > maxAllRetained) {
		r.Refused++
		value, change.size = nil, 0
	}
	r.coming += change.size
	r.mu.Unlock()
	st.kept = append(st.kept, change)
	st.commit.Puts = append(st.commit.Puts, storage.Put{Space: retainedSpace, Key: topic, Value: value})
}

// settle accounts for the copies of a commit that ended, in the order of the commits.
func (r *retained) settle(st *staging, durable bool) {
	if len(st.kept) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, change := range st.kept {
		r.coming -= change.size
		if !durable {
			continue
		}
		r.all += change.size - r.sizes[change.topic]
		if change.size == 0 {
			delete(r.sizes, change.topic)
		} else {
			r.sizes[change.topic] = change.size
		}
	}
	st.kept = st.kept[:0]
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
