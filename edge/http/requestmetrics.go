package http

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
)

// requests counts one route's requests.
type requests struct {
	failed  atomic.Uint64
	nanos   atomic.Int64
	buckets [32]atomic.Uint64 // below 2^i µs
}

func (q *requests) took(d time.Duration) {
	q.nanos.Add(int64(d))
	q.buckets[min(bits.Len64(uint64(d.Microseconds())), len(q.buckets)-1)].Add(1)
}

func (s *Server) requestMetrics(p *page) {
	for _, rt := range s.table {
		q := rt.count
		var buckets [len(q.buckets)]uint64
		seen := uint64(0)
		for i := range buckets {
			buckets[i] = q.buckets[i].Load()
			seen += buckets[i]
		}
		if seen == 0 {
			continue
		}
		labels := []string{"method", rt.method, "path", rt.path}
		p.counter("rivulet_http_errors_total", q.failed.Load(), labels...)
		p.histogram("rivulet_http_request_duration_seconds", buckets[:], time.Duration(q.nanos.Load()).Seconds(), labels...)
	}
}

func processMetrics(p *page) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.gauge("go_goroutines", float64(runtime.NumGoroutine()))
	p.gauge("go_memstats_heap_inuse_bytes", float64(m.HeapInuse))
	p.gauge("go_memstats_sys_bytes", float64(m.Sys))
	p.counter("go_gc_cycles_total", uint64(m.NumGC))
	if rss := residentBytes(); rss > 0 {
		p.gauge("process_resident_memory_bytes", float64(rss))
	}
}
