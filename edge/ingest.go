package edge

import (
	"context"
	"fmt"
	"time"

	"rivulet/storage"
	"rivulet/storage/batch"
)

// Item is one record to store. Either Target (MQTT) or Topic with Partition (-1: by key, else sticky round robin) is set.
type Item struct {
	Target    *Target
	Topic     *Topic
	Partition int32
	Record    batch.Record // Timestamp 0: now
	Retain    bool         // the retained copy is set by what is stored; an empty value clears it (MQTT-3.3.1-6)

	// Results, valid in Done when the Ingest's Err is nil.
	Err    error // ErrRejected (ErrNoKey is one), else nil
	Base   int64 // offset; -1 when plugins dropped it or sent it elsewhere
	Placed int32 // partition index
}

// Ingest is one slice of records, in the order in which they arrived: all in one frame, or none. The records' memory
// belongs to the broker from Ingest to Done. An Ingest may be used again after Done, and is cheaper then; it must not be copied.
type Ingest struct {
	Principal *Principal
	Items     []Item
	Puts      []Put // committed in the same frame, e.g. MQTT packet ids
	// Done is called once, after the fsync or a failure, not on the caller's goroutine; it must not block. With nothing to make
	// durable, since all of it is for routes with `store: none`, it is called before Ingest returns.
	Done func(*Ingest)

	Err error
	Seq uint64

	b      *Broker
	st     staging
	done   func(*storage.Commit)
	places []place
	bytes  int
}

// place says where an item's first record went: an index into the commit's appends and one into that append's records.
type place struct{ app, pos int32 }

// Ingest takes records through plugins into the log. It blocks for room (back-pressure) and while plugins run, until ctx
// ends; Ingests of one goroutine keep their order. An error means that nothing was taken and Done is not called.
// Errors: ErrHalted, ErrNotAuthorized for an MQTT topic that a producer's record claims, and those of storage.Submit.
func (b *Broker) Ingest(ctx context.Context, in *Ingest) error {
	if in.done == nil {
		in.done = in.finish
	}
	in.b, in.Err, in.Seq, in.bytes = b, nil, 0, 0
	in.places = in.places[:0]
	in.st.reset()
	now := b.now().UnixMilli()
	pipes := b.pipes.Load()
	// Records without key go to one partition a slice; the next slice goes to the next.
	var sticky uint32
	for i := range in.Items {
		it := &in.Items[i]
		it.Err, it.Base = nil, -1
		topic, part := it.Topic, it.Partition
		if t := it.Target; t != nil {
			if t.Topic == nil {
				it.Record.Timestamp, it.Placed = now, -1
				in.bytes += len(it.Record.Payload)
				in.places = append(in.places, place{-1, -1})
				in.st.live = append(in.st.live, LiveMessage{t.MQTT, it.Record})
				if it.Retain { // the copy is metadata, and lasts
					in.st.retain = append(in.st.retain, i)
				}
				continue
			}
			topic, part = t.Topic, t.partition
			it.Record.Timestamp = t.stamp(it.Record, now)
		} else {
			if part < 0 {
				part = settingsFor(&in.st, topic).place(it.Record.Payload.Key(), len(topic.Partitions))
			}
			it.Record.Timestamp = settingsFor(&in.st, topic).stamp(it.Record.Timestamp, now)
			if b.mustClaim(in.Principal, topic.Name) {
				var err error
				if it.Record.Payload, _, err = b.claim(in.Principal, topic.Name, it.Record.Payload); err != nil {
					return err
				}
			}
		}
		if part < 0 {
			if sticky == 0 {
				sticky = b.rr.Add(1)
			}
			part = int32(sticky % uint32(len(topic.Partitions)))
		}
		if int(part) >= len(topic.Partitions) {
			return fmt.Errorf("partition %d of %s: %w", part, topic.Name, ErrNoTopic)
		}
		it.Placed = part
		p := topic.Partitions[part]
		in.bytes += len(it.Record.Payload)
		if pipe := pipeOf(pipes, topic.Name); pipe != nil {
			in.st.group(pipe, topic, p, i, it.Record)
			in.places = append(in.places, place{-1, -1})
			continue
		}
		if topic.Policy.Compact && it.Record.Payload.Key() == nil {
			it.Err = ErrNoKey
			in.places = append(in.places, place{-1, -1})
			continue
		}
		app, pos := in.st.add(p, it.Record)
		in.places = append(in.places, place{app, pos})
		if it.Retain {
			in.st.retain = append(in.st.retain, i)
		}
	}
	if err := b.runGroups(ctx, in); err != nil {
		b.retained.settle(&in.st, false)
		return err
	}
	for _, i := range in.st.retain {
		b.retained.set(&in.st, in.Items[i].retainedTopic(in.Items[i].Record.Payload), in.Items[i].Record)
	}
	c := &in.st.commit
	c.Puts = append(c.Puts, in.Puts...)
	c.Urgent = len(in.Items) == 0 // what only releases is taken by a full store too
	c.Done = in.done
	var err error
	if len(in.st.live) == 0 {
		err = b.store.Submit(ctx, c)
	} else {
		err = b.submitLive(ctx, in)
	}
	if err != nil {
		b.retained.settle(&in.st, false)
	}
	return err
}

