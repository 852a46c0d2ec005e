package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"rivulet/plugins"
	"rivulet/storage/batch"
)

// pipeline is what runs on a topic's records before they are committed, in order. Its lock is held for reading while it runs,
// so that a swap happens between two slices.
type pipeline struct {
	mu    sync.RWMutex
	links []link
}

// link is one plugin of a pipeline. One that could not be started (its upload is gone or damaged) has no att: the topic
// refuses records until someone acts, since passing them unfiltered or dropping them would be a guess.
type link struct {
	spec   AttachSpec
	rev    Revision
	att    *plugins.Attachment
	broken error
}

func (l *link) process(ctx context.Context, lane int, in []batch.Record, out *plugins.Output) error {
	if l.att == nil {
		return fmt.Errorf("%w: %w", ErrHalted, l.broken)
	}
	return l.att.Process(ctx, lane, in, out)
}

func (l *link) stats() plugins.Stats {
	if l.att == nil {
		return plugins.Stats{State: "halted", LastError: l.broken.Error()}
	}
	return l.att.Stats()
}

func pipeOf(pipes *map[string]*pipeline, topic string) *pipeline {
	if pipes == nil {
		return nil
	}
	return (*pipes)[topic]
}

func (p *pipeline) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		if l.att != nil {
			_ = l.att.Close(context.Background()) // only instances' memory is at stake
		}
	}
	p.links = nil
}

// lanes is how many instances an attachment may have: one for each core keeps them all busy.
func lanes() int { return min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) }

// outcome is what became of one input record.
type outcome uint8

const (
	stored outcome = iota
	dead
	rejected
)

// pipelineRun keeps the outputs of a commit in the making; their payloads live until it is done.
type pipelineRun struct {
	outs []*plugins.Output
	used int
}

func (r *pipelineRun) next() *plugins.Output {
	if r.used == len(r.outs) {
		r.outs = append(r.outs, &plugins.Output{})
	}
	r.used++
	return r.outs[r.used-1]
}

func (r *pipelineRun) reset() {
	for _, o := range r.outs[:r.used] {
		o.Reset()
	}
	r.used = 0
}

// transform takes records of one partition through its plugins and stages what comes out. report is called for every output
// and every record that failed, with the index of its input.
func (b *Broker) transform(ctx context.Context, st *staging, pipe *pipeline, topic *Topic, part *Partition, recs []batch.Record,
	report func(src int, kind outcome, at place, p batch.Payload),
) error {
	pipe.mu.RLock()
	defer pipe.mu.RUnlock()
	lane := int(part.ID) % lanes()
	cur, origin := recs, []int(nil) // origin: index into recs of each of cur; nil is itself
	for i, l := range pipe.links {
		out := st.run.next()
		if err := l.process(ctx, lane, cur, out); err != nil {
			return fmt.Errorf("plugin %s on %s: %w", l.spec.Plugin, topic.Name, err)
		}
		var next []batch.Record
		var nextOrigin []int
		for _, res := range out.Results {
			in, src := cur[res.Source], res.Source
			if origin != nil {
				src = origin[src]
			}
			switch {
			case res.Kind == plugins.Rejected:
				report(src, rejected, place{-1, -1}, nil)
			case res.Kind == plugins.Dead:
				if err := b.deadLetter(ctx, st, topic, part, l, in, res.Err); err != nil {
					return err
				}
				report(src, dead, place{-1, -1}, nil)
			case res.Topic == "" && i < len(pipe.links)-1:
				next = append(next, batch.Record{Timestamp: in.Timestamp, Payload: res.Payload})
				nextOrigin = append(nextOrigin, src)
			default:
				to, home, err := b.outputPartition(ctx, st, topic, part, in.Payload, res)
				if errors.Is(err, ErrNoKey) {
					if err := b.deadLetter(ctx, st, topic, part, l, in, err); err != nil {
						return err
					}
					report(src, dead, place{-1, -1}, nil)
					continue
				}
				if err != nil {
					return err
				}
				app, pos := st.add(to, batch.Record{Timestamp: in.Timestamp, Payload: res.Payload})
				at := place{app, pos}
				if !home {
					at = place{-1, -1} // its offset means nothing to the producer
				}
				report(src, stored, at, res.Payload)
			}
		}
		cur, origin = next, nextOrigin
	}
	return nil
}

// outputPartition keeps the input's partition unless topic or key changed.
func (b *Broker) outputPartition(ctx context.Context, st *staging, topic *Topic, part *Partition, in batch.Payload, res plugins.Result) (p *Partition, home bool, err error) {
	key := res.Payload.Key()
	if res.Topic == "" || res.Topic == topic.Name {
		if bytes.Equal(key, in.Key()) && (key != nil || !topic.Policy.Compact) {
			return part, true, nil
		}
	} else if topic, err = b.EnsureTopic(ctx, res.Topic); err != nil {
		return nil, false, fmt.Errorf("plugin output: %w", err)
	}
	if topic.Policy.Compact && key == nil {
		return nil, false, fmt.Errorf("plugin output for %s: %w", topic.Name, ErrNoKey)
	}
	n := len(topic.Partitions)
	i := settingsFor(st, topic).place(key, n)
	if i < 0 {
		i = part.Index % int32(n)
	}
	p = topic.Partitions[i]
	return p, p == part, nil
}

// deadLetter stages a record for the topic's dead-letter topic, with the reason in its headers.
func (b *Broker) deadLetter(ctx context.Context, st *staging, topic *Topic, part *Partition, l link, in batch.Record, why error) error {
	to, err := b.EnsureTopic(ctx, DeadLetterTopic(topic.Name))
	if err != nil {
		return fmt.Errorf("dead-letter topic: %w", err)
	}
	_, _, high := part.Offsets()
	payload := DeadLetterPayload(in.Payload, why,
		fmt.Sprintf("%s/%d/%d", topic.Name, part.Index, high), // before the commit there is only the offset it would have had
		batch.KV{Key: HeaderPlugin, Value: []byte(l.spec.Plugin + "@" + strconv.Itoa(l.rev.Number))})
	st.add(to.Partitions[int(part.Index)%len(to.Partitions)], batch.Record{Timestamp: in.Timestamp, Payload: payload})
	return nil
}

// DeadLetterPayload is a record with the headers that say why it could not go on (SEMANTICS, Words).
func DeadLetterPayload(in batch.Payload, why error, source string, by batch.KV) batch.Payload {
	headers := append(in.Headers(nil),
		batch.KV{Key: HeaderError, Value: []byte(why.Error())},
		batch.KV{Key: HeaderSource, Value: []byte(source)}, by)
	return batch.AppendPayload(nil, in.Key(), in.Value(), headers)
}
