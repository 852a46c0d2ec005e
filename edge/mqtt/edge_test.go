package mqtt

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"rivulet/edge/mqtt/packet"
)

// TestLongTopic: topics may be as long as the protocol allows, retained ones too, and the store survives it.
func TestLongTopic(t *testing.T) {
	r := newRig(t, rigOptions{store: smallStore})
	p, sub := r.connect(packet.V5, "p", nil), r.resume(packet.V5, "sub", false, nil)
	long := strings.Repeat("x", 65535)
	sub.subscribe("#", 1, nil)
	p.stored(long, "1", func(m *packet.Publish) { m.Retain = true })
	sub.wantMessage(long, "1", 1)
	if got := sub.subscribe(long, 1, nil); got[0] != packet.QuotaExceeded {
		t.Errorf("SUBACK 0x%02x", byte(got[0]))
	}
	for range 100 { // until it is checkpointed
		p.stored("t", strings.Repeat("x", 60000), nil)
	}
	if err := r.store.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// BenchmarkIdle reports what an idle connection costs.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b, rigOptions{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 1000
	var peers []*peer
	for i := range n {
		p := r.connect(packet.V311, fmt.Sprint("c", i), nil)
		p.buf, p.chunk = nil, nil
		peers = append(peers, p)
	}
	eventually(b, "all are parked", func() bool { return r.srv.stats.parked.Load() >= n })
	for b.Loop() {
		runtime.GC()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/n, "B/connection")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/connection")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/connection")
	runtime.KeepAlive(peers)
}
