package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// orphanPrefix begins the names of topics that a start made for partitions whose topic it could not find out, because
// meta.db and its copy were damaged: NAME is lost, the records are not. The number behind it is the partition's.
const orphanPrefix = "recovered-"

func orphanName(id uint32) string { return fmt.Sprintf("%s%d", orphanPrefix, id) }

// adopt makes a topic for partition id.
func (r *recovery) adopt(id uint32) *Partition {
	s := r.s
	t := &Topic{Name: orphanName(id), Policy: ParsePolicy(nil)}
	// Two starts that find the same damage make the same topic.
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(orphanPrefix), id))
	copy(t.ID[:], sum[:])
	p := newPartition(s, id, 0, t.Name)
	s.placeSealed(p)
	t.Partitions = []*Partition{p}
	s.showTopic(t)
	s.problem(Problem{
		File: "meta.db", Topic: t.Name, Where: fmt.Sprintf("partition %d", id),
		Detail: "the name of its topic is lost with meta.db; its records are kept under this one",
	})
	return p
}

// claim gives an adopted partition to the topic that turns out to be its own: a later frame of the journal named it.
func (s *Store) claim(p *Partition, name string, index int32) {
	if p.topic == name || !strings.HasPrefix(p.topic, orphanPrefix) {
		return
	}
	s.topics.Store(s.topics.Load().with(p.topic, nil))
	p.topic, p.Index = name, index
}

// adoptOrphans makes topics for all partitions that are in the log and that nothing names, and makes that durable. It runs only
// where topics were lost: else such partitions are those of deleted topics.
func (r *recovery) adoptOrphans() error {
	s := r.s
	for _, id := range s.sealed.ids() {
		if s.partition(id) == nil {
			r.adopt(id)
		}
		s.nextPartition = max(s.nextPartition, id+1)
	}
	var puts []Put
	for _, t := range s.topics.Load().sorted {
		for _, p := range t.Partitions {
			s.nextPartition = max(s.nextPartition, p.ID+1)
		}
		if !strings.HasPrefix(t.Name, orphanPrefix) {
			continue
		}
		put, err := topicPut(t)
		if err != nil {
			return fmt.Errorf("keep topic %s: %w", t.Name, err)
		}
		puts = append(puts, put)
	}
	if len(puts) == 0 {
		return nil
	}
	s.kv.put(append(puts, nextPartitionPut(s.nextPartition)))
	if r.fork == nil {
		r.fork = map[uint32]int64{}
	}
	return nil
}

// settled is Get for a start: a value that is damaged in both copies counts as not there.
func (s *Store) settled(space, key string) ([]byte, error) {
	value, err := s.Get(space, key)
	if errors.Is(err, ErrCorrupt) {
		s.problem(Problem{File: s.meta.path, Where: fmt.Sprintf("%s/%q", space, key), Detail: err.Error()})
		return nil, nil
	}
	return value, err
}
