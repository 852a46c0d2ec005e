package storage

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
)

// overlay holds what changed in the key-value space since the checkpoint in metaDB: an active generation that frames write
// to, and a frozen one that is being applied. A nil value is a deletion.
type overlay struct {
	mu     sync.RWMutex // guards what follows
	active generation
	frozen generation
	bytes  int64 // of active
}

type generation map[string]map[string][]byte

// put takes the changes of one frame. Their values must not change any more.
func (o *overlay) put(puts []Put) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.active == nil {
		o.active = generation{}
	}
	var space string
	var keys map[string][]byte
	for _, p := range puts {
		if keys == nil || p.Space != space {
			space, keys = p.Space, o.active[p.Space]
			if keys == nil {
				keys = map[string][]byte{}
				o.active[space] = keys
			}
		}
		old, had := keys[p.Key]
		if had {
			o.bytes -= int64(len(old))
		} else {
			o.bytes += int64(len(p.Key)) + overlayEntry
		}
		o.bytes += int64(len(p.Value))
		keys[p.Key] = p.Value
	}
}

// overlayEntry is about what an entry takes beside its key and value.
const overlayEntry = 64

// dirty is how many bytes the active generation takes.
func (o *overlay) dirty() int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.bytes
}

// freeze ends the active generation. There is no frozen one.
func (o *overlay) freeze() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frozen, o.active, o.bytes = o.active, nil, 0
}

// frozenPuts lists the frozen generation in the order of spaces and keys, which is that of metaDB's pages.
func (o *overlay) frozenPuts() []Put {
	o.mu.RLock()
	frozen := o.frozen // not changed any more
	o.mu.RUnlock()
	var puts []Put
	for _, space := range slices.Sorted(maps.Keys(frozen)) {
		keys := frozen[space]
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			puts = append(puts, Put{space, key, keys[key]})
		}
	}
	return puts
}

// thaw forgets the frozen generation, which is in metaDB now.
func (o *overlay) thaw() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frozen = nil
}

func (o *overlay) get(space, key string) (value []byte, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if value, ok = o.active[space][key]; !ok {
		value, ok = o.frozen[space][key]
	}
	return value, ok
}

// collect returns the changes of keys with that prefix, by key.
func (o *overlay) collect(space, prefix string) []Put {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var out []Put
	for k, v := range o.active[space] {
		if strings.HasPrefix(k, prefix) {
			out = append(out, Put{Key: k, Value: v})
		}
	}
	for k, v := range o.frozen[space] {
		if _, newer := o.active[space][k]; !newer && strings.HasPrefix(k, prefix) {
			out = append(out, Put{Key: k, Value: v})
		}
	}
	slices.SortFunc(out, func(a, b Put) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Get returns a copy of a key's committed value, nil when there is none.
func (s *Store) Get(space, key string) ([]byte, error) {
	if v, ok := s.kv.get(space, key); ok {
		return cloneValue(v), nil
	}
	return s.meta.get(space, key)
}

// cloneValue keeps the difference between an empty value and none.
func cloneValue(v []byte) []byte {
	if v == nil {
		return nil
	}
	return append([]byte{}, v...)
}

// Scan calls fn in key order for every key of space that begins with prefix, until fn returns false. fn may keep value.
func (s *Store) Scan(space, prefix string, fn func(key string, value []byte) bool) error {
	changed := s.kv.collect(space, prefix)
	more := true
	// upTo hands out the changes before key; skip says that key itself was changed.
	upTo := func(key string, end bool) (skip bool) {
		for more && len(changed) > 0 && (end || changed[0].Key <= key) {
			c := changed[0]
			changed = changed[1:]
			if c.Value != nil {
				more = fn(c.Key, cloneValue(c.Value))
			}
			if !end && c.Key == key {
				return true
			}
		}
		return false
	}
	err := s.meta.scan(space, prefix, func(key string, value []byte) bool {
		if upTo(key, false) || !more {
			return more
		}
		more = fn(key, bytes.Clone(value))
		return more
	})
	if err != nil {
		return err
	}
	if more {
		upTo("", true)
	}
	return nil
}
