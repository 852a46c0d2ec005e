package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// progressTopic carries no records: the metadata of the offsets committed for it are the positions.
const (
	progressTopic      = "_rivulet-progress"
	progressPartitions = 16 // at first; more are made when the positions need more shards
	maxShards          = 1024
)

// source names one source partition.
type source struct {
	topic     string
	partition int32
}

// position is how far the centre is with one source partition.
type position struct {
	generation string // of the store that the offset is from
	id         uint32 // of the partition; a topic that was made again has another
	next       int64  // first source offset that the centre does not have
}

// progress is what the centre knows. Positions are spread over shards by a hash of the source, one shard an offset of
// progressTopic, since the metadata of one offset is bounded.
type progress struct {
	at       map[source]position
	shards   int
	counter  int64 // the largest committed offset: it counts transactions
	instance string
	dirty    map[int]bool
}

// shardBody is the metadata of one shard, in JSON. Next holds [partition, partition id, next offset] by topic.
type shardBody struct {
	Version    int                   `json:"v"`
	Instance   string                `json:"instance"` // who wrote it: one run of an uplink
	Generation string                `json:"generation"`
	Shards     int                   `json:"shards"`
	Next       map[string][][3]int64 `json:"next"`
}

// shardOf spreads sources over n shards.
func shardOf(s source, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.topic)) // a hash never fails
	return int((h.Sum32() + uint32(s.partition)*0x9e3779b1) >> 7 % uint32(n))
}

func newProgress() *progress {
	return &progress{at: make(map[source]position), shards: 1, counter: -1, dirty: make(map[int]bool)}
}

// read takes in the metadata of one committed offset. Of two that name a source, the larger offset is the later one.
func (p *progress) read(offset int64, metadata string, seen map[source]int64) error {
	var b shardBody
	if err := json.Unmarshal([]byte(metadata), &b); err != nil {
		return fmt.Errorf("decode positions: %w", err)
	}
	if b.Version != 1 {
		return fmt.Errorf("decode positions: version %d was written by a newer Rivulet", b.Version)
	}
	if b.Shards < 1 || b.Shards > maxShards {
		return fmt.Errorf("decode positions: %d shards", b.Shards)
	}
	const longest = 64 // of ids
	if len(b.Generation) > longest || len(b.Instance) > longest {
		return errors.New("decode positions: an id is too long")
	}
	if offset > p.counter {
		p.counter, p.shards, p.instance = offset, b.Shards, b.Instance
	}
	for topic, list := range b.Next {
		const longest = 249 // of topic names
		if len(topic) > longest {
			return errors.New("decode positions: a topic's name is too long")
		}
		for _, e := range list {
			if e[0] < 0 || e[0] > 1<<31-1 || e[1] < 0 || e[1] > 1<<32-1 || e[2] < 0 {
				return fmt.Errorf("decode positions: %v of %s is out of range", e, topic)
			}
			s := source{topic, int32(e[0])}
			if last, ok := seen[s]; ok && last > offset {
				continue
			}
			seen[s] = offset
			p.at[s] = position{b.Generation, uint32(e[1]), e[2]}
		}
	}
	return nil
}

// set changes one position, to be written with the next transaction.
func (p *progress) set(s source, pos position) {
	if p.at[s] != pos {
		p.at[s] = pos
		p.dirty[shardOf(s, p.shards)] = true
	}
}

// encode returns the metadata of the dirty shards. It takes more shards when one is too large for an offset's metadata.
func (p *progress) encode(instance, generation string) (map[int]string, error) {
	for {
		bodies := make(map[int]*shardBody)
		for s, pos := range p.at {
			n := shardOf(s, p.shards)
			if !p.dirty[n] {
				continue
			}
			if bodies[n] == nil {
				bodies[n] = &shardBody{Version: 1, Instance: instance, Generation: generation, Shards: p.shards, Next: make(map[string][][3]int64)}
			}
			bodies[n].Next[s.topic] = append(bodies[n].Next[s.topic], [3]int64{int64(s.partition), int64(pos.id), pos.next})
		}
		out := make(map[int]string, len(bodies))
		fits := true
		for n, b := range bodies {
			for _, list := range b.Next {
				slices.SortFunc(list, func(a, b [3]int64) int { return int(a[0] - b[0]) })
			}
			text, err := json.Marshal(b)
			if err != nil {
				return nil, fmt.Errorf("encode positions: %w", err)
			}
			if len(text) > maxMetadata {
				fits = false
				break
			}
			out[n] = string(text)
		}
		if fits {
			return out, nil
		}
		if p.shards *= 2; p.shards > maxShards {
			return nil, fmt.Errorf("encode positions: %d partitions need more than %d offsets of %s", len(p.at), maxShards, progressTopic)
		}
		p.allDirty()
	}
}

func (p *progress) allDirty() {
	for n := range p.shards {
		p.dirty[n] = true
	}
}

// committed says that all dirty shards are at the centre.
func (p *progress) committed() { clear(p.dirty) }

// fetchProgress reads the committed positions. Stable ones are those that no transaction is about to change: it waits for its end.
func (s *session) fetchProgress(ctx context.Context, stable bool) (*progress, error) {
	n := len(s.u.progressTarget.leaders)
	for {
		p, err := s.fetchShards(ctx, n, stable)
		if err != nil || p.shards <= n {
			return p, err
		}
		n = p.shards // a broker that has not heard of all partitions of the topic
	}
}

// fetchShards reads the first n shards.
func (s *session) fetchShards(ctx context.Context, n int, stable bool) (*progress, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = s.u.group
	req.RequireStable = stable
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic = progressTopic
	for i := range n {
		t.Partitions = append(t.Partitions, int32(i))
	}
	req.Topics = append(req.Topics, t)

	var p *progress
	err := s.u.retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		p = newProgress()
		if err := kerr.ErrorForCode(resp.ErrorCode); errors.Is(err, kerr.GroupIDNotFound) {
			return nil // never committed, or forgotten
		} else if err != nil {
			return err
		}
		seen := make(map[source]int64)
		for _, t := range resp.Topics {
			for _, r := range t.Partitions {
				if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
					return err
				}
				if r.Offset < 0 || r.Metadata == nil || *r.Metadata == "" {
					continue
				}
				if err := p.read(r.Offset, *r.Metadata, seen); err != nil {
					return fmt.Errorf("partition %d of %s, group %s: %w", r.Partition, progressTopic, s.u.group, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetch positions: %w", err)
	}
	return p, nil
}

// sources in a stable order, for logs and tests.
func (p *progress) sources() []source {
	return slices.SortedFunc(maps.Keys(p.at), func(a, b source) int {
		if a.topic != b.topic {
			if a.topic < b.topic {
				return -1
			}
			return 1
		}
		return int(a.partition - b.partition)
	})
}
