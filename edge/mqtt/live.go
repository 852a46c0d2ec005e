package mqtt

import (
	"context"
	"slices"
	"sync"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// liveQueue holds what routes with `store: none` deliver, from the connections' goroutines to the dispatcher, which takes all of it at
// once. It is bounded: a publisher that is faster than the dispatcher waits.
type liveQueue struct {
	due chan struct{} // poked when there is something

	mu    sync.Mutex // guards what follows
	items []liveItem
	bytes []byte        // the payloads
	room  chan struct{} // closed when the dispatcher has taken all; nil when nobody waits
	spare liveBatch
}

// liveBatch is what the dispatcher took.
type liveBatch struct {
	items []liveItem
	bytes []byte
}

type liveItem struct {
	topic     string
	end       int // of its payload; it begins where the one before ends
	timestamp int64
}

// maxLive is how much may wait for the dispatcher; maxLiveItems bounds messages without payload.
const (
	maxLive      = 4 << 20
	maxLiveItems = 64 << 10
)

// deliverLive is the edge.LiveSink.
func (s *Server) deliverLive(ctx context.Context, msgs []edge.LiveMessage) {
	q := &s.dispatch.live
	if s.tree.len() == 0 {
		return
	}
	q.mu.Lock()
	for i := range msgs {
		for len(q.bytes) >= maxLive || len(q.items) >= maxLiveItems {
			if !q.wait(ctx, s.stop) { // with mu held; false: not any more
				s.stats.liveDropped.Add(uint64(len(msgs) - i))
				return
			}
		}
		q.bytes = append(q.bytes, msgs[i].Record.Payload...)
		q.items = append(q.items, liveItem{msgs[i].Topic, len(q.bytes), msgs[i].Record.Timestamp})
	}
	q.mu.Unlock()
	q.poke()
}

// wait returns with mu held when there may be room, without it when there will be none.
func (q *liveQueue) wait(ctx context.Context, stop <-chan struct{}) bool {
	if q.room == nil {
		q.room = make(chan struct{})
	}
	room := q.room
	q.mu.Unlock()
	q.poke()
	select {
	case <-room:
		q.mu.Lock()
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

func (q *liveQueue) poke() {
	select {
	case q.due <- struct{}{}:
	default:
	}
}

// take returns all that waits, in the memory that give brought back.
func (q *liveQueue) take() (b liveBatch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b.items, b.bytes = q.items, q.bytes
	q.items, q.bytes, q.spare = q.spare.items, q.spare.bytes, liveBatch{}
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return b
}

func (q *liveQueue) give(b liveBatch) {
	clear(b.items)
	if cap(b.bytes) > 2*maxLive {
		return
	}
	q.mu.Lock()
	q.spare = liveBatch{b.items[:0], b.bytes[:0]}
	q.mu.Unlock()
}

// liveStep delivers what waits; it returns false when there was nothing.
func (d *dispatcher) liveStep() bool {
	b := d.live.take()
	if len(b.items) == 0 {
		d.live.give(b)
		return false
	}
	d.mu.Lock()
	d.beginRound()
	start := 0
	for i := range b.items {
		it := &b.items[i]
		payload := batch.Payload(b.bytes[start:it.end:it.end])
		start = it.end
		ms, ok := d.cache[it.topic]
		if !ok {
			ms = d.srv.tree.match(it.topic)
			d.cache[it.topic] = ms
		}
		if len(ms) == 0 {
			continue
		}
		d.topic = append(d.topic[:0], it.topic...)
		d.msg.read(d.topic, batch.Record{Timestamp: it.timestamp, Payload: payload})
		d.msg.part, d.msg.live = nil, true
		for k := range ms {
			if g := ms[k].share; g != nil {
				if !g.deliver(&d.msg, unlogged, 0) {
					d.srv.stats.liveDropped.Add(1)
				}
				continue
			}
			s := ms[k].sess
			if d.serves(s) && s.deliver(&d.msg, ms[k].subs, unlogged, 0) {
				continue
			}
			if s.live { // no room: what follows must not overtake
				s.live, s.fell = false, true
				s.cursor = d.cursorOf(nil)
			}
			s.setAside(it, payload, ms[k].subs)
		}
	}
	d.release()
	d.mu.Unlock()
	d.live.give(b)
	return true
}

// unlogged stands for the frame of what is in none: it is behind every subscription's start.
const unlogged = ended - 1

// liveCopy is a live message for a session that is not level with the dispatcher.
type liveCopy struct {
	topic     string
	payload   batch.Payload
	timestamp int64
}

// setAside keeps a live message for a session that reads the log or waits for room; as many bytes as may wait for a client, and
// no more: what is beyond is dropped and counted. It is called by the dispatcher.
func (s *session) setAside(it *liveItem, payload batch.Payload, subs []*subscription) {
	wanted := slices.ContainsFunc(subs, func(sub *subscription) bool { return sub.from.Load() != ended })
	if !wanted {
		return
	}
	size := len(it.topic) + len(payload)
	s.mu.Lock()
	if s.asideBytes+size > int(s.limit()) {
		s.mu.Unlock()
		s.srv.stats.liveDropped.Add(1)
		return
	}
	s.asideBytes += size
	s.aside = append(s.aside, liveCopy{it.topic, slices.Clone(payload), it.timestamp})
	s.mu.Unlock()
	if s.state.Load() == behind && s.hasRoom() {
		s.kick()
	}
}

// readAside delivers what was set aside; false: no room. The deliverer's.
func (s *session) readAside(r *follower) bool {
	for !s.leaving.Load() {
		s.mu.Lock()
		if len(s.aside) == 0 {
			s.aside = nil
			s.mu.Unlock()
			return true
		}
		next := s.aside[0]
		s.mu.Unlock()
		r.begin()
		r.msg.read([]byte(next.topic), batch.Record{Timestamp: next.timestamp, Payload: next.payload})
		r.msg.part, r.msg.offset, r.msg.live = nil, 0, true
		if !s.deliver(&r.msg, r.matching([]byte(next.topic)), unlogged, max(0, (r.now-next.timestamp)/1000)) {
			return false
		}
		s.mu.Lock()
		s.aside[0] = liveCopy{}
		s.aside = s.aside[1:]
		s.asideBytes -= len(next.topic) + len(next.payload)
		s.mu.Unlock()
	}
	return true
}
