package plugins

import (
	"bytes"
	"context"
	"math"
	"sync"

	"github.com/tetratelabs/wazero/api"
)

const (
	maxMetrics    = 64 // names an attachment may have
	maxMetricName = 64
)

// Metric is a figure that a guest keeps by rivulet_v1.
type Metric struct {
	Name    string
	Counter bool // else a gauge
	Value   float64
}

// metrics of an attachment. They are for people to look at: a batch that is run again counts again.
type metrics struct {
	mu    sync.Mutex
	named map[string]*Metric
}

// update finds the metric, making it if there is room, and calls set with it. It reports whether there was.
func (m *metrics) update(name []byte, counter bool, set func(*Metric)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.named[string(name)]
	if v == nil {
		if len(m.named) >= maxMetrics {
			return false
		}
		if m.named == nil {
			m.named = make(map[string]*Metric)
		}
		v = &Metric{Name: string(name), Counter: counter}
		m.named[v.Name] = v
	}
	if v.Counter != counter {
		return false
	}
	set(v)
	return true
}

// Metrics returns what the guest counts, in no order.
func (a *Attachment) Metrics() []Metric {
	a.metrics.mu.Lock()
	defer a.metrics.mu.Unlock()
	all := make([]Metric, 0, len(a.metrics.named))
	for _, m := range a.metrics.named {
		all = append(all, *m)
	}
	return all
}

func metricName(in *instance, stack []uint64) ([]byte, bool) {
	name := in.bytes(stack[0], stack[1])
	if len(name) == 0 || len(name) > maxMetricName {
		return nil, false
	}
	for i, c := range name {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return nil, false
		}
	}
	return name, true
}

// metricAdd (name, length, delta) adds to a counter. -2: the name is not [a-zA-Z_][a-zA-Z0-9_]* or there are too many.
func metricAdd(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	name, ok := metricName(in, stack)
	delta := int64(stack[2])
	if !ok || delta < 0 || !in.a.metrics.update(name, true, func(m *Metric) { m.Value += float64(delta) }) {
		code(stack, codeInvalidBuffer)
		return
	}
	code(stack, 0)
}

// metricSet (name, length, value) sets a gauge.
func metricSet(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	name, ok := metricName(in, stack)
	value := math.Float64frombits(stack[2])
	if !ok || math.IsNaN(value) || !in.a.metrics.update(name, false, func(m *Metric) { m.Value = value }) {
		code(stack, codeInvalidBuffer)
		return
	}
	code(stack, 0)
}

// printable makes text of what a guest wrote.
func printable(b []byte) []byte { return bytes.ToValidUTF8(b, []byte("?")) }
