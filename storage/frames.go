package storage

import (
	"fmt"
	"sort"
	"sync"
)

// Frame is what one group commit made visible.
type Frame struct {
	Seq     uint64
	Batches []FrameBatch
}

// FrameBatch is one batch of a frame. Data is immutable.
type FrameBatch struct {
	Partition *Partition
	Data      []byte
}

// ring holds the recent frames that have batches; it lives as long as the tails, whose memory it shares.
type ring struct {
	mu     sync.Mutex // guards what follows
	frames []Frame
	after  uint64 // all frames behind this sequence are in frames
}

func (r *ring) add(f Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, f)
}

// drop forgets the frames up to seq.
func (r *ring) drop(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after = max(r.after, seq)
	n := sort.Search(len(r.frames), func(i int) bool { return r.frames[i].Seq > seq })
	r.frames = append([]Frame(nil), r.frames[n:]...)
}

// get returns frames behind after; ok is false when some of them are no longer here.
func (r *ring) get(after uint64, maxBytes int) (out []Frame, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if after < r.after {
		return nil, false
	}
	from := sort.Search(len(r.frames), func(i int) bool { return r.frames[i].Seq > after })
	to := from
	for ; to < len(r.frames) && (to == from || maxBytes > 0); to++ {
		for _, b := range r.frames[to].Batches {
			maxBytes -= len(b.Data)
		}
	}
	// Frames are only ever appended behind to, or moved to a new array.
	return r.frames[from:to:to], true
}

// floor is the sequence that get needs at least.
func (r *ring) floor() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.after
}

// LastSeq is the sequence of the last durable frame.
func (s *Store) LastSeq() uint64 { return s.lastSeq.Load() }

// Frames returns the frames behind seq after that hold batches, in order, up to about maxBytes of data (at least one
// frame), with the batches as they were committed. Recent frames come from memory; older ones are rebuilt from sealed
// batches, without those that are damaged (Damages). None means that no frame behind after holds batches. Errors: those of the
// file system, after which the same call may succeed.
func (s *Store) Frames(after uint64, maxBytes int) ([]Frame, error) {
	for {
		frames, ok := s.ring.get(after, maxBytes)
		if ok {
			return frames, nil
		}
		// Before we look: a seal may move it meanwhile, over batches that we have not seen. What is behind it is in memory.
		floor := s.ring.floor()
		sealed, err := s.sealed.frames(after, floor, maxBytes)
		if err != nil {
			return nil, fmt.Errorf("read frames behind %d: %w", after, err)
		}
		for _, sf := range sealed {
			after = sf.seq
			f := Frame{Seq: sf.seq}
			for _, part := range sf.batches {
				p := s.partition(part.id)
				if p == nil {
					continue // its topic was deleted
				}
				start, _, _ := p.Offsets()
				for _, t := range part.tails[tailFrom(part.tails, start):] {
					f.Batches = append(f.Batches, FrameBatch{p, t.data})
				}
			}
			if len(f.Batches) > 0 {
				frames = append(frames, f)
			}
		}
		if len(frames) > 0 {
			return frames, nil
		}
		if len(sealed) == 0 {
			after = max(after, floor) // nothing but deleted topics and metadata up to here
		}
	}
}
