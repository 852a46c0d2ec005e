package mqtt

import (
	"errors"
	"fmt"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage/batch"
)

// progress of one step of a session that is behind.
type progress uint8

const (
	onward  progress = iota // there may be more
	blocked                 // no room, or the window is full
	level                   // nothing is left up to where the dispatcher is
	broken                  // the log cannot be read: the connection ends, the position stays
)

// catchUp brings a session level with the dispatcher by reading the log from its cursor: first what was in flight, then
// retained messages, then frames. It ends when there is no room (kick starts it again), when the session joins the
// dispatcher, or when it leaves.
func (s *session) catchUp() {
	r := &follower{session: s, feed: s.srv.newFeed()}
	for {
		s.takeAcks()
		p := s.step(r)
		s.flushHere()
		if s.noteDue.Swap(false) {
			s.srv.commitNotes(s.position(s.cursor))
		}
		switch {
		case p == broken || s.leaving.Load():
			s.rest()
			return
		case p == level && s.goLive():
			return
		case p == blocked && !s.park():
			return
		}
	}
}

// park gives up for want of room. It returns true when there is room after all: whoever makes some looks at the state first.
func (s *session) park() (again bool) {
	full := s.window.full()
	s.rest()
	if s.leaving.Load() || !s.hasRoom() || full && !s.hasAcks() {
		return false
	}
	return s.state.CompareAndSwap(behind, catching)
}

func (s *session) hasAcks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked) > 0 || len(s.completed) > 0
}

// goLive hands the session to the dispatcher if it is exactly where the dispatcher is.
func (s *session) goLive() bool {
	d := &s.srv.dispatch
	d.mu.Lock()
	defer d.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor.seq < d.pos || len(s.retained) > 0 || len(s.aside) > 0 || len(s.replays) > 0 {
		return false
	}
	d.adopt(s.cursor.held)
	for _, g := range s.shares { // they could not use it before
		g.kick()
	}
	s.state.Store(live)
	s.poke()
	return true
}

// adopt takes over what a reader holds back that joins the dispatcher: rarely more than the dispatcher knows, and then others
// get a few messages twice. It is called with mu held.
func (d *dispatcher) adopt(held map[*edge.Partition]int64) {
	for p, offset := range held {
		if at, ok := d.feed.held[p]; !ok || at > offset {
			delete(d.feed.held, p)
			d.feed.keep(p, offset)
		}
	}
}

// step delivers a chunk of what comes next.
func (s *session) step(r *follower) progress {
	for len(s.resend) > 0 {
		if s.window.used-len(s.resend) >= s.window.max { // the client may take fewer than before (MQTT-3.3.4-9)
			return blocked
		}
		if p := s.again(r, s.resend[0]); p != onward {
			return p
		}
		s.resend = s.resend[1:]
	}
	s.mu.Lock()
	s.pulled, s.retained = append(s.pulled, s.retained...), nil
	s.mu.Unlock()
	for len(s.pulled) > 0 {
		if !s.copyRetained(r, s.pulled[0]) {
			return blocked
		}
		s.pulled = s.pulled[1:]
		if s.leaving.Load() {
			return onward
		}
	}
	s.pulled = nil
	if !s.readAside(r) {
		return blocked
	}
	if p := s.startReplays(); p != onward {
		return p
	}
	return s.readLog(r)
}

// readLog delivers one chunk of frames, not beyond the dispatcher's position.
func (s *session) readLog(r *follower) progress {
	if s.conn.why.Load() != nil {
		return broken
	}
	d := &s.srv.dispatch
	d.mu.Lock()
	end := d.pos
	d.mu.Unlock()
	if s.cursor.seq >= end {
		return level
	}
	r.begin() // behind end: what is subscribed to later than this begins behind it
	if r.nothing && len(s.cursor.held) == 0 {
		s.cursor = cursor{seq: end}
		return onward
	}
	frames, reached, err := s.srv.reader.frames(s.cursor.seq, chunk/4, r.query)
	if err != nil {
		return s.cannotRead(err)
	}
	for i := range frames {
		if frames[i].Seq > end {
			break
		}
		if p := r.frame(&frames[i]); p != onward {
			return p
		}
		if s.leaving.Load() {
			return onward
		}
	}
	if len(frames) == 0 && reached <= s.cursor.seq { // what lies between has nothing in it
		reached = end
	}
	if at := min(reached, end); at > s.cursor.seq {
		s.cursor = cursor{seq: at, held: s.cursor.held}
	}
	return onward
}

// cannotRead ends the connection: the session stays where it is, and goes on from there when the client comes back.
func (s *session) cannotRead(err error) progress {
	if !errors.Is(err, edge.ErrClosed) {
		s.srv.log.Error("cannot read the log for an MQTT session: its connection ends, and it goes on here when the client comes back",
			"client", s.id, "after", s.cursor.seq, "err", err)
	}
	s.conn.shut(&packet.Error{Reason: reasonOf(err), Detail: "cannot read the log: " + err.Error()})
	return broken
}

