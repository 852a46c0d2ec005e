package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// qos2Space holds the ids of QoS 2 messages that were received and not released: client id, NUL, packet id. A client id
// cannot hold NUL.
const qos2Space = "mqtt.qos2"

func qos2Key(client string, id uint16) string {
	return string(binary.BigEndian.AppendUint16(append([]byte(client), 0), id))
}

// releasedIDs are QoS 2 ids whose message was refused: the client may use them again.
type releasedIDs struct {
	mu  sync.Mutex
	ids []uint16
}

// release is called by any goroutine, before the refusal is written.
func (c *conn) release(ids []uint16) {
	c.released.mu.Lock()
	c.released.ids = append(c.released.ids, ids...)
	c.released.mu.Unlock()
}

func (c *conn) takeReleased() {
	if len(c.qos2) == 0 {
		return
	}
	c.released.mu.Lock()
	for _, id := range c.released.ids {
		delete(c.qos2, id)
	}
	c.released.ids = c.released.ids[:0]
	c.released.mu.Unlock()
}

// current is the slice that this read fills.
func (c *conn) current() *slice {
	if c.cur == nil {
		c.cur = c.srv.getSlice(c)
	}
	return c.cur
}

func (c *conn) onPublish(first byte, body []byte) error {
	sl := c.current()
	p := &sl.pub
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	if c.version >= packet.V5 {
		if err := c.checkPublish(p); err != nil {
			return err
		}
	}
	a := ack{id: p.ID, item: -1, counts: p.QoS > 0}
	switch p.QoS {
	case 1:
		a.typ = packet.PUBACK
	case 2:
		a.typ = packet.PUBREC
		if _, known := c.qos2[p.ID]; known { // sent again: its message is stored, or in a slice before this one
			a.counts = false
			sl.acks = append(sl.acks, a)
			return nil
		}
	}
	if p.QoS > 0 && c.unacked.Add(1) > int64(c.o.ReceiveMaximum) && c.version >= packet.V5 {
		return &packet.Error{Reason: packet.ReceiveMaximumExceeded, Detail: "more unacknowledged messages than the receive maximum (MQTT-3.3.4-9)"}
	}
	e, err := c.topic(p.Topic)
	if err != nil {
		if c.version < packet.V5 {
			if err = c.stall(err, func() (err error) { e, err = c.topic(p.Topic); return err }); err != nil {
				return err
			}
		} else {
			e = &topicEntry{err: err}
		}
	}
	if e.err != nil {
		return c.refusePublish(p, a, e.err)
	}
	if c.tails == nil {
		c.prepareTails()
	}
	tail := c.tails[p.QoS][0]
	if p.Retain {
		tail = c.tails[p.QoS][1]
	}
	dst := sl.reserve(recordSize(e.target, p, tail, len(body)-len(p.Payload)-len(p.Topic)))
	at := len(dst)
	dst = appendRecord(dst, e.target, p, tail)
	sl.arena = dst
	sl.taken += len(dst) - at
	it := sl.item()
	it.Target, it.Retain = e.target, p.Retain
	it.Record.Payload = dst[at:len(dst):len(dst)]
	if p.QoS == 0 {
		return nil
	}
	a.item = int32(len(sl.in.Items) - 1)
	sl.acks = append(sl.acks, a)
	if p.QoS == 2 {
		c.remember(sl, p.ID)
	}
	return nil
}

// checkPublish is what MQTT 5 adds: aliases, and what only servers send.
func (c *conn) checkPublish(p *packet.Publish) error {
	if p.Properties.Has(packet.PropSubscriptionID) {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "subscription identifier from a client (MQTT-3.3.4-6)"}
	}
	if !p.Properties.Has(packet.PropTopicAlias) {
		return nil
	}
	alias := p.Properties.TopicAlias
	if alias == 0 || alias > c.o.TopicAliases {
		return &packet.Error{Reason: packet.InvalidTopicAlias, Detail: "topic alias is 0 or above the maximum (MQTT-3.3.2-8, MQTT-3.3.2-9)"}
	}
	if len(p.Topic) > 0 {
		if c.aliases == nil {
			c.aliases = map[uint16]string{}
		}
		if c.aliases[alias] != string(p.Topic) {
			c.aliases[alias] = string(p.Topic)
		}
		return nil
	}
	topic, ok := c.aliases[alias]
	if !ok {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "topic alias was not set up (MQTT 5, 3.3.2.3.4)"}
	}
	p.Topic = []byte(topic)
	return nil
}

