package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Topic is an immutable snapshot of one topic.
type Topic struct {
	ID         [16]byte
	Name       string
	Config     map[string]string
	Policy     Policy // what Config says
	Partitions []*Partition
}

// topicTable is an immutable snapshot of all topics.
type topicTable struct {
	byName map[string]*Topic
	byID   map[[16]byte]*Topic
	sorted []*Topic
}

// with returns a table in which t stands for name; nil removes it.
func (tt *topicTable) with(name string, t *Topic) *topicTable {
	n := &topicTable{byName: maps.Clone(tt.byName), byID: maps.Clone(tt.byID)}
	if n.byName == nil {
		n.byName, n.byID = map[string]*Topic{}, map[[16]byte]*Topic{}
	}
	if old := n.byName[name]; old != nil {
		delete(n.byName, name)
		delete(n.byID, old.ID)
	}
	if t != nil {
		n.byName[name] = t
		n.byID[t.ID] = t
	}
	n.sorted = slices.SortedFunc(maps.Values(n.byName), func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
	return n
}

// spaceTopics holds a value per topic; spaceStore what there is one of.
const (
	spaceTopics = "_topics"
	spaceStore  = "_store"

	keyNextPartition = "next-partition"
)

// topicRecord is a topic's value in the key-value space.
type topicRecord struct {
	ID         []byte            `json:"id"`
	Partitions []uint32          `json:"partitions"`
	Config     map[string]string `json:"config,omitempty"`
}

func topicPut(t *Topic) (Put, error) {
	rec := topicRecord{ID: t.ID[:], Config: t.Config}
	for _, p := range t.Partitions {
		rec.Partitions = append(rec.Partitions, p.ID)
	}
	value, err := json.Marshal(rec)
	return Put{Space: spaceTopics, Key: t.Name, Value: value}, err
}

func nextPartitionPut(next uint32) Put {
	return Put{Space: spaceStore, Key: keyNextPartition, Value: strconv.AppendUint(nil, uint64(next), 10)}
}

// CreateTopic is durable when it returns. Errors: ErrTopicExists.
func (s *Store) CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) (*Topic, error) {
	s.topicMu.Lock()
	defer s.topicMu.Unlock()
	if _, ok := s.Topic(name); ok {
		return nil, fmt.Errorf("create topic %s: %w", name, ErrTopicExists)
	}
	if name == "" || partitions < 1 {
		return nil, fmt.Errorf("create topic %q: a topic has a name and at least one partition", name)
	}
	t := &Topic{Name: name, Config: maps.Clone(config), Policy: ParsePolicy(config)}
	for i := 0; i < len(t.ID); i += 8 {
		r := s.o.Rand()
		for k := range 8 {
			t.ID[i+k] = byte(r >> (8 * k))
		}
	}
	if err := s.putTopic(ctx, t, partitions); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	return t, nil
}

// AddPartitions grows a topic to total partitions.
func (s *Store) AddPartitions(ctx context.Context, name string, total int) (*Topic, error) {
	s.topicMu.Lock()
	defer s.topicMu.Unlock()
	old, ok := s.Topic(name)
	if !ok {
		return nil, fmt.Errorf("add partitions to %s: %w", name, ErrNoTopic)
	}
	if total < len(old.Partitions) {
		return nil, fmt.Errorf("add partitions to %s: it has %d, partitions cannot be taken away", name, len(old.Partitions))
	}
	t := &Topic{ID: old.ID, Name: name, Config: old.Config, Policy: old.Policy, Partitions: slices.Clone(old.Partitions)}
	if err := s.putTopic(ctx, t, total); err != nil {
		return nil, fmt.Errorf("add partitions to %s: %w", name, err)
	}
	return t, nil
}

// AlterTopic replaces a topic's configuration.
func (s *Store) AlterTopic(ctx context.Context, name string, config map[string]string) (*Topic, error) {
	s.topicMu.Lock()
	defer s.topicMu.Unlock()
	old, ok := s.Topic(name)
	if !ok {
		return nil, fmt.Errorf("alter topic %s: %w", name, ErrNoTopic)
	}
	t := &Topic{ID: old.ID, Name: name, Config: maps.Clone(config), Partitions: old.Partitions, Policy: ParsePolicy(config)}
	if err := s.putTopic(ctx, t, len(old.Partitions)); err != nil {
		return nil, fmt.Errorf("alter topic %s: %w", name, err)
	}
	return t, nil
}