// follower reads the log for one session.
type follower struct {
	session *session
	feed    feed
	msg     message
	subs    map[string][]*subscription // by topic
	query   *edge.LogQuery             // what the subscriptions are about
	nothing bool                       // there are none but shared ones
	version uint64
	now     int64 // milliseconds
}

// begin starts a chunk.
func (r *follower) begin() {
	if v := r.session.srv.tree.version.Load(); r.subs == nil || v != r.version || len(r.subs) > maxCachedTopic {
		r.subs, r.version = map[string][]*subscription{}, v
		r.query, r.nothing = r.session.query()
	}
	r.now = r.session.srv.o.Now().UnixMilli()
}

// query is what the session looks for in the log. Of a topic with partitions that are held back it is to see all transactions.
func (s *session) query() (q *edge.LogQuery, nothing bool) {
	s.mu.Lock()
	filters := make([]string, 0, len(s.subs))
	for _, sub := range s.subs {
		if sub.share == nil {
			filters = append(filters, sub.filter)
		}
	}
	s.mu.Unlock()
	return s.srv.broker.Query(filters, s.cursor.holds), len(filters) == 0
}

// holds reports whether something of a topic is held back.
func (c *cursor) holds(topic string) bool {
	for p := range c.held {
		if p.Topic() == topic {
			return true
		}
	}
	return false
}

// frame delivers one frame and moves the cursor; when there is no room, or the log cannot be read, it stands inside the frame.
func (r *follower) frame(f *edge.Frame) progress {
	s := r.session
	r.feed.held = s.cursor.held
	stopped := false
	var from *edge.Partition
	var start int64 // of from's log: what lies before it was removed, even if it is still there
	err := r.feed.frame(f, func(p *edge.Partition, topic []byte, rec batch.Record) bool {
		if p != from {
			from = p
			start, _, _ = p.Offsets()
		}
		if rec.Offset < max(start, s.cursor.done[p.ID]) {
			return true
		}
		subs := r.matching(topic)
		if len(subs) == 0 {
			return true
		}
		r.msg.read(topic, rec)
		r.msg.part = p
		if s.deliver(&r.msg, subs, f.Seq, max(0, (r.now-rec.Timestamp)/1000)) {
			return true
		}
		stopped = true
		s.cursor.stop(&r.feed, f, rec.Offset)
		return false
	})
	s.cursor.held = r.feed.held
	switch {
	case stopped:
		return blocked
	case errors.Is(err, errLog):
		s.cursor.stop(&r.feed, f, -1)
		return s.cannotRead(err)
	case err != nil:
		s.srv.log.Error("cannot deliver a frame to an MQTT session", "client", s.id, "seq", f.Seq, "err", err)
	}
	s.cursor.seq, s.cursor.done = f.Seq, nil
	return onward
}

// matching lists the session's subscriptions for a topic.
func (r *follower) matching(topic []byte) []*subscription {
	subs, ok := r.subs[string(topic)]
	if ok {
		return subs
	}
	s := r.session
	s.mu.Lock()
	for _, sub := range s.subs {
		if sub.share == nil && matches(sub.filter, topic) {
			subs = append(subs, sub)
		}
	}
	s.mu.Unlock()
	r.subs[string(topic)] = subs
	return subs
}

// copyRetained delivers one retained message for the subscription that asked for it (MQTT-3.3.1-8).
func (s *session) copyRetained(r *follower, want retainedCopy) bool {
	if want.sub.from.Load() == ended {
		return true // unsubscribed meanwhile
	}
	rec, err := s.srv.sysCopy(want.topic), error(nil)
	if rec.Payload == nil {
		err = s.srv.broker.Retained(want.topic, func(_ string, found batch.Record) { rec = found })
	}
	if err != nil {
		s.srv.log.Error("cannot read a retained message", "topic", want.topic, "err", err)
	}
	if rec.Payload == nil {
		return true // cleared meanwhile
	}
	r.msg.read([]byte(want.topic), rec)
	r.msg.part, r.msg.offset = nil, 0
	return s.deliverRetained(&r.msg, want.sub, max(0, (s.srv.o.Now().UnixMilli()-rec.Timestamp)/1000))
}

