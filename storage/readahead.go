package storage

import (
	"slices"
	"sort"
	"sync"
)

// readAhead keeps frames that were rebuilt from more batches than the cache of readers holds: a file that was merged over months has,
// of a thousand partitions, a batch each that reaches from its first frame to its last, and every small step through it would
// open all of them again. Such a step is made a large one, and those that follow are served from here.
type readAhead struct {
	mu   sync.Mutex // guards what follows
	runs []frameRun // the last ones, oldest first
	idle bool       // nothing of it was used since age was called
}

// frameRun are all frames behind after and up to last.
type frameRun struct {
	after, last uint64
	frames      []sealedFrame
}

// maxRuns is how many places it keeps: readers that are further apart are not helped.
const maxRuns = 2

// add keeps a run.
func (a *readAhead) add(r frameRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = false
	a.runs = append(a.runs, r)
	if n := len(a.runs); n > maxRuns {
		a.runs = slices.Clone(a.runs[n-maxRuns:])
	}
}

// get returns frames behind after, not behind last, up to about maxBytes, at least one; none when it has none there.
func (a *readAhead) get(after, last uint64, maxBytes int) []sealedFrame {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.runs {
		if frames := a.runs[i].get(after, last, maxBytes); len(frames) > 0 {
			a.idle = false
			return frames
		}
	}
	return nil
}

func (r *frameRun) get(after, last uint64, maxBytes int) []sealedFrame {
	if r.after > after || r.last <= after {
		return nil
	}
	from := sort.Search(len(r.frames), func(i int) bool { return r.frames[i].seq > after })
	to := from
	for ; to < len(r.frames) && r.frames[to].seq <= last && (to == from || maxBytes > 0); to++ {
		maxBytes -= r.frames[to].size()
	}
	return r.frames[from:to:to]
}

// age lets go of what was not used since the last call.
func (a *readAhead) age() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.idle {
		a.runs = nil
	}
	a.idle = true
}

// size is how many bytes the frame's batches take.
func (f *sealedFrame) size() (n int) {
	for _, p := range f.batches {
		for _, t := range p.tails {
			n += len(t.data)
		}
	}
	return n
}
