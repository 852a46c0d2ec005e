package bridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"rivulet/edge"
)

// idSpace of the store holds the packet ids of QoS 2 messages that were committed and not released: bridge name, NUL, id.
const idSpace = "bridge.qos2"

// idSet is those ids in memory. An id is put in when its message is handed in, and taken out when that failed.
type idSet struct {
	store store
	name  string

	mu  sync.Mutex // guards what follows
	ids map[uint16]struct{}
}

func idKey(name string, id uint16) string {
	return string(binary.BigEndian.AppendUint16(append([]byte(name), 0), id))
}

func loadIDs(s store, name string) (*idSet, error) {
	set := &idSet{store: s, name: name, ids: map[uint16]struct{}{}}
	err := s.Scan(idSpace, name+"\x00", func(key string, _ []byte) bool {
		if id := key[len(name)+1:]; len(id) == 2 {
			set.ids[uint16(id[0])<<8|uint16(id[1])] = struct{}{}
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read packet ids: %w", err)
	}
	return set, nil
}

// add returns false when the id was there: its message is stored, or about to be. first says that the message was never sent
// before, whatever is known of its id.
func (s *idSet) add(id uint16, first bool) (put edge.Put, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.ids[id]; known && !first {
		return edge.Put{}, false
	}
	s.ids[id] = struct{}{}
	return edge.Put{Space: idSpace, Key: idKey(s.name, id), Value: []byte{1}}, true
}

// undo takes back ids whose messages were not stored.
func (s *idSet) undo(ids []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.ids, id)
	}
}

// forget takes out ids that the other side released, durably: from then on it may use them for other messages. More goes into the
// same commit.
func (s *idSet) forget(ctx context.Context, ids []uint16, more ...edge.Put) error {
	c := edge.Commit{Urgent: true, Puts: more}
	s.mu.Lock()
	for _, id := range ids {
		if _, known := s.ids[id]; known {
			c.Puts = append(c.Puts, edge.Put{Space: idSpace, Key: idKey(s.name, id)})
		}
	}
	s.mu.Unlock()
	if len(c.Puts) == 0 {
		return nil
	}
	if err := s.store.Do(ctx, &c); err != nil {
		return fmt.Errorf("forget packet ids: %w", err)
	}
	s.undo(ids)
	return nil
}

func (s *idSet) all() []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.ids))
}