func (s *session) deliverRetained(m *message, sub *subscription, waited int64) bool {
	qos := min(sub.qos, m.qos)
	if sub.noLocal && string(m.client) == s.id {
		return true
	}
	if m.expires && waited >= int64(m.expiry) {
		s.srv.stats.expired.Add(1)
		return true
	}
	if qos > 0 && s.window.full() {
		return false
	}
	var ids []int
	if sub.id != 0 {
		ids = []int{sub.id}
	}
	b := s.reserve(m.size(s.conn.version, len(ids)))
	at := len(b)
	b, idAt := m.append(b, s.conn.version, qos, m.expiry-uint32(waited), ids, 0, false)
	if n := len(b) - at; !s.fits(n) {
		return s.oversize(n)
	}
	s.finish(m, b, at, idAt, int(qos), true)
	return true
}

// again sends a message that was in flight when the connection was lost once more, with DUP and its old id (MQTT-4.4.0-1).
// What the log does not hold any more is given up.
func (s *session) again(r *follower, id uint16) progress {
	sl := s.window.at(id)
	switch {
	case sl == nil:
		return onward // acknowledged meanwhile
	case sl.released:
		s.resendPubrel(id)
		return onward
	}
	rec, topic, retain := batch.Record{}, []byte(nil), sl.part == nil
	if retain {
		topic = []byte(sl.topic)
		err := s.srv.broker.Retained(sl.topic, func(_ string, found batch.Record) { rec = found }) // gone is gone
		if err != nil {
			return s.cannotRead(err)
		}
	} else {
		var err error
		if rec, topic, err = s.srv.record(sl.part, sl.offset); err != nil {
			return s.cannotRead(err)
		}
	}
	if rec.Payload == nil || topic == nil {
		s.giveUp(id)
		return onward
	}
	r.begin()
	r.msg.read(topic, rec)
	r.msg.part = sl.part
	waited := max(0, (r.now-rec.Timestamp)/1000)
	if sl.qos == 1 && r.msg.expires && waited >= int64(r.msg.expiry) {
		s.giveUp(id)
		return onward
	}
	waited = min(waited, int64(r.msg.expiry)) // QoS 2 goes on, expired or not (MQTT-4.3.3-7)
	var ids []int
	for _, sub := range r.matching(topic) {
		retain = retain || sub.retainAsPublished && r.msg.retain
		if sub.id != 0 {
			ids = append(ids, sub.id)
		}
	}
	b := s.reserve(r.msg.size(s.conn.version, len(ids)))
	at := len(b)
	b, idAt := r.msg.append(b, s.conn.version, sl.qos, r.msg.expiry-uint32(waited), ids, 0, false)
	if n := len(b) - at; !s.fits(n) {
		if n <= s.conn.maxSend {
			return blocked
		}
		s.giveUp(id)
		return onward
	}
	b[at] |= 8
	if retain {
		b[at] |= 1
	}
	b[idAt], b[idAt+1] = byte(id>>8), byte(id)
	s.pending.b = b
	s.sent++
	return onward
}

// resendPubrel goes on where the exchange was (MQTT-4.4.0-1).
func (s *session) resendPubrel(id uint16) {
	b := s.reserve(4)
	s.pending.b = packet.AppendAck(b, packet.PUBREL, s.conn.version, id, packet.Success)
}

// giveUp ends the delivery of a message that cannot be sent again. The client may have got it: of QoS 2 it keeps the id
// until PUBREL comes, and would take the next message with that id for this one.
func (s *session) giveUp(id uint16) {
	sl := s.window.at(id)
	if sl.qos == 1 {
		s.window.acknowledged(id, 1)
		return
	}
	sl.released = true
	s.mu.Lock()
	s.outbound[id] = outbound{sl.order, true}
	s.mu.Unlock()
	if s.kept() {
		s.puts = append(s.puts, edge.Put{Space: outboundSpace, Key: outboundKey(s.id, id), Value: encodeReleased(sl.order)})
	}
	s.resendPubrel(id)
}

// record reads one record and its MQTT topic; both are nil when the log does not hold it any more. An error says that it could not
// be read now.
func (s *Server) record(p *edge.Partition, offset int64) (batch.Record, []byte, error) {
	_, _, high := p.Offsets()
	batches, err := s.reader.read(p, offset, high, 1)
	if errors.Is(err, edge.ErrOffsetRange) || errors.Is(err, edge.ErrNoTopic) {
		return batch.Record{}, nil, nil // trimmed, or its topic was deleted
	}
	if err != nil {
		return batch.Record{}, nil, fmt.Errorf("read %s/%d at offset %d: %w", p.Topic(), p.Index, offset, err)
	}
	if len(batches) == 0 {
		return batch.Record{}, nil, nil
	}
	var d batch.Decoder
	if err := d.Reset(batches[0], maxRaw); err != nil {
		return batch.Record{}, nil, nil //nolint:nilerr // it will never be readable
	}
	for {
		r, ok := d.Next()
		if !ok {
			return batch.Record{}, nil, nil
		}
		if r.Offset == offset {
			return r, s.broker.MQTTName(p, r.Payload), nil
		}
	}
}
