package storage

import "sync"

// turns lets one goroutine in at a time, in the order in which they came. A sync.Mutex would let whoever runs have it again and again.
type turns struct {
	mu    sync.Mutex // guards what follows
	taken bool
	queue []chan struct{}
}

// take waits for its turn.
func (t *turns) take() {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	<-mine
}

// pass ends a turn.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken, t.queue = false, nil
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}