// submitLive delivers what is not logged, and submits the rest first: when that is refused, nothing was taken.
func (b *Broker) submitLive(ctx context.Context, in *Ingest) error {
	c := &in.st.commit
	if len(c.Appends) == 0 && len(c.Puts) == 0 {
		b.deliverLive(ctx, in.st.live)
		in.finish(c)
		return nil
	}
	live := cloneLive(in.st.live) // once it is submitted, Done may give everything back at any time
	if err := b.store.Submit(ctx, c); err != nil {
		return err
	}
	b.deliverLive(ctx, live)
	return nil
}

// finish translates the commit's outcome into the items'.
func (in *Ingest) finish(c *storage.Commit) {
	in.Err, in.Seq = c.Err, c.Seq
	in.b.retained.settle(&in.st, c.Err == nil)
	if c.Err == nil {
		for i, pl := range in.places {
			if pl.app >= 0 {
				in.Items[i].Base = c.Appends[pl.app].Base + int64(pl.pos)
			}
		}
		in.b.messagesIn.Add(uint64(len(in.Items)))
		in.b.bytesIn.Add(uint64(in.bytes))
	}
	in.Done(in)
}

// runGroups takes the items of topics with plugins through them and stages what comes out.
func (b *Broker) runGroups(ctx context.Context, in *Ingest) error {
	st := &in.st
	for g := range st.groups {
		gr := &st.groups[g]
		err := b.transform(ctx, st, gr.pipe, gr.topic, gr.part, gr.records, func(src int, kind outcome, at place, p batch.Payload) {
			it := &in.Items[gr.items[src]]
			switch {
			case kind == rejected:
				it.Err = ErrRejected
			case kind == stored && in.places[gr.items[src]].app < 0:
				in.places[gr.items[src]] = at
			}
			if it.Retain && kind != rejected && kind != dead {
				b.retained.set(st, it.retainedTopic(p), batch.Record{Timestamp: it.Record.Timestamp, Payload: p})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// retainedTopic is the MQTT topic of a retained copy, as the plugins left it.
func (it *Item) retainedTopic(p batch.Payload) string {
	if name, ok := p.Header(HeaderTopic); ok && len(name) > 0 {
		return string(name)
	}
	if it.Target != nil {
		return it.Target.MQTT
	}
	return ""
}

// staging is the reusable memory of one commit in the making.
type staging struct {
	commit storage.Commit
	spare  [][]batch.Record // record slices of earlier commits
	index  map[uint32]int32 // partition id → append, when there are many
	last   int32
	groups []group
	retain []int
	kept   []retainedChange
	live   []LiveMessage
	run    pipelineRun
	names  map[*Topic]*topicSettings
}

// group is the items of one partition whose topic has plugins.
type group struct {
	pipe    *pipeline
	topic   *Topic
	part    *Partition
	items   []int
	records []batch.Record
}

func (st *staging) reset() {
	for i := range st.commit.Appends {
		if r := st.commit.Appends[i].Records; cap(r) > 0 {
			st.spare = append(st.spare, r[:0])
		}
	}
	clear(st.commit.Appends)
	clear(st.index)
	clear(st.commit.Puts)
	st.commit = storage.Commit{Appends: st.commit.Appends[:0], Puts: st.commit.Puts[:0]}
	clear(st.live)
	st.groups, st.retain, st.live, st.last = st.groups[:0], st.retain[:0], st.live[:0], 0
	st.names = nil
	st.run.reset()
}

// manyAppends is where looking through the appends gets slower than a map.
const manyAppends = 16

// add appends a record to its partition's append and says where it is.
func (st *staging) add(p *Partition, r batch.Record) (app, pos int32) {
	app = st.find(p)
	a := &st.commit.Appends[app]
	a.Records = append(a.Records, r)
	return app, int32(len(a.Records) - 1)
}

func (st *staging) find(p *Partition) int32 {
	apps := st.commit.Appends
	if int(st.last) < len(apps) && apps[st.last].Partition == p {
		return st.last
	}
	if len(apps) <= manyAppends {
		for i := range apps {
			if apps[i].Partition == p {
				st.last = int32(i)
				return st.last
			}
		}
	} else if i, ok := st.index[p.ID]; ok {
		st.last = i
		return i
	}
	a := storage.Append{Partition: p}
	if n := len(st.spare); n > 0 {
		a.Records, st.spare = st.spare[n-1], st.spare[:n-1]
	}
	st.commit.Appends = append(apps, a)
	st.last = int32(len(apps))
	if len(st.commit.Appends) > manyAppends {
		if st.index == nil {
			st.index = map[uint32]int32{}
		}
		if len(st.index) == 0 {
			for i := range st.commit.Appends {
				st.index[st.commit.Appends[i].Partition.ID] = int32(i)
			}
		}
		st.index[p.ID] = st.last
	}
	return st.last
}

func (st *staging) group(pipe *pipeline, topic *Topic, p *Partition, item int, r batch.Record) {
	for i := range st.groups {
		if st.groups[i].part == p {
			st.groups[i].items = append(st.groups[i].items, item)
			st.groups[i].records = append(st.groups[i].records, r)
			return
		}
	}
	n := len(st.groups)
	if n < cap(st.groups) {
		st.groups = st.groups[:n+1] // with the memory of an earlier slice's group
	} else {
		st.groups = append(st.groups, group{})
	}
	g := &st.groups[n]
	g.pipe, g.topic, g.part = pipe, topic, p
	g.items, g.records = append(g.items[:0], item), append(g.records[:0], r)
}

func settingsFor(st *staging, t *Topic) *topicSettings {
	if s, ok := st.names[t]; ok {
		return s
	}
	s := settingsOf(t)
	if st.names == nil {
		st.names = map[*Topic]*topicSettings{}
	}
	st.names[t] = &s
	return &s
}

// clampAhead is how far a producer's clock may be ahead: a gateway or device with a wrong clock must neither be purged at
// once nor be refused by the centre for ever.
const clampAhead = 10 * time.Minute

// stamp applies the topic's rule to a producer's timestamp; 0 means that it sent none.
func (s *topicSettings) stamp(ts, now int64) int64 {
	switch {
	case ts == 0 || s.timestamps == "arrival":
		return now
	case s.timestamps == "clamp" && ts > now+clampAhead.Milliseconds():
		return now
	}
	return ts
}

// stamp of an MQTT message is its arrival, or what the route reads from its value, under the topic's rule.
func (t *Target) stamp(r batch.Record, now int64) int64 {
	if t.timestamp == nil {
		return now
	}
	return t.settings.stamp(jsonTime(r.Payload.Value(), t.timestamp), now)
}