// DeleteTopic is durable when it returns. Errors: ErrNoTopic.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	s.topicMu.Lock()
	defer s.topicMu.Unlock()
	t, ok := s.Topic(name)
	if !ok {
		return fmt.Errorf("delete topic %s: %w", name, ErrNoTopic)
	}
	c := &Commit{Urgent: true, Puts: []Put{{Space: spaceTopics, Key: name}}, visible: func() { s.removeTopic(t) }}
	if err := s.Do(ctx, c); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}

// putTopic grows t to total partitions and stores it. topicMu is held.
func (s *Store) putTopic(ctx context.Context, t *Topic, total int) error {
	next := s.nextPartition
	for i := len(t.Partitions); i < total; i++ {
		t.Partitions = append(t.Partitions, newPartition(s, next, int32(i), t.Name))
		next++
	}
	put, err := topicPut(t)
	if err != nil {
		return err
	}
	c := &Commit{Urgent: true, Puts: []Put{put, nextPartitionPut(next)}, visible: func() { s.showTopic(t); s.wakeSealer() }}
	if err := s.Do(ctx, c); err != nil {
		return err
	}
	s.nextPartition = next
	return nil
}

// showTopic publishes t. The committer calls it, between two frames, and recovery.
func (s *Store) showTopic(t *Topic) {
	s.partsMu.Lock()
	for _, p := range t.Partitions {
		s.parts[p.ID] = p
	}
	s.partsMu.Unlock()
	s.topics.Store(s.topics.Load().with(t.Name, t))
	s.epoch.Add(1)
}

// removeTopic publishes that t is gone. From here on no commit can append to its partitions. The committer calls it, and recovery.
func (s *Store) removeTopic(t *Topic) {
	s.topics.Store(s.topics.Load().with(t.Name, nil))
	s.epoch.Add(1)
	s.partsMu.Lock()
	for _, p := range t.Partitions {
		delete(s.parts, p.ID)
		s.doomed = append(s.doomed, p.ID)
	}
	s.partsMu.Unlock()
	for _, p := range t.Partitions {
		p.gone = true
		s.forgetProducers(p)
		grave := startPut(p.ID, 0)
		grave.Value = nil
		s.graves = append(s.graves, grave)
		s.tailBytes.Add(-p.remove())
	}
	s.wakeSealer()
}

// applyTopicPut is a topic's change as recovery meets it.
func (s *Store) applyTopicPut(p Put) error {
	switch p.Space {
	case spaceStarts:
		return s.applyStart(p)
	case spaceStore:
		if p.Key == keyNextPartition {
			next, err := strconv.ParseUint(string(p.Value), 10, 32)
			if err != nil {
				return fmt.Errorf("read partition counter: %w", err)
			}
			s.nextPartition = uint32(next)
		}
	case spaceTopics:
		old, exists := s.Topic(p.Key)
		if p.Value == nil {
			if exists {
				s.removeTopic(old)
			}
			return nil
		}
		var rec topicRecord
		if err := json.Unmarshal(p.Value, &rec); err != nil {
			return fmt.Errorf("read topic %s: %w", p.Key, err)
		}
		t := &Topic{Name: p.Key, Config: rec.Config, Policy: ParsePolicy(rec.Config)}
		if copy(t.ID[:], rec.ID) != len(t.ID) {
			return fmt.Errorf("read topic %s: %w", p.Key, errors.New("id has a wrong length"))
		}
		for i, id := range rec.Partitions {
			part := s.partition(id)
			if part == nil {
				part = newPartition(s, id, int32(i), p.Key)
				s.placeSealed(part)
			}
			s.claim(part, p.Key, int32(i))
			t.Partitions = append(t.Partitions, part)
		}
		s.showTopic(t)
	}
	return nil
}

// partition returns a live partition by id.
func (s *Store) partition(id uint32) *Partition {
	s.partsMu.RLock()
	defer s.partsMu.RUnlock()
	return s.parts[id]
}

// topicOf is the name of a partition's topic, "" when there is none.
func (s *Store) topicOf(id uint32) string {
	if p := s.partition(id); p != nil {
		return p.topic
	}
	return ""
}

// Topic returns a topic by name.
func (s *Store) Topic(name string) (*Topic, bool) {
	t, ok := s.topics.Load().byName[name]
	return t, ok
}

// TopicByID returns a topic by id.
func (s *Store) TopicByID(id [16]byte) (*Topic, bool) {
	t, ok := s.topics.Load().byID[id]
	return t, ok
}

// Topics returns all topics, by name.
func (s *Store) Topics() []*Topic { return slices.Clone(s.topics.Load().sorted) }

// Epoch grows with every change of topics, so that callers can cache what they looked up.
func (s *Store) Epoch() uint64 { return s.epoch.Load() }
