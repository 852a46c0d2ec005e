package auth_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"rivulet/edge"
	"rivulet/edge/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store.
type memory struct {
	mu   sync.Mutex
	data map[string]map[string][]byte
	fail error
}

func (m *memory) Do(_ context.Context, c *edge.Commit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.data == nil {
		m.data = map[string]map[string][]byte{}
	}
	for _, p := range c.Puts {
		if m.data[p.Space] == nil {
			m.data[p.Space] = map[string][]byte{}
		}
		if p.Value == nil {
			delete(m.data[p.Space], p.Key)
		} else {
			m.data[p.Space][p.Key] = p.Value
		}
	}
	return nil
}

func (m *memory) Scan(space, _ string, fn func(key string, value []byte) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.data[space] {
		if !fn(k, v) {
			return nil
		}
	}
	return nil
}

func open(t testing.TB, o auth.Options) *auth.Authority {
	t.Helper()
	if o.Store == nil {
		o.Store = &memory{}
	}
	if o.Edge == "" {
		o.Edge = "plant-7"
	}
	a, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// rule reads "allow publish user dev-* mqtt a/{client}/#".
func rule(t testing.TB, text string) auth.Rule {
	t.Helper()
	r, err := auth.ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
