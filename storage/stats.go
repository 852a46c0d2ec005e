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
	CopiedBytes          uint64 // written by rewriting log files: copied forward, merged, compacted
	PreparedBytes        uint64 // written to make journal files ready
	TailBytes, TailLimit int64
	QueueBytes           int64
	ReadOnly, Full       bool
	FullReason           string    // why records are refused, when Full
	DiskBytes            int64     // allocated blocks of everything under Options.Dir, at most a second old
	BudgetBytes          int64     // Options.MaxBytes
	Sync                 Histogram // journal fdatasync, seconds
}

// WrittenBytes is what went to the disk since Open, as far as the store knows; the file system adds its own. Over RawBytes it
// says what a record costs the flash it lies on.
func (st *Stats) WrittenBytes() uint64 {
	return st.JournalBytes + st.SealedBytes + st.CopiedBytes + st.CheckpointBytes + st.PreparedBytes
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

// full is why records are refused, or will be as soon as the tails are full; nil when nothing is in the way.
func (s *Store) full() error {
	if stuck := s.stuck.Load(); stuck != nil {
		return *stuck
	}
	if why := s.budget.refusing.Load(); why != nil {
		return *why
	}
	return s.journal.failing()
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	st := Stats{
		Frames: s.stats.frames.Load(), Records: s.stats.records.Load(),
		RawBytes: s.stats.rawBytes.Load(), JournalBytes: s.stats.journalBytes.Load(),
		SealedBytes: s.sealed.bytesWritten(), CopiedBytes: s.sealed.bytesCopied(), CheckpointBytes: s.meta.bytesWritten(),
		PreparedBytes: s.journal.prepared.Load(),
		TailBytes:     s.tailBytes.Load(), TailLimit: s.o.TailBytes,
		ReadOnly: s.readOnly.Load(), DiskBytes: s.disk.recent(), BudgetBytes: s.o.MaxBytes,
	}
	if why := s.full(); why != nil {
		st.Full, st.FullReason = true, why.Error()
	}
	s.stats.mu.Lock()
	st.Sync = s.stats.sync
	s.stats.mu.Unlock()
	s.queueMu.Lock()
	st.QueueBytes = s.queueBytes
	s.queueMu.Unlock()
	return st
}
