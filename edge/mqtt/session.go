package mqtt

import (
	"sync"
	"sync/atomic"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// session is what a connected client subscribes to and how far it has got in the log. One that outlives its connection is put
// into the store when the client leaves (persist.go) and made anew from there when it comes back.
//
// Its deliverer, who appends messages for it and owns window, pending, cursor and aliases, is the dispatcher while the state
// is live, the goroutine of catchUp while it is catching, and nobody otherwise. State changes hand that over.
type session struct {
	srv    *Server
	conn   *conn
	id     string
	state  atomic.Int32
	joined uint64 // QoS 0 of earlier frames is not sent: nobody was there

	leaving atomic.Bool
	parked  chan struct{} // poked when catching ends
	noteDue atomic.Bool   // catchUp is to store its position
	lined   atomic.Int32  // deliveries that wait for a commit
	sharing atomic.Int32  // number of shares

	// The deliverer's.
	window  window
	pending *buffer
	cursor  cursor
	aliases map[string]uint16 // topic aliases that the client was told
	sent    int               // messages in pending and full
	full    []*buffer         // what was pending before
	puts    []edge.Put        // what must be durable before pending and full are sent
	dones   []edge.Put        // that QoS 2 messages are complete, to be stored some time
	resend  []uint16          // packet ids to be sent again, first
	pulled  []retainedCopy    // retained messages to be sent, then
	dirty   bool              // window or cursor changed for this session since its position was stored
	stayed  uint64            // cursor when the position was stored

	// The dispatcher's.
	round uint64
	live  bool // takes part in this round
	fell  bool // fell behind in this round

	mu         sync.Mutex // guards what follows
	subs       map[string]*subscription
	acked      []uint16       // packet ids that the client acknowledged
	retained   []retainedCopy // asked for by SUBSCRIBE
	replays    []replay       // asked for by SUBSCRIBE
	aside      []liveCopy     // live messages that came while the session was not level
	asideBytes int
	expiry     uint32              // seconds that the session outlives the connection
	stored     bool                // there is something of it in the store
	outbound   map[uint16]outbound // QoS 2 messages that are not complete
	completed  []uint16            // packet ids of those that are since the deliverer last looked
	waiting    []*delivery         // in the order in which they are to be sent
	drained    chan struct{}       // closed when waiting gets empty; nil when nobody waits for that
	broken     bool                // a commit failed: nothing is sent any more
	unstored   []edge.Put          // what should have been durable then
	shares     []*share            // that it is a member of; never changed in place
}

// States of a session.
const (
	joining  int32 = iota // CONNECT is being answered
	behind                // waits for room, or for someone to start catchUp
	catching              // catchUp runs
	live                  // the dispatcher delivers
	left                  // the connection ends
)

// cursor is a position: everything up to frame seq was dealt with, and of the next frame, in each partition, what lies before
// done. held are partitions whose records wait for an open transaction to end, from the given offset.
type cursor struct {
	seq  uint64
	done map[uint32]int64
	held map[*edge.Partition]int64
}

// retainedCopy is a retained message that a subscription asked for.
type retainedCopy struct {
	topic string
	sub   *subscription
}

// kept reports whether the session outlives its connection.
func (s *session) kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry > 0
}

// changeExpiry is DISCONNECT's (MQTT 5, 3.14.2.2.2).
func (s *session) changeExpiry(seconds uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry == 0 && seconds > 0 {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "session expiry in DISCONNECT although there was none in CONNECT (MQTT-3.1.2-23)"}
	}
	s.expiry = seconds
	return nil
}

// join starts delivery: what was in flight is sent again at once, then the log from the cursor on.
func (s *session) join() {
	s.joined = s.srv.broker.Store().LastSeq()
	s.resend = s.window.inFlight()
	s.state.Store(behind)
	s.kick()
}

// kick starts catchUp if the session waits.
func (s *session) kick() {
	if s.state.CompareAndSwap(behind, catching) {
		go s.catchUp()
	}
}

// rest ends catching without joining the dispatcher. Whoever makes room, or leaves, looks at the state after that.
func (s *session) rest() {
	s.flushHere()
	s.state.Store(behind)
	s.poke()
}

func (s *session) poke() {
	select {
	case s.parked <- struct{}{}:
	default:
	}
}

// roomMade is called after each write.
func (s *session) roomMade() {
	if s.state.Load() == behind && s.hasRoom() {
		s.kick()
	}
	s.kickShares()
}

