package mqtt

import (
	"errors"
	"math"
	"strings"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// replayProperty is the user property of a SUBSCRIBE that asks for history: all that the log holds from then on, in order, and live
// messages behind it. `earliest`, an RFC 3339 time, or a duration back, such as -1h.
const replayProperty = "replay-from"

// replay is what a subscription was promised and has not begun to get.
type replay struct {
	sub   *subscription
	since int64 // Unix ms
}

// earliest is a since that everything is behind.
const earliest = math.MinInt64

// history is what a SUBSCRIBE asks for.
type history struct {
	asked bool
	since int64
}

// replayFrom reads the property.
func replayFrom(p *packet.Properties, now time.Time) (h history, err error) {
	for key, value := range p.User {
		if string(key) != replayProperty {
			continue
		}
		if h.asked {
			return h, errors.New(replayProperty + " is given twice")
		}
		h.asked = true
		if h.since, err = parseReplay(string(value), now); err != nil {
			return h, err
		}
	}
	return h, nil
}

var errReplay = errors.New(replayProperty + `: want "earliest", an RFC 3339 time such as 2026-01-02T15:04:05Z, or a duration back such as -1h`)

func parseReplay(s string, now time.Time) (int64, error) {
	if s == "earliest" {
		return earliest, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UnixMilli(), nil
	}
	if d, err := time.ParseDuration(s); err == nil && strings.HasPrefix(s, "-") {
		return now.Add(d).UnixMilli(), nil
	}
	return 0, errReplay
}

// wants reports whether a message is for the subscription: not before its start, and none of what it does not replay.
func (sub *subscription) wants(m *message, seq uint64) bool {
	return seq > sub.from.Load() && (seq > sub.seam || m.timestamp >= sub.since)
}

// replay has the subscriptions get their history; catchUp reads it.
func (s *session) replay(list []replay) {
	if len(list) == 0 {
		return
	}
	s.mu.Lock()
	s.replays = append(s.replays, list...)
	s.mu.Unlock()
	s.comeBack()
}

// comeBack has a session that is served by the dispatcher go on by itself.
func (s *session) comeBack() {
	if s.state.Load() == live {
		d := &s.srv.dispatch
		d.mu.Lock()
		if s.state.Load() == live { // and nobody else changes that while mu is held
			s.cursor = d.cursorOf(nil)
			s.state.Store(behind) // from here on whoever makes room may start catchUp, which begins at the cursor
		}
		d.mu.Unlock()
	}
	s.kick()
}

// startReplays moves the session back to where the history begins that was asked for. What the other subscriptions have had they
// do not get again: they begin where the session was. For a session that is kept all of this is one commit, before anything of it is
// sent, so that a crash neither repeats nor forgets: nothing has happened, or the replay is a position like any other. It waits for the end
// of a frame that was delivered in part. The deliverer's.
func (s *session) startReplays() progress {
	if s.cursor.done != nil {
		return onward
	}
	s.mu.Lock()
	list := s.replays
	s.mu.Unlock()
	if len(list) == 0 {
		return onward
	}
	store, at := s.srv.broker.Store(), s.cursor.seq
	begin := at
	starts := make(map[*subscription]uint64, len(list))
	for _, r := range list {
		seq := uint64(0)
		if r.since != earliest {
			var err error
			if seq, err = store.SeqAt(r.since, func(topic string) bool { return !edge.Internal(topic) }); err != nil {
				s.srv.log.Error("cannot find where a replay begins: it begins with the oldest message", "client", s.id, "filter", r.sub.filter, "err", err)
				seq = 0
			}
		}
		starts[r.sub] = seq
		begin = min(begin, seq)
	}
	next := cursor{seq: at, held: s.cursor.held}
	if begin < at {
		// The way back leads through transactions that ended: what is held back now must not hide how. It is held back again on
		// the way, so that has to begin before it.
		for p, offset := range s.cursor.held {
			seq, err := p.SeqOf(offset)
			if err != nil && !errors.Is(err, edge.ErrNoTopic) {
				return s.cannotRead(err)
			}
			if seq > 0 {
				begin = min(begin, seq-1)
			}
		}
		next = cursor{seq: begin}
	}
	moved := map[*subscription]uint64{} // where subscriptions begin
	s.mu.Lock()
	for _, sub := range s.subs {
		start, new := starts[sub]
		switch {
		case sub.share != nil: // it has a position of its own
		case new && !sub.waits: // it is not allowed any more
		case new:
			moved[sub] = start
		case begin < at && sub.from.Load() < at:
			moved[sub] = at
		}
	}
	kept := s.expiry > 0
	s.mu.Unlock()
	if kept && len(moved) > 0 {
		if p := s.storeReplays(moved, next); p != onward {
			return p
		}
	}
	s.mu.Lock()
	s.replays = s.replays[len(list):]
	for sub, from := range moved {
		_, new := starts[sub]
		if new && !sub.waits || !new && sub.from.Load() == ended {
			continue // unsubscribed, or forbidden, meanwhile
		}
		sub.waits = false
		sub.from.Store(from)
	}
	s.mu.Unlock()
	s.cursor, s.dirty = next, true
	return onward
}

// storeReplays makes it durable where subscriptions begin, and the session goes on.
func (s *session) storeReplays(moved map[*subscription]uint64, next cursor) progress {
	store := s.srv.broker.Store()
	var puts []edge.Put
	for sub, from := range moved {
		puts = append(puts, edge.Put{Space: subscriptionSpace, Key: subscriptionKey(s.id, sub.filter), Value: sub.encodeFrom(from, false)})
	}
	err := store.Do(s.srv.ctx, &edge.Commit{Puts: append(puts, s.positionPut(next)), Urgent: true})
	if err != nil {
		if !errors.Is(err, edge.ErrClosed) && s.srv.ctx.Err() == nil {
			s.srv.log.Error("cannot store the start of a replay: the connection ends, and it starts when the client comes back", "client", s.id, "err", err)
		}
		s.conn.shut(&packet.Error{Reason: reasonOf(err), Detail: "cannot store the start of a replay: " + err.Error()})
		return broken
	}
	// An UNSUBSCRIBE, or a SUBSCRIBE in its place, may have been stored before.
	puts = nil
	s.mu.Lock()
	for sub := range moved {
		put := edge.Put{Space: subscriptionSpace, Key: subscriptionKey(s.id, sub.filter)}
		if now := s.subs[sub.filter]; now == nil {
			puts = append(puts, put)
		} else if now != sub {
			put.Value = now.encode()
			puts = append(puts, put)
		}
	}
	s.mu.Unlock()
	if len(puts) > 0 {
		s.srv.commitNotes(puts)
	}
	return onward
}
