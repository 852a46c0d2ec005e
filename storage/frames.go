package storage

import (
	"fmt"
	"math"
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
		sealed, _, err := s.sealed.frames(after, floor, maxBytes, nil)
		if err != nil {
			return nil, fmt.Errorf("read frames behind %d: %w", after, err)
		}
		if len(sealed) == 0 {
			after = max(after, floor) // nothing but metadata up to here
			continue
		}
		if frames := s.live(sealed); len(frames) > 0 {
			return frames, nil
		}
		after = sealed[len(sealed)-1].seq // nothing but deleted topics
	}
}

// FramesFor is Frames for a reader that looks for little: of the frames behind after it returns those that hold something that q is about,
// with plain batches of those records, or more of them; batches of transactions and their markers are as they were committed. All
// up to frame reached is there. When there are no frames and reached is after, nothing is left. nil asks for everything.
//
// Readers have their turns, one at a time: each looks at a few MiB of the log, which those behind it in the line, who came back with it,
// then find open.
func (s *Store) FramesFor(after uint64, maxBytes int, q *Query) (frames []Frame, reached uint64, err error) {
	w := s.wanted(q)
	if w == nil {
		frames, err = s.Frames(after, maxBytes)
		if len(frames) > 0 {
			after = frames[len(frames)-1].Seq
		}
		return frames, after, err
	}
	s.readers.take()
	defer s.readers.pass()
	for {
		recent, ok := s.ring.get(after, math.MaxInt)
		if ok {
			frames, reached, err = w.recent(recent, after, maxBytes)
		} else {
			floor := s.ring.floor() // as above
			var sealed []sealedFrame
			sealed, reached, err = s.sealed.frames(after, floor, maxBytes, w)
			if err == nil && reached <= after {
				after = max(after, floor)
				continue
			}
			frames = s.live(sealed)
		}
		if err != nil {
			return nil, after, fmt.Errorf("read frames behind %d: %w", after, err)
		}
		return frames, reached, nil
	}
}

// live makes frames of sealed ones: without what was deleted or trimmed.
func (s *Store) live(sealed []sealedFrame) (frames []Frame) {
	for _, sf := range sealed {
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
	return frames
}

// recent is FramesFor for frames that are in memory.
func (w *wanted) recent(recent []Frame, after uint64, maxBytes int) (frames []Frame, reached uint64, err error) {
	looked, reached := 0, after
	for i := range recent {
		if looked > lookBytes || maxBytes <= 0 {
			break
		}
		f := Frame{Seq: recent[i].Seq}
		for k := range recent[i].Batches {
			fb := &recent[i].Batches[k]
			looked += len(fb.Data)
			data, err := w.fromMemory(fb)
			if err != nil {
				return nil, after, err
			}
			if len(data) > 0 {
				maxBytes -= len(data)
				f.Batches = append(f.Batches, FrameBatch{fb.Partition, data})
			}
		}
		if len(f.Batches) > 0 {
			frames = append(frames, f)
		}
		reached = f.Seq
	}
	return frames, reached, nil
}