// flushHere is flush for a deliverer that serves this session only.
func (s *session) flushHere() {
	if dl := s.flush(func() cursor { return s.cursor }); dl != nil {
		s.srv.commitDeliveries([]*delivery{dl}, nil)
	}
}

// acknowledged takes the packet ids of PUBACKs. There are no more of them than ids; who sends more than that while nothing is sent to it
// is stopped, since they wait here until the deliverer looks.
func (s *session) acknowledged(ids []uint16) error {
	s.mu.Lock()
	s.acked = append(s.acked, ids...)
	n := len(s.acked)
	s.mu.Unlock()
	s.madeRoom()
	if n > maxAcked {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "PUBACKs for messages that were not sent (MQTT-4.3.2)"}
	}
	return nil
}

// maxAcked is twice what a client can have to acknowledge.
const maxAcked = 2 << 16

// madeRoom is called when the window may have got room.
func (s *session) madeRoom() {
	s.kick()
	s.kickShares()
}

// takeAcks gives freed ids to the window; the deliverer's.
func (s *session) takeAcks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = s.dirty || len(s.acked) > 0 || len(s.completed) > 0
	for _, id := range s.acked {
		if sl, ok := s.window.acknowledged(id, 1); ok && sl.share != nil {
			sl.share.settle(sl.ticket)
		}
	}
	for _, id := range s.completed {
		if _, ok := s.window.acknowledged(id, 2); ok && s.expiry > 0 {
			s.dones = append(s.dones, edge.Put{Space: outboundSpace, Key: outboundKey(s.id, id)})
		}
	}
	s.acked, s.completed = s.acked[:0], s.completed[:0]
}

// limit is how many bytes may wait for this client.
func (s *session) limit() int64 {
	o := s.srv.limits()
	if s.srv.queued.Load() > int64(o.MaxQueuedAll) {
		return min(crowded, int64(o.MaxQueued))
	}
	return int64(o.MaxQueued)
}

// crowded is what each client may have waiting when all of them together have too much.
const crowded = 16 << 10

// hasRoom reports whether it is worth while to go on.
func (s *session) hasRoom() bool { return s.conn.out.queued.Load() <= s.limit()/2 }

// pull asks for retained messages; catchUp sends them.
func (s *session) pull(copies []retainedCopy) {
	if len(copies) == 0 {
		return
	}
	s.mu.Lock()
	s.retained = append(s.retained, copies...)
	s.mu.Unlock()
	s.comeBack()
}

// leave ends delivery and puts the session away, or into the store.
func (s *session) leave() {
	s.leaving.Store(true)
	for owned := false; !owned; {
		switch s.state.Load() {
		case live:
			d := &s.srv.dispatch
			d.mu.Lock()
			if owned = s.state.CompareAndSwap(live, left); owned {
				s.cursor = d.cursorOf(nil)
			}
			d.mu.Unlock()
		case joining, behind:
			owned = s.state.CompareAndSwap(joining, left) || s.state.CompareAndSwap(behind, left)
		case catching:
			<-s.parked
		}
	}
	s.awaitDeliveries()
	s.takeAcks()
	s.unsubscribeAll()
	s.put()
}

// unsubscribeAll ends the part of a session that nobody serves any more in the tree and in its shares.
func (s *session) unsubscribeAll() {
	s.mu.Lock()
	subs := s.subs
	s.mu.Unlock()
	for _, sub := range subs {
		if sub.share != nil {
			s.srv.leaveShare(sub, true)
		} else {
			s.srv.tree.remove(sub)
		}
	}
}

