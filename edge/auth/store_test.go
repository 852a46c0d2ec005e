package auth

import (
	"context"
	"strings"
	"sync"

	"rivulet/edge"
)

// emptyStore forgets everything.
type emptyStore struct{}

func (emptyStore) Do(context.Context, *edge.Commit) error                         { return nil }
func (emptyStore) Scan(string, string, func(key string, value []byte) bool) error { return nil }

// secretStore is a store in memory.
type secretStore struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
}

func (m *secretStore) Do(_ context.Context, c *edge.Commit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.data == nil {
		m.data = map[string][]byte{}
	}
	for _, p := range c.Puts {
		if p.Value == nil {
			delete(m.data, p.Space+"\x00"+p.Key)
		} else {
			m.data[p.Space+"\x00"+p.Key] = p.Value
		}
	}
	return nil
}

func (m *secretStore) Scan(space, prefix string, fn func(key string, value []byte) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.data {
		if key, ok := strings.CutPrefix(k, space+"\x00"); ok && strings.HasPrefix(key, prefix) && !fn(key, v) {
			return nil
		}
	}
	return nil
}
