package storage

import "slices"

// Waiter is poked when a partition that it watches, or any partition, has new committed records or a new stable offset.
type Waiter struct{ C chan struct{} } // capacity 1

// NewWaiter makes a waiter.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// WatchAll registers w for every frame that holds records.
func (s *Store) WatchAll(w *Waiter) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.watchers = append(s.watchers, w)
}

// UnwatchAll takes back one WatchAll.
func (s *Store) UnwatchAll(w *Waiter) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.watchers = without(s.watchers, w)
}

func (s *Store) pokeAll() {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	for _, w := range s.watchers {
		poke(w.C)
	}
}

func without(ws []*Waiter, w *Waiter) []*Waiter {
	if i := slices.Index(ws, w); i >= 0 {
		return slices.Delete(ws, i, i+1)
	}
	return ws
}