// deliver appends a message for the subscriptions that match. It returns false, having done nothing, when there is no room.
// seq is the frame's, waited the time in seconds since the message arrived.
func (s *session) deliver(m *message, subs []*subscription, seq uint64, waited int64) bool {
	c := s.conn
	qos, asPublished, ids, history := -1, false, 0, false
	for _, sub := range subs {
		if !sub.wants(m, seq) || sub.noLocal && string(m.client) == s.id {
			continue
		}
		qos = max(qos, int(min(sub.qos, m.qos)))
		asPublished = asPublished || sub.retainAsPublished
		history = history || seq <= sub.seam
		if sub.id != 0 {
			ids++
		}
	}
	joined := s.joined
	if m.share != nil {
		joined = m.share.joined
	}
	if qos < 0 || qos == 0 && seq <= joined && !history {
		return true
	}
	if m.expires && waited >= int64(m.expiry) {
		s.srv.stats.expired.Add(1)
		return true
	}
	if qos > 0 && s.window.full() {
		return false
	}
	if ids == 0 && c.aliasesOut == 0 && (waited == 0 || !m.expires || c.version < packet.V5) {
		f := m.form(c.version, byte(qos))
		if !s.fits(len(f.bytes)) {
			return s.oversize(len(f.bytes))
		}
		b := s.reserve(len(f.bytes))
		at := len(b)
		s.finish(m, append(b, f.bytes...), at, at+f.id, qos, asPublished && m.retain)
		return true
	}
	numbers := make([]int, 0, 8)
	for _, sub := range subs {
		if sub.id != 0 && sub.wants(m, seq) && (!sub.noLocal || string(m.client) != s.id) {
			numbers = append(numbers, sub.id)
		}
	}
	alias, bare := s.alias(m.topic)
	b := s.reserve(m.size(c.version, len(numbers)))
	at := len(b)
	b, idAt := m.append(b, c.version, byte(qos), m.expiry-uint32(max(waited, 0)), numbers, alias, bare)
	if n := len(b) - at; !s.fits(n) {
		if alias > 0 && !bare {
			delete(s.aliases, string(m.topic)) // the client was not told
		}
		return s.oversize(n)
	}
	s.finish(m, b, at, idAt, qos, asPublished && m.retain)
	return true
}

// finish takes b, in which a PUBLISH was appended at index at, as pending, and fills in what differs by subscriber.
func (s *session) finish(m *message, b []byte, at, idAt, qos int, retain bool) {
	if retain {
		b[at] |= 1
	}
	if qos > 0 {
		sl := slot{part: m.part, offset: m.offset, qos: byte(qos)}
		if m.part == nil && !m.live {
			sl.topic = string(m.topic)
		}
		if m.share != nil && qos == 1 && !m.live {
			sl.share, sl.ticket = m.share, m.share.lend(m)
		}
		id := s.window.take(sl)
		s.dirty = true
		b[idAt], b[idAt+1] = byte(id>>8), byte(id)
		if qos == 2 {
			s.sentQoS2(m, id)
		}
	}
	s.pending.b = b
	s.sent++
}

// reserve returns what to append n bytes to: pending, or another buffer when that is full.
func (s *session) reserve(n int) []byte {
	switch have := s.pending; {
	case have == nil:
		s.pending = s.srv.getBuffer(n)
	case have.free() >= n:
	case len(have.b)+n <= largeOut:
		s.pending = s.srv.getBuffer(largeOut)
		s.pending.b = append(s.pending.b, have.b...)
		s.srv.putBuffer(have)
	default:
		s.flushSome()
		s.pending = s.srv.getBuffer(n)
	}
	return s.pending.b
}

// fits reports whether n more bytes may wait. One message is always taken when nothing waits.
func (s *session) fits(n int) bool {
	waiting := s.conn.out.queued.Load()
	if s.pending != nil {
		waiting += int64(len(s.pending.b))
	}
	for _, b := range s.full {
		waiting += int64(len(b.b))
	}
	return len(s.puts) < maxPuts && n <= s.conn.maxSend && (waiting == 0 || waiting+int64(n) <= s.limit())
}

// oversize drops a message that the client does not take; it counts as sent (MQTT-3.1.2-25). It returns false when the
// message was only too much for now.
func (s *session) oversize(n int) bool {
	if n <= s.conn.maxSend {
		return false
	}
	s.srv.stats.oversize.Add(1)
	return true
}

// alias returns the topic alias to send, and whether the client knows it already.
func (s *session) alias(topic []byte) (alias uint16, known bool) {
	if s.conn.aliasesOut == 0 {
		return 0, false
	}
	if alias, ok := s.aliases[string(topic)]; ok {
		return alias, true
	}
	if len(s.aliases) >= min(int(s.conn.aliasesOut), maxAliasesOut) {
		return 0, false
	}
	if s.aliases == nil {
		s.aliases = map[string]uint16{}
	}
	alias = uint16(len(s.aliases) + 1)
	s.aliases[string(topic)] = alias
	return alias, false
}

// maxAliasesOut bounds what a session remembers of topic aliases: the first topics get one.
const maxAliasesOut = 64
