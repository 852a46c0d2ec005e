package mqtt

import (
	"context"
	"errors"
	"slices"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// will is a message that the server publishes for a client that was lost (MQTT-3.1.2-8).
type will struct {
	topic     string
	publish   packet.Publish // owns its memory
	tail      []byte
	delay     uint32 // seconds
	principal edge.Principal
}

func newWill(c *conn, p *packet.Connect) *will {
	w := &will{topic: string(p.WillTopic), principal: c.principal, tail: c.tail[p.WillQoS][0]}
	if p.WillRetain {
		w.tail = c.tail[p.WillQoS][1]
	}
	w.publish = packet.Publish{
		Topic: []byte(w.topic), Payload: slices.Clone(p.WillPayload), QoS: p.WillQoS, Retain: p.WillRetain,
		Properties: p.WillProperties.Clone(),
	}
	if p.WillProperties.Has(packet.PropWillDelay) {
		w.delay = p.WillProperties.WillDelay
	}
	return w
}

// delayedWill waits for its time, or for the client to come back.
type delayedWill struct {
	will  *will
	timer *time.Timer
}

// releaseWill publishes a will at once, or after min(delay, session expiry) (MQTT-3.1.3-9).
func (s *Server) releaseWill(w *will, sess *session) {
	sess.mu.Lock()
	wait := min(w.delay, sess.expiry)
	sess.mu.Unlock()
	if wait == 0 {
		s.publishWill(s.ctx, w)
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.publishWill(s.ctx, w)
		return
	}
	d := &delayedWill{will: w}
	s.wills[sess.id] = d
	s.wg.Add(1)
	d.timer = time.AfterFunc(time.Duration(wait)*time.Second, func() {
		defer s.wg.Done()
		s.mu.Lock()
		mine := s.wills[sess.id] == d
		if mine {
			delete(s.wills, sess.id)
		}
		s.mu.Unlock()
		if mine {
			s.publishWill(s.ctx, w)
		}
	})
	s.mu.Unlock()
}

// cancelWill is called when a client comes back. The will of a session that goes on is forgotten; that of one which ended is
// published now.
func (s *Server) cancelWill(id string, resumed bool) {
	s.mu.Lock()
	d := s.wills[id]
	delete(s.wills, id)
	s.mu.Unlock()
	if d == nil {
		return
	}
	if d.timer.Stop() {
		s.wg.Done()
	}
	if !resumed {
		s.publishWill(s.ctx, d.will)
	}
}

// takeWills empties the list of wills that wait. It is called with mu held.
func (s *Server) takeWills() (wills []*will) {
	for id, d := range s.wills {
		delete(s.wills, id)
		if d.timer.Stop() {
			s.wg.Done()
		}
		wills = append(wills, d.will)
	}
	return wills
}

// publishWill stores the message and waits for it.
func (s *Server) publishWill(ctx context.Context, w *will) {
	e, err := s.resolve(ctx, &w.principal, w.topic)
	if err == nil {
		err = e.err
	}
	if err == nil {
		done := make(chan error, 1)
		in := &edge.Ingest{Principal: &w.principal, Done: func(in *edge.Ingest) { done <- in.Err }}
		in.Items = []edge.Item{{Target: e.target, Retain: w.publish.Retain}}
		in.Items[0].Record.Payload = appendRecord(nil, e.target, &w.publish, w.tail)
		if err = s.broker.Ingest(ctx, in); err == nil {
			err = <-done
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("cannot publish a will", "client", w.principal.Client, "topic", w.topic, "err", err)
	}
}
