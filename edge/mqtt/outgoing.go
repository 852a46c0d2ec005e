package mqtt

import (
	"encoding/binary"
	"fmt"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// QoS 2 messages to a client, exactly once through a crash (MQTT-4.3.3). Three things are durable before what depends on
// them is sent: the packet id with the place of its message, before the PUBLISH; that PUBREC came, before the PUBREL; and,
// in the same commit as the packet ids, the position behind their messages, so that no message is delivered a second time
// under another id. That an exchange is complete rides a later commit: a PUBREL too many does no harm.

// outboundSpace holds the QoS 2 messages that were sent to a client and not completed: client id, NUL, packet id.
const outboundSpace = "mqtt.outbound"

func outboundKey(client string, id uint16) string { return qos2Key(client, id) }

// outbound is how far the exchange of a QoS 2 message is; the key is its packet id.
type outbound struct {
	order    uint64
	released bool // PUBREC came
}

// The value in outboundSpace: version, 1 when released, order, then as in a position: partition+1 and offset, or 0 and a topic.
// A released one ends behind its order.
const outboundVersion = 1

func (s *slot) encodeOutbound() []byte {
	b := make([]byte, 0, 24+len(s.topic))
	b = append(b, outboundVersion, 0)
	b = binary.AppendUvarint(b, s.order)
	return s.appendPlace(b)
}

func encodeReleased(order uint64) []byte {
	return binary.AppendUvarint([]byte{outboundVersion, 1}, order)
}

// decodeOutbound returns false for a message whose topic was deleted.
func decodeOutbound(b []byte, parts map[uint32]*edge.Partition) (sl slot, ok bool, err error) {
	if len(b) < 3 || b[0] != outboundVersion || b[1] > 1 {
		return slot{}, false, errPosition
	}
	r := uvarints{b: b[2:]}
	sl = slot{order: r.next(), qos: 2, released: b[1] == 1}
	ok = true
	if !sl.released {
		ok = r.place(&sl, parts)
	}
	if r.bad || sl.order == 0 {
		return slot{}, false, errPosition
	}
	return sl, ok, nil
}

// delivery is a run of packets for one session that leaves when what it depends on is durable.
type delivery struct {
	sess *session
	bufs []*buffer
	puts []edge.Put
	done bool
	err  error
}

// maxPuts bounds the QoS 2 messages of one delivery, so that a commit holds it.
const maxPuts = 4096

// flush hands what was delivered to the connection. When it depends on changes that are to be durable, it is returned
// instead, for the caller to commit them: at is the position behind it. The deliverer's.
func (s *session) flush(at func() cursor) *delivery {
	var bufs []*buffer
	if b := s.pending; b != nil && len(b.b) > 0 {
		bufs = append(s.full, b)
	} else {
		s.srv.putBuffer(b)
		bufs = s.full
	}
	s.pending, s.full = nil, nil
	if s.sent > 0 {
		bytes := 0
		for _, b := range bufs {
			bytes += len(b.b)
		}
		s.srv.stats.delivered.Add(uint64(s.sent))
		s.srv.broker.CountOut(s.sent, bytes)
		s.sent = 0
	}
	switch {
	case len(s.puts) > 0:
		dl := &delivery{sess: s, bufs: bufs}
		dl.puts = append(append(s.dones, s.puts...), s.positionPut(at()))
		s.dones, s.puts = nil, nil
		s.line(dl)
		return dl
	case len(bufs) == 0:
	case s.lined.Load() > 0:
		s.line(&delivery{sess: s, bufs: bufs, done: true})
	default:
		for _, b := range bufs {
			s.conn.hand(b)
		}
	}
	return nil
}

// flushSome makes room in the middle of a frame, where there is no position to commit.
func (s *session) flushSome() {
	if len(s.puts) == 0 && s.lined.Load() == 0 {
		s.flush(nil)
		return
	}
	s.full = append(s.full, s.pending)
	s.pending = nil
}

// line puts a delivery in line behind those that wait for their commits.
func (s *session) line(dl *delivery) {
	for _, b := range dl.bufs {
		s.conn.counted(len(b.b))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, dl)
	s.lined.Store(int32(len(s.waiting)))
	s.sendReady()
}

// committed is called when the fate of a delivery's changes is known.
func (s *session) committed(dl *delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dl.done, dl.err = true, err
	s.sendReady()
}

// sendReady hands over the deliveries at the head of the line that are durable. Behind one whose commit failed nothing is
// sent any more; the session is put away with what it was about to send. It is called with mu held.
func (s *session) sendReady() {
	n := 0
	for ; n < len(s.waiting) && s.waiting[n].done; n++ {
		dl := s.waiting[n]
		if dl.err != nil && !s.broken {
			s.broken = true
			s.conn.shut(&packet.Error{Reason: reasonOf(dl.err), Detail: "cannot store QoS 2 packet identifiers: " + dl.err.Error()})
		}
		if s.broken {
			s.unstored = append(s.unstored, dl.puts...)
			for _, b := range dl.bufs {
				s.conn.counted(-len(b.b))
				s.srv.putBuffer(b)
			}
			continue
		}
		s.conn.handCounted(dl.bufs)
	}
	clear(s.waiting[:n])
	s.waiting = s.waiting[n:]
	s.lined.Store(int32(len(s.waiting)))
	if len(s.waiting) == 0 {
		s.waiting = nil
		if s.drained != nil {
			close(s.drained)
			s.drained = nil
		}
	}
}

// awaitDeliveries waits until nothing waits for a commit any more.
func (s *session) awaitDeliveries() {
	s.mu.Lock()
	if len(s.waiting) == 0 {
		s.mu.Unlock()
		return
	}
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	drained := s.drained
	s.mu.Unlock()
	<-drained
}

// maxCommit is how many bytes of changes go into one commit of several sessions.
const maxCommit = 1 << 20

// commitDeliveries makes the changes of deliveries durable, several in one commit; it does not wait. Commits of one session
// are made in the order of these calls, so whoever owns a session makes them before giving it up. What is in with goes into
// one commit with all of them.
func (srv *Server) commitDeliveries(list []*delivery, with []edge.Put) {
	for len(list) > 0 {
		c := &edge.Commit{Urgent: true, Puts: with}
		n, size := 0, 0
		for ; n < len(list) && (n == 0 || size < maxCommit || len(with) > 0); n++ {
			for i := range list[n].puts {
				size += len(list[n].puts[i].Key) + len(list[n].puts[i].Value) + 32
			}
			c.Puts = append(c.Puts, list[n].puts...)
		}
		part := list[:n:n]
		list = list[n:]
		finish := func(err error) {
			for _, dl := range part {
				dl.sess.committed(dl, err)
			}
		}
		c.Done = func(c *edge.Commit) { finish(c.Err) }
		if err := srv.broker.Store().Submit(srv.ctx, c); err != nil {
			finish(fmt.Errorf("commit deliveries: %w", err))
		}
	}
}

// sentQoS2 remembers a QoS 2 message that is about to be sent; the deliverer's.
func (s *session) sentQoS2(m *message, id uint16) {
	sl := &s.window.slots[id-1]
	s.mu.Lock()
	if s.outbound == nil {
		s.outbound = map[uint16]outbound{}
	}
	s.outbound[id] = outbound{order: sl.order}
	durable := s.expiry > 0
	s.mu.Unlock()
	if durable {
		value := sl.encodeOutbound()
		switch {
		case m.live: // it is nowhere: after a reconnect only the id is released
			value = encodeReleased(sl.order)
		case m.share != nil:
			m.share.exact = true
		}
		s.puts = append(s.puts, edge.Put{Space: outboundSpace, Key: outboundKey(s.id, id), Value: value})
	}
}

// onPubrec answers with PUBREL once it is durable that PUBREC came (MQTT-4.3.3-4). One that refuses ends the exchange
// (MQTT-4.3.3-3 forbids PUBREL then).
func (c *conn) onPubrec(first byte, body []byte) error {
	var p packet.Ack
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	if p.Reason.Failed() {
		c.completed = append(c.completed, p.ID)
		return nil
	}
	s := c.sess.Load()
	sl := c.current()
	a := ack{id: p.ID, typ: packet.PUBREL, item: -1}
	s.mu.Lock()
	o, known := s.outbound[p.ID]
	if known && !o.released {
		s.outbound[p.ID] = outbound{o.order, true}
		if s.expiry > 0 {
			sl.in.Puts = append(sl.in.Puts, edge.Put{Space: outboundSpace, Key: outboundKey(c.id, p.ID), Value: encodeReleased(o.order)})
		}
	}
	s.mu.Unlock()
	if !known {
		a.reason = packet.PacketIDNotFound
	}
	sl.acks = append(sl.acks, a)
	return nil
}

func (c *conn) onPubcomp(first byte, body []byte) error {
	var p packet.Ack
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	s := c.sess.Load()
	s.mu.Lock()
	released := s.outbound[p.ID].released
	s.mu.Unlock()
	if released {
		c.completed = append(c.completed, p.ID)
	}
	return nil
}

// completedQoS2 takes the packet ids of QoS 2 messages whose exchange is over.
func (s *session) completedQoS2(ids []uint16) {
	s.mu.Lock()
	for _, id := range ids {
		if _, ok := s.outbound[id]; ok {
			delete(s.outbound, id)
			s.completed = append(s.completed, id)
		}
	}
	s.mu.Unlock()
	s.madeRoom()
}
