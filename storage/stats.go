package storage

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counters since Open and gauges.
type Stats struct {
	Frames, Records      uint64
	RawBytes             uint64 // record bytes appended
	JournalBytes         uint64 // written to the journal
	SealedBytes          uint64 // written to log files
	CheckpointBytes      uint64
	TailBytes, TailLimit int64
	QueueBytes           int64
	ReadOnly, Full       bool
	Sync                 Histogram // journal fdatasync, seconds
}

// Histogram counts durations in powers of two of 1 µs: Buckets[i] counts those below 2^i µs.
type Histogram struct {
	Buckets [32]uint64
	Count   uint64
	Sum     time.Duration
}

// counters are what the committer counts.
type counters struct {
	frames, records, rawBytes, journalBytes atomic.Uint64

	mu   sync.Mutex // guards sync
	sync Histogram
}

// synced counts one fdatasync of the journal.
func (c *counters) synced(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := min(bits.Len64(uint64(max(d, 0)/time.Microsecond)), len(c.sync.Buckets)-1)
	c.sync.Buckets[i]++
	c.sync.Count++
	c.sync.Sum += d
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	st := Stats{
		Frames: s.stats.frames.Load(), Records: s.stats.records.Load(),
		RawBytes: s.stats.rawBytes.Load(), JournalBytes: s.stats.journalBytes.Load(),
		SealedBytes: s.sealed.bytesWritten(), CheckpointBytes: s.meta.bytesWritten(),
		TailBytes: s.tailBytes.Load(), TailLimit: s.o.TailBytes,
		ReadOnly: s.readOnly.Load(), Full: s.stuck.Load() != nil || s.journal.failing() != nil,
	}
	s.stats.mu.Lock()
	st.Sync = s.stats.sync
	s.stats.mu.Unlock()
	s.queueMu.Lock()
	st.QueueBytes = s.queueBytes
	s.queueMu.Unlock()
	return st
}