// refusePublish acknowledges what is not stored. Before MQTT 5 there is no negative acknowledgement, and closing would
// only make the device send it again (MQTT-3.3.5-2).
func (c *conn) refusePublish(p *packet.Publish, a ack, err error) error {
	if errors.Is(err, edge.ErrNotAuthorized) {
		c.srv.stats.denied.Add(1)
		c.srv.log.Debug("publish refused", "client", c.id, "topic", string(p.Topic), "err", err)
	}
	if p.QoS == 0 {
		return nil
	}
	a.reason = reasonOf(err)
	sl := c.current()
	sl.acks = append(sl.acks, a)
	if p.QoS == 2 && c.version < packet.V5 {
		c.remember(sl, p.ID) // it will be released like any other
	}
	return nil
}

// remember keeps a QoS 2 id with the frame of its message, when the session outlives the connection.
func (c *conn) remember(sl *slice, id uint16) {
	if c.qos2 == nil {
		c.qos2 = map[uint16]struct{}{}
	}
	c.qos2[id] = struct{}{}
	if c.sess.Load().kept() {
		sl.in.Puts = append(sl.in.Puts, edge.Put{Space: qos2Space, Key: qos2Key(c.id, id), Value: []byte{1}})
	}
}

func (c *conn) onPubrel(first byte, body []byte) error {
	var p packet.Ack
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	sl := c.current()
	a := ack{id: p.ID, typ: packet.PUBCOMP, item: -1}
	if _, known := c.qos2[p.ID]; known {
		delete(c.qos2, p.ID)
		a.counts = true
		if c.sess.Load().kept() {
			sl.in.Puts = append(sl.in.Puts, edge.Put{Space: qos2Space, Key: qos2Key(c.id, p.ID)})
		}
	} else {
		a.reason = packet.PacketIDNotFound
	}
	sl.acks = append(sl.acks, a)
	return nil
}

// submit gives the current slice to the broker. It waits while too much of this client is being committed.
func (c *conn) submit() error {
	messages, bytes := len(c.cur.in.Items), c.cur.taken
	if err := c.submitSlice(); err != nil || messages == 0 {
		return err
	}
	return c.throttle(messages, bytes)
}

func (c *conn) submitSlice() error {
	sl := c.cur
	c.cur = nil
	c.srv.stats.published.Add(uint64(len(sl.in.Items)))
	for c.inFlight.Load() > int64(c.o.MaxInFlightBytes) {
		select {
		case <-c.room:
		case <-c.ctx.Done():
			c.drop(sl)
			return c.ended()
		}
	}
	if len(sl.in.Items) == 0 && len(sl.in.Puts) == 0 {
		c.queue(sl) // nothing to make durable, but its place is behind what came before
		sl.finished.Store(true)
		c.wake()
		return nil
	}
	c.queue(sl)
	err := c.srv.broker.Ingest(c.ctx, &sl.in)
	if err == nil {
		return nil
	}
	if c.ctx.Err() != nil {
		c.fail(sl, err)
		return c.ended()
	}
	if full(err) && c.version < packet.V5 {
		err = c.stall(err, func() error { return c.srv.broker.Ingest(c.ctx, &sl.in) })
		if err == nil {
			return nil
		}
		c.fail(sl, err)
		return err
	}
	return c.salvage(sl, err)
}

// queue puts a slice in line for its acknowledgements.
func (c *conn) queue(sl *slice) {
	sl.charged = sl.taken + len(sl.raw)
	c.inFlight.Add(int64(sl.charged))
	c.out.mu.Lock()
	c.out.waiting = append(c.out.waiting, sl)
	c.out.mu.Unlock()
}

// fail finishes a slice that was not taken.
func (c *conn) fail(sl *slice, err error) {
	sl.in.Err = err
	sl.finished.Store(true)
	c.wake()
}

// drop gives back a slice that was never queued.
func (c *conn) drop(sl *slice) { c.srv.putSlice(sl) }

// ended is why the connection ends when its context has.
func (c *conn) ended() error {
	if w := c.why.Load(); w != nil {
		return w.err
	}
	return errLeft
}

