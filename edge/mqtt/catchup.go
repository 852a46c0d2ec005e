package mqtt

import (
	"errors"

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
)

// catchUp brings a session level with the dispatcher by reading the log from its cursor: first what was in flight, then
// retained messages, then frames. It ends when there is no room (kick starts it again), when the session joins the
// dispatcher, or when it leaves.
func (s *session) catchUp() {
	r := &follower{session: s}
	for {
		s.takeAcks()
		p := s.step(r)
		s.flushHere()
		if s.noteDue.Swap(false) {
			s.srv.commitNotes(s.position(s.cursor))
		}
		switch {
		case s.leaving.Load():
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
		if !s.again(r, s.resend[0]) {
			return blocked
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
	s.startReplays()
	return s.readLog(r)
}

// readLog delivers one chunk of frames, not beyond the dispatcher's position.
func (s *session) readLog(r *follower) progress {
	d := &s.srv.dispatch
	d.mu.Lock()
	end := d.pos
	d.mu.Unlock()
	if s.cursor.seq >= end {
		return level
	}
	store := s.srv.broker.Store()
	frames, err := store.Frames(s.cursor.seq, chunk/4)
	if err != nil {
		if !errors.Is(err, edge.ErrClosed) {
			s.srv.log.Error("cannot read the log for an MQTT session: messages up to here are lost to it", "client", s.id, "after", s.cursor.seq, "err", err)
		}
		s.cursor = cursor{seq: end}
		return onward
	}
	r.begin()
	for i := range frames {
		if frames[i].Seq > end {
			break
		}
		if !r.frame(&frames[i]) {
			return blocked
		}
		if s.leaving.Load() {
			return onward
		}
	}
	if len(frames) == 0 || frames[len(frames)-1].Seq >= end {
		s.cursor = cursor{seq: max(end, s.cursor.seq), held: s.cursor.held} // frames may have nothing in them
	}
	return onward
}

// follower reads the log for one session.
type follower struct {
	session *session
	feed    feed
	msg     message
	subs    map[string][]*subscription // by topic
	version uint64
	now     int64 // milliseconds
}

// begin starts a chunk.
func (r *follower) begin() {
	if v := r.session.srv.tree.version.Load(); r.subs == nil || v != r.version || len(r.subs) > maxCachedTopic {
		r.subs, r.version = map[string][]*subscription{}, v
	}
	r.now = r.session.srv.o.Now().UnixMilli()
}

// frame delivers one frame and moves the cursor; it returns false, with the cursor inside the frame, when there is no room.
func (r *follower) frame(f *edge.Frame) bool {
	s := r.session
	r.feed.held = s.cursor.held
	blocked := false
	var from *edge.Partition
	var start int64 // of from's log: what lies before it was removed, even if it is still there
	err := r.feed.frame(s.srv.broker, f, func(p *edge.Partition, topic []byte, rec batch.Record) bool {
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
		done := r.feed.progress(f, p, rec.Offset)
		for id, offset := range s.cursor.done {
			done[id] = max(done[id], offset)
		}
		s.cursor.done, blocked = done, true
		return false
	})
	s.cursor.held = r.feed.held
	if blocked {
		return false
	}
	if err != nil {
		s.srv.log.Error("cannot deliver a frame to an MQTT session", "client", s.id, "seq", f.Seq, "err", err)
	}
	s.cursor.seq, s.cursor.done = f.Seq, nil
	return true
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
func (s *session) again(r *follower, id uint16) bool {
	sl := s.window.at(id)
	switch {
	case sl == nil:
		return true // acknowledged meanwhile
	case sl.released:
		s.resendPubrel(id)
		return true
	}
	rec, topic, retain := batch.Record{}, []byte(nil), sl.part == nil
	if retain {
		topic = []byte(sl.topic)
		_ = s.srv.broker.Retained(sl.topic, func(_ string, found batch.Record) { rec = found }) // gone is gone
	} else {
		rec, topic = s.srv.record(sl.part, sl.offset)
	}
	if rec.Payload == nil || topic == nil {
		s.giveUp(id)
		return true
	}
	r.begin()
	r.msg.read(topic, rec)
	r.msg.part = sl.part
	waited := max(0, (r.now-rec.Timestamp)/1000)
	if sl.qos == 1 && r.msg.expires && waited >= int64(r.msg.expiry) {
		s.giveUp(id)
		return true
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
			return false
		}
		s.giveUp(id)
		return true
	}
	b[at] |= 8
	if retain {
		b[at] |= 1
	}
	b[idAt], b[idAt+1] = byte(id>>8), byte(id)
	s.pending.b = b
	s.sent++
	return true
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

// record reads one record and its MQTT topic; both are nil when the log does not hold it any more.
func (s *Server) record(p *edge.Partition, offset int64) (batch.Record, []byte) {
	_, _, high := p.Offsets()
	batches, err := p.Read(offset, high, 1)
	if err != nil || len(batches) == 0 {
		return batch.Record{}, nil
	}
	var d batch.Decoder
	if err := d.Reset(batches[0], maxRaw); err != nil {
		return batch.Record{}, nil
	}
	for {
		r, ok := d.Next()
		if !ok {
			return batch.Record{}, nil
		}
		if r.Offset == offset {
			return r, s.broker.MQTTName(p, r.Payload)
		}
	}
}
