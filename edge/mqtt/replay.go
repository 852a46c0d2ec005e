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
		if s.state.CompareAndSwap(live, behind) {
			s.cursor = d.cursorOf(nil)
		}
		d.mu.Unlock()
	}
	s.kick()
}

// startReplays moves the session back to where the history begins that was asked for. What the other subscriptions have had they
// do not get again: they begin where the session was. For a session that is kept all of this is one commit, so that a crash
// neither repeats nor forgets. It waits for the end of a frame that was delivered in part. The deliverer's.
func (s *session) startReplays() {
	if s.cursor.done != nil {
		return
	}
	s.mu.Lock()
	list := s.replays
	s.mu.Unlock()
	if len(list) == 0 {
		return
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
	var puts []edge.Put
	changed := func(sub *subscription) {
		puts = append(puts, edge.Put{Space: subscriptionSpace, Key: subscriptionKey(s.id, sub.filter), Value: sub.encode()})
	}
	s.mu.Lock()
	s.replays = s.replays[len(list):]
	for _, sub := range s.subs {
		start, new := starts[sub]
		switch {
		case sub.share != nil: // it has a position of its own
		case new && !sub.waits: // it is not allowed any more
		case new:
			sub.waits = false
			sub.from.Store(start)
			changed(sub)
		case begin < at && sub.from.Load() < at:
			sub.from.Store(at)
			changed(sub)
		}
	}
	kept := s.expiry > 0
	s.mu.Unlock()
	s.cursor.seq, s.dirty = begin, true
	if !kept || len(puts) == 0 {
		return
	}
	puts = append(puts, s.positionPut(s.cursor))
	if err := store.Do(s.srv.ctx, &edge.Commit{Puts: puts, Urgent: true}); err != nil && s.srv.ctx.Err() == nil && !errors.Is(err, edge.ErrClosed) {
		s.srv.log.Error("cannot store the start of a replay: after a crash some of it may come again", "client", s.id, "err", err)
	}
}