// salvage handles a slice that the broker refused as a whole: one topic may be at fault (a plugin that halts it, a topic that
// is gone), or the store is full, which must not keep QoS 2 from being released. Each message gets a slice of its own.
func (c *conn) salvage(sl *slice, why error) error {
	if full(why) {
		c.srv.stats.refusedFull.Add(uint64(len(sl.in.Items)))
	}
	releases := slices.ContainsFunc(sl.acks, func(a ack) bool { return a.typ == packet.PUBCOMP || a.typ == packet.PUBREL || a.typ == 0 })
	if len(sl.in.Items)+len(sl.acks) <= 1 || full(why) && !releases {
		c.fail(sl, why)
		return nil
	}
	// The queued slice becomes an empty one; its parts, which keep its arena, follow it.
	parts := c.split(sl)
	sl.in.Err, sl.acks, sl.raw, sl.arena = nil, nil, nil, nil
	sl.finished.Store(true)
	c.wake()
	for _, part := range parts {
		c.queue(part)
		if len(part.in.Items)+len(part.in.Puts) == 0 {
			part.finished.Store(true)
			c.wake()
			continue
		}
		if len(part.in.Items) > 0 && full(why) {
			c.fail(part, why)
			continue
		}
		if err := c.srv.broker.Ingest(c.ctx, &part.in); err != nil {
			c.fail(part, err)
		}
	}
	return nil
}

// split makes a slice of every acknowledgement, and of every message that needs none. The payloads stay where they are.
func (c *conn) split(sl *slice) (parts []*slice) {
	one := func(item int32, acks []ack, raw []byte) {
		part := c.srv.getSlice(c)
		part.acks, part.raw = append(part.acks, acks...), append(part.raw, raw...)
		if item >= 0 {
			part.in.Items = append(part.in.Items, sl.in.Items[item])
			part.taken = len(sl.in.Items[item].Record.Payload)
		}
		for i := range part.acks {
			if part.acks[i].item >= 0 {
				part.acks[i].item = 0
			}
			for _, put := range sl.in.Puts {
				if c.belongs(put, part.acks[i]) {
					part.in.Puts = append(part.in.Puts, put)
				}
			}
		}
		parts = append(parts, part)
	}
	next, raw := int32(0), sl.raw
	for i := range sl.acks {
		a := sl.acks[i]
		for ; next < a.item; next++ {
			one(next, nil, nil)
		}
		if a.item >= 0 {
			next = a.item + 1
		}
		one(a.item, sl.acks[i:i+1], raw[:a.n])
		raw = raw[a.n:]
	}
	for ; next < int32(len(sl.in.Items)); next++ {
		one(next, nil, nil)
	}
	return parts
}

// belongs reports whether a change is to be durable before an acknowledgement leaves.
func (c *conn) belongs(put edge.Put, a ack) bool {
	switch put.Space {
	case qos2Space:
		typ := packet.PUBCOMP
		if put.Value != nil {
			typ = packet.PUBREC
		}
		return a.typ == typ && put.Key == qos2Key(c.id, a.id)
	case outboundSpace:
		return a.typ == packet.PUBREL && put.Key == outboundKey(c.id, a.id)
	}
	return a.typ == 0
}

// failedCommit is called, with out.mu held, for a slice whose commit failed. MQTT 5 clients are told by reason codes; others
// are disconnected and send again.
func (c *conn) failedCommit(sl *slice, err error) {
	ended := c.version < packet.V5
	for i := range sl.acks {
		switch a := &sl.acks[i]; {
		case a.typ == packet.PUBREC && a.item >= 0:
			c.release([]uint16{a.id})
		case a.typ == packet.PUBCOMP || a.typ == packet.PUBREL || a.typ == 0:
			ended = true // there is no way to say no
		}
	}
	if ended {
		c.shut(&packet.Error{Reason: reasonOf(err), Detail: "commit failed: " + err.Error()})
	}
}

// stall is for clients that cannot be told that the store is full (MQTT 3.1.1): it stops reading and tries again until there
// is room, at most one keep-alive interval.
func (c *conn) stall(err error, again func() error) error {
	patience := c.keepAlive * 2 / 3
	if patience == 0 {
		patience = time.Minute
	}
	c.srv.log.Warn("MQTT client has to wait: the store takes no records", "client", c.id, "err", err)
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	pause := 10 * time.Millisecond
	for full(err) {
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-giveUp.C:
			c.srv.stats.refusedFull.Add(1)
			retry.Stop()
			return &packet.Error{Reason: packet.QuotaExceeded, Detail: "the store took no records for one keep-alive interval: " + err.Error()}
		case <-c.ctx.Done():
			retry.Stop()
			return c.ended()
		}
		if err = again(); err == nil {
			return nil
		}
		pause = min(2*pause, time.Second)
	}
	return &packet.Error{Reason: reasonOf(err), Detail: "publish failed: " + err.Error()}
}
