package storage

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Generation is one history of a store.
type Generation struct {
	ID     string           `json:"id"`
	Parent string           `json:"parent,omitempty"`
	Fork   map[uint32]int64 `json:"fork,omitempty"` // partition id → first offset that may differ from the parent's
}

const keyGeneration = "generation"

// Generation names this history of the store: a random id made with the data directory, new after a loss. Its parent
// and the offsets where it forked come with it (SEMANTICS, Mirror).
func (s *Store) Generation() Generation { return *s.generation.Load() }

// newGeneration makes the next history and the put that stores it.
func (s *Store) newGeneration(parent string, fork map[uint32]int64) (Put, error) {
	var id [16]byte
	for i := 0; i < len(id); i += 8 {
		r := s.o.Rand()
		for k := range 8 {
			id[i+k] = byte(r >> (8 * k))
		}
	}
	g := Generation{ID: hex.EncodeToString(id[:]), Parent: parent, Fork: fork}
	value, err := json.Marshal(g)
	if err != nil {
		return Put{}, err
	}
	s.generation.Store(&g)
	return Put{Space: spaceStore, Key: keyGeneration, Value: value}, nil
}

// loadGeneration reads it from the key-value space; ok is false when there is none yet.
func (s *Store) loadGeneration() (ok bool, err error) {
	value, err := s.settled(spaceStore, keyGeneration)
	if err != nil || value == nil {
		return false, err
	}
	var g Generation
	if err := json.Unmarshal(value, &g); err != nil {
		return false, fmt.Errorf("read generation: %w", err)
	}
	s.generation.Store(&g)
	return true, nil
}
