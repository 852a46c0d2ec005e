package mqtt

import (
	"bytes"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage/batch"
)

// maxFilter bounds filters: they are keys in the store.
const maxFilter = 16 << 10

func subscriptionKey(client, filter string) string { return client + "\x00" + filter }

// maxQoS is what subscriptions are granted at most.
const maxQoS = 2

// onSubscribe takes subscriptions; their SUBACK leaves when they are durable, if the session outlives the connection.
func (c *conn) onSubscribe(first byte, body []byte) error {
	p := &packet.Subscribe{}
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	s := c.sess.Load()
	ack := packet.Suback{ID: p.ID}
	var failed packet.Reason
	var copies []retainedCopy
	var puts []edge.Put
	past, err := replayFrom(&p.Properties, c.srv.o.Now())
	if err != nil {
		ack.Properties.ReasonString = []byte(err.Error())
		ack.Properties.Mark(packet.PropReasonString)
		for range p.Topics {
			ack.Reasons = append(ack.Reasons, packet.ImplementationSpecific)
		}
		c.send(func(dst []byte) []byte { return ack.Append(dst, packet.SUBACK, c.version) })
		return nil
	}
	var histories []replay
	for i := range p.Topics {
		reason, sub, isNew, err := c.subscribe(s, &p.Topics[i], &p.Properties, past)
		if err != nil {
			return err
		}
		ack.Reasons = append(ack.Reasons, reason)
		if sub == nil {
			failed = reason
			continue
		}
		puts = append(puts, edge.Put{Space: subscriptionSpace, Key: subscriptionKey(c.id, sub.filter), Value: sub.encode()})
		if past.asked { // the history has what is retained where it belongs
			histories = append(histories, replay{sub, past.since})
		} else if h := p.Topics[i].RetainHandling; sub.share == nil && (h == 0 || h == 1 && isNew) { // MQTT-3.3.1-9, 3.3.1-10
			copies = append(copies, c.srv.retainedFor(sub)...)
		}
	}
	if text := textOf(failed); text != "" && c.mayExplain(16+len(ack.Reasons)+len(text)) {
		ack.Properties.ReasonString = []byte(text)
		ack.Properties.Mark(packet.PropReasonString)
	}
	if err := c.answer(s, puts, func(dst []byte) []byte { return ack.Append(dst, packet.SUBACK, c.version) }); err != nil {
		return err
	}
	s.pull(copies)
	s.replay(histories)
	return nil
}

// subscribe decides on one filter. sub is nil when it was refused.
func (c *conn) subscribe(s *session, t *packet.Subscription, props *packet.Properties, past history) (reason packet.Reason, sub *subscription, isNew bool, err error) {
	_, plain, shared, ok := packet.CutShared(t.Filter)
	switch {
	case !ok || !packet.ValidFilter(plain) || bytes.Count(plain, []byte{'/'}) >= c.srv.limits().MaxTopicLevels:
		return packet.InvalidFilter, nil, false, nil
	case shared && past.asked: // the group has one position
		return packet.ImplementationSpecific, nil, false, nil
	}
	filter := string(t.Filter)
	o := c.srv.limits()
	if len(filter) > maxFilter || s.subs[filter] == nil && (len(s.subs) >= o.MaxSubscriptions || c.srv.tree.len() >= o.MaxAllSubscriptions) {
		return packet.QuotaExceeded, nil, false, nil
	}
	if !c.srv.maySubscribe(&c.principal, filter) {
		c.srv.stats.denied.Add(1)
		c.srv.log.Info("subscription refused", "client", c.id, "filter", filter)
		return packet.NotAuthorized, nil, false, nil
	}
	sub = &subscription{
		sess: s, filter: filter, qos: min(t.QoS, maxQoS), noLocal: (t.NoLocal || c.bridge) && !shared,
		retainAsPublished: t.RetainAsPublished || c.bridge,
	}
	if props.Has(packet.PropSubscriptionID) {
		sub.id = props.SubscriptionID
	}
	if shared {
		s.mu.Lock()
		old := s.subs[filter]
		s.mu.Unlock()
		if err := c.srv.joinShare(c, sub, old != nil); err != nil {
			return 0, nil, false, err
		}
	}
	start := c.srv.broker.Store().LastSeq
	if past.asked {
		sub.since, sub.seam, sub.waits = past.since, start(), true
		start = func() uint64 { return ended }
	}
	s.mu.Lock()
	old := s.subs[filter]
	if shared {
		s.subs[filter] = sub
		s.mu.Unlock()
		if !c.srv.maySubscribe(&c.principal, filter) { // as below
			c.srv.leaveShare(sub, false)
			return packet.NotAuthorized, nil, false, nil
		}
		return packet.Reason(sub.qos), sub, old == nil, nil
	}
	if old != nil && !past.asked && !old.waits { // a changed subscription goes on where the old one was (MQTT-3.8.4-3)
		sub.since, sub.seam = old.since, old.seam
		if before := old.from.Load(); before != ended { // it was not allowed for a while
			start = func() uint64 { return before }
		}
	}
	sub.from.Store(ended) // until it is in the tree
	if old != nil {
		sub.from.Store(old.from.Load())
	}
	s.subs[filter] = sub
	s.mu.Unlock()
	c.srv.tree.add(sub, start)
	if !c.srv.maySubscribe(&c.principal, filter) { // the rules changed just now, before the subscription could be found
		c.srv.tree.remove(sub)
		return packet.NotAuthorized, nil, false, nil
	}
	return packet.Reason(sub.qos), sub, old == nil, nil
}

