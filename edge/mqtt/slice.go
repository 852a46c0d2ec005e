package mqtt

import (
	"sync/atomic"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// slice is what one read of a socket brought: the records of its PUBLISHes and what else has to be durable, and the
// acknowledgements that are due when it is. It is used again once they are written.
type slice struct {
	in       edge.Ingest
	conn     *conn
	arena    []byte // the payloads; grown by a new one, so that earlier payloads stay where they are
	taken    int    // bytes of all payloads
	charged  int    // counted as the connection's bytes in flight
	acks     []ack
	raw      []byte // packets that wait for this commit, back to back
	forget   bool   // a second commit forgets the ids of refused QoS 2 messages
	finished atomic.Bool

	pub packet.Publish // the one that is being read; here, so that a connection that sends nothing does not have it
}

// ack is one acknowledgement in the making.
type ack struct {
	id     uint16
	typ    packet.Type   // 0: raw bytes of length n
	reason packet.Reason // decided on arrival; else Success
	counts bool          // gives back one of the client's receive maximum
	item   int32         // index into in.Items, -1 for none
	n      int
}

// maxArena is how much memory a slice keeps for its next use.
const maxArena = 256 << 10

func (s *Server) getSlice(c *conn) *slice {
	sl, _ := s.slices.Get().(*slice)
	if sl == nil {
		sl = &slice{}
		sl.in.Done = sl.done
	}
	sl.conn = c
	sl.in.Principal = &c.principal
	return sl
}

func (s *Server) putSlice(sl *slice) {
	sl.conn, sl.in.Principal, sl.pub = nil, nil, packet.Publish{} // it aliases what was read
	clear(sl.in.Items)
	clear(sl.in.Puts)
	sl.in.Items, sl.in.Puts, sl.acks, sl.raw = sl.in.Items[:0], sl.in.Puts[:0], sl.acks[:0], sl.raw[:0]
	sl.arena, sl.taken, sl.forget = sl.arena[:0], 0, false
	sl.finished.Store(false)
	if cap(sl.arena) > maxArena {
		sl.arena = nil
	}
	if cap(sl.in.Items) <= 4096 {
		s.slices.Put(sl)
	}
}

func (sl *slice) empty() bool {
	return len(sl.in.Items) == 0 && len(sl.in.Puts) == 0 && len(sl.acks) == 0
}

// reserve makes room for n bytes in the arena and returns what to append to.
func (sl *slice) reserve(n int) []byte {
	if cap(sl.arena)-len(sl.arena) < n {
		sl.arena = make([]byte, 0, max(n, 2*cap(sl.arena), 4096))
	}
	return sl.arena
}

// item adds an item and returns it to be filled.
func (sl *slice) item() *edge.Item {
	sl.in.Items = append(sl.in.Items, edge.Item{})
	return &sl.in.Items[len(sl.in.Items)-1]
}

// done is called on the store's completion goroutine.
func (sl *slice) done(*edge.Ingest) {
	if sl.in.Err == nil && !sl.forget && sl.refusedQoS2() {
		sl.forget = true
		go sl.forgetRefused() // rare: a plugin refused a QoS 2 message
		return
	}
	c := sl.conn // the slice may be gone as soon as it is finished
	sl.finished.Store(true)
	c.wake()
}

// refusedQoS2 reports whether a plugin refused a QoS 2 message, whose id is now remembered although the client may use it
// for another message as soon as it sees the refusal.
func (sl *slice) refusedQoS2() bool {
	for i := range sl.acks {
		if a := &sl.acks[i]; a.typ == packet.PUBREC && a.item >= 0 && sl.in.Items[a.item].Err != nil {
			return true
		}
	}
	return false
}

// forgetRefused forgets those ids durably before their PUBRECs leave.
func (sl *slice) forgetRefused() {
	c := sl.conn
	commit := edge.Commit{Urgent: true}
	var ids []uint16
	for i := range sl.acks {
		if a := &sl.acks[i]; a.typ == packet.PUBREC && a.item >= 0 && sl.in.Items[a.item].Err != nil {
			ids = append(ids, a.id)
			commit.Puts = append(commit.Puts, edge.Put{Space: qos2Space, Key: qos2Key(c.id, a.id)})
		}
	}
	if err := c.srv.broker.Store().Do(c.srv.ctx, &commit); err != nil {
		sl.in.Err = err
	}
	c.release(ids)
	sl.finished.Store(true)
	c.wake()
}

// ackSize is a bound of what appendAcks appends.
func (sl *slice) ackSize() int { return len(sl.raw) + 5*len(sl.acks) }

// appendRefusal appends an acknowledgement that says no, and why if the client wants to know.
func (c *conn) appendRefusal(dst []byte, a *ack, reason packet.Reason) []byte {
	text := textOf(reason)
	if text == "" || !c.mayExplain(16+len(text)) {
		return packet.AppendAck(dst, a.typ, c.version, a.id, reason)
	}
	p := packet.Ack{ID: a.id, Reason: reason}
	p.Properties.ReasonString = []byte(text)
	p.Properties.Mark(packet.PropReasonString)
	return p.Append(dst, a.typ)
}

// appendAcks appends all acknowledgements. What was not stored is not acknowledged, or refused in MQTT 5.
func (sl *slice) appendAcks(dst []byte) []byte {
	c, raw := sl.conn, sl.raw
	failed := sl.in.Err
	if failed != nil {
		c.failedCommit(sl, failed)
	}
	back := int64(0)
	for i := range sl.acks {
		a := &sl.acks[i]
		if a.typ == 0 {
			if failed == nil {
				dst = append(dst, raw[:a.n]...)
			}
			raw = raw[a.n:]
			continue
		}
		reason := a.reason
		switch {
		case failed != nil && (c.version < packet.V5 || a.typ == packet.PUBCOMP || a.typ == packet.PUBREL):
			continue // the connection is closed without it
		case failed != nil && a.item >= 0:
			reason = reasonOf(failed)
		case a.item >= 0 && sl.in.Items[a.item].Err != nil:
			reason = reasonOf(sl.in.Items[a.item].Err)
		}
		if a.counts && (a.typ != packet.PUBREC || reason.Failed()) {
			back++
		}
		if reason.Failed() && c.version >= packet.V5 {
			dst = c.appendRefusal(dst, a, reason)
			continue
		}
		dst = packet.AppendAck(dst, a.typ, c.version, a.id, reason)
	}
	c.unacked.Add(-back)
	return dst
}