// retainedFor lists the retained messages that a new subscription gets.
func (s *Server) retainedFor(sub *subscription) (copies []retainedCopy) {
	copies = s.sysRetained(sub)
	err := s.broker.Retained(sub.filter, func(topic string, _ batch.Record) {
		copies = append(copies, retainedCopy{topic, sub})
	})
	if err != nil {
		s.log.Error("cannot read retained messages", "filter", sub.filter, "err", err)
	}
	return copies
}

func (c *conn) onUnsubscribe(first byte, body []byte) error {
	p := &packet.Unsubscribe{}
	if err := p.Decode(c.version, first, body); err != nil {
		return err
	}
	s := c.sess.Load()
	ack := packet.Suback{ID: p.ID}
	var puts []edge.Put
	for _, f := range p.Filters {
		s.mu.Lock()
		sub := s.subs[string(f)]
		delete(s.subs, string(f))
		s.mu.Unlock()
		if sub == nil {
			ack.Reasons = append(ack.Reasons, packet.NoSubscriptionExisted)
			continue
		}
		if sub.share != nil {
			c.srv.leaveShare(sub, false)
		} else {
			c.srv.tree.remove(sub)
		}
		puts = append(puts, edge.Put{Space: subscriptionSpace, Key: subscriptionKey(c.id, sub.filter)})
		ack.Reasons = append(ack.Reasons, packet.Success)
	}
	return c.answer(s, puts, func(dst []byte) []byte { return ack.Append(dst, packet.UNSUBACK, c.version) })
}

// settle waits for what this client published before: it does not match what is subscribed to now, and what of it is retained is there as
// a retained message (MQTT-3.3.1-8), although the client has not waited for its acknowledgements.
func (c *conn) settle() error {
	if c.cur != nil && !c.cur.empty() {
		if err := c.submit(); err != nil {
			return err
		}
	}
	if c.inFlight.Load() > 0 {
		c.awaitCommits()
	}
	return nil
}

// answer sends a packet; when the session outlives the connection, not before its subscriptions are durable.
func (c *conn) answer(s *session, puts []edge.Put, put func(dst []byte) []byte) error {
	if !s.kept() {
		c.send(put)
		return nil
	}
	sl := c.current()
	before := len(sl.raw)
	sl.raw = put(sl.raw)
	sl.acks = append(sl.acks, ack{n: len(sl.raw) - before, item: -1})
	sl.in.Puts = append(sl.in.Puts, puts...)
	if err := c.submit(); err != nil {
		return err
	}
	c.awaitCommits()
	return nil
}
