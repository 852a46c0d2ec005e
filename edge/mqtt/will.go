package mqtt

import (
	"context"
	"encoding/json"
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
	w := &will{topic: string(p.WillTopic), principal: c.principal, tail: tailOf(c.id, int(p.WillQoS), 0)}
	if p.WillRetain {
		w.tail = tailOf(c.id, int(p.WillQoS), 1)
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

// willSpace holds wills by client id, from before CONNACK until they are published or forgotten, so that neither a restart nor
// a crash swallows one. A will is published and removed in one frame.
const willSpace = "mqtt.will"

// storedWill is the value in willSpace, JSON.
type storedWill struct {
	Publish []byte   `json:"publish"` // an MQTT 5 PUBLISH
	Delay   uint32   `json:"delay,omitempty"`
	Due     int64    `json:"due,omitempty"` // Unix milliseconds; 0: the client is connected, or was when the broker stopped
	User    string   `json:"user,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	Addr    string   `json:"addr,omitempty"`
	Method  string   `json:"method,omitempty"`
	Super   bool     `json:"super,omitempty"`
}

// put is the change that stores the will; due is when it is to be published, the zero time while its client is connected.
func (w *will) put(due time.Time) edge.Put {
	m := w.publish
	m.ID = 1
	m.Properties.Unmark(packet.PropWillDelay)
	for key, value := range w.publish.Properties.User {
		m.Properties.UserRaw = packet.AppendUser(m.Properties.UserRaw, key, value)
	}
	o := storedWill{Publish: m.Append(nil, packet.V5), Delay: w.delay}
	if !due.IsZero() {
		o.Due = due.UnixMilli()
	}
	p := &w.principal
	o.User, o.Groups, o.Addr, o.Method, o.Super = p.Name, p.Groups, p.Addr, p.Method, p.Super
	return edge.Put{Space: willSpace, Key: p.Client, Value: mustJSON(o)}
}

func loadWill(client string, value []byte) (w *will, due time.Time, err error) {
	var o storedWill
	if err := json.Unmarshal(value, &o); err != nil {
		return nil, time.Time{}, err
	}
	w = &will{delay: o.Delay, principal: edge.Principal{Name: o.User, Groups: o.Groups, Client: client, Addr: o.Addr, Method: o.Method, Super: o.Super}}
	_, body, err := packet.Split(o.Publish)
	if err == nil && body == nil {
		err = errPosition
	}
	if err == nil {
		err = w.publish.Decode(packet.V5, o.Publish[0], body)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	w.topic = string(w.publish.Topic)
	retain := 0
	if w.publish.Retain {
		retain = 1
	}
	w.tail = tailOf(client, int(w.publish.QoS), retain)
	if o.Due != 0 {
		due = time.UnixMilli(o.Due)
	}
	return w, due, nil
}

// delayedWill waits for its time, or for the client to come back.
type delayedWill struct {
	will  *will
	timer *time.Timer
}

// releaseWill publishes a will at once, or after min(delay, session expiry) (MQTT-3.1.2-8).
func (s *Server) releaseWill(w *will, sess *session) {
	sess.mu.Lock()
	wait := min(w.delay, sess.expiry)
	sess.mu.Unlock()
	if wait == 0 {
		s.publishWill(s.ctx, w)
		return
	}
	after := time.Duration(wait) * time.Second
	put := w.put(s.o.Now().Add(after))
	if err := s.broker.Store().Do(s.ctx, &edge.Commit{Puts: []edge.Put{put}, Urgent: true}); err != nil && !errors.Is(err, edge.ErrClosed) {
		s.log.Error("cannot store a will: after a restart it may come late", "client", sess.id, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delayWill(sess.id, w, after)
}

// delayWill publishes a will later, unless its client comes back before. It is called with mu held.
func (s *Server) delayWill(id string, w *will, after time.Duration) {
	if s.closed { // the next start knows of it
		return
	}
	d := &delayedWill{will: w}
	s.wills[id] = d
	s.wg.Add(1)
	d.timer = time.AfterFunc(after, func() {
		defer s.wg.Done()
		s.mu.Lock()
		mine := s.wills[id] == d
		if mine {
			delete(s.wills, id)
		}
		s.mu.Unlock()
		if mine {
			s.publishWill(s.ctx, w)
		}
	})
}

// resumeWills takes up the wills of an earlier run. Who was connected when that ended is lost since now. It is called with mu
// held, before anyone can connect.
func (s *Server) resumeWills() {
	now := s.o.Now()
	store := s.broker.Store()
	values := map[string][]byte{}
	err := store.Scan(willSpace, "", func(client string, value []byte) bool {
		values[client] = slices.Clone(value)
		return true
	})
	for client, value := range values {
		w, due, e := loadWill(client, value)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		longest := time.Duration(w.delay) * time.Second
		session, e := store.Get(sessionSpace, client)
		if o, ok := decodeSession(session); !ok {
			longest = 0 // the session ended with the connection
		} else if o.Expiry != never {
			longest = min(longest, time.Duration(o.Expiry)*time.Second)
		}
		err = errors.Join(err, e)
		wait := longest
		if !due.IsZero() { // the clock may have been set back
			wait = min(max(due.Sub(now), 0), longest)
		}
		s.delayWill(client, w, wait)
	}
	if err != nil {
		s.log.Error("cannot read wills", "err", err)
	}
}

// cancelWill is called when a client comes back. The will of a session that goes on is forgotten, which the caller makes
// durable; that of one which ended is published now. It returns false when no will waited.
func (s *Server) cancelWill(id string, resumed bool) bool {
	s.mu.Lock()
	d := s.wills[id]
	delete(s.wills, id)
	s.mu.Unlock()
	if d == nil {
		return false
	}
	if d.timer.Stop() {
		s.wg.Done()
	}
	if !resumed {
		s.publishWill(s.ctx, d.will)
	}
	return true
}

// stopWills leaves the wills that wait to the next start. It is called with mu held.
func (s *Server) stopWills() {
	for id, d := range s.wills {
		delete(s.wills, id)
		if d.timer.Stop() {
			s.wg.Done()
		}
	}
}

// forgetWill is called when a client said goodbye (MQTT-3.14.4-3). It does not wait, nor does the commit for company: after a
// crash the will would be published.
func (s *Server) forgetWill(id string) {
	c := &edge.Commit{Puts: []edge.Put{{Space: willSpace, Key: id}}, Urgent: true, Done: func(c *edge.Commit) { s.noteFailed(c.Err) }}
	if err := s.broker.Store().Submit(s.ctx, c); err != nil {
		s.noteFailed(err)
	}
}

// publishWill stores the message, removes the will, and waits for that.
func (s *Server) publishWill(ctx context.Context, w *will) {
	gone := edge.Put{Space: willSpace, Key: w.principal.Client}
	e, err := s.resolve(ctx, &w.principal, w.topic)
	if err == nil {
		err = e.err
	}
	if err == nil {
		done := make(chan error, 1)
		in := &edge.Ingest{Principal: &w.principal, Done: func(in *edge.Ingest) { done <- in.Err }}
		in.Items = []edge.Item{{Target: e.target, Retain: w.publish.Retain}}
		in.Items[0].Record.Payload = appendRecord(nil, e.target, &w.publish, w.tail)
		in.Puts = []edge.Put{gone}
		if err = s.broker.Ingest(ctx, in); err == nil {
			err = <-done
		}
	} else if permanent(err) {
		s.commitNotes([]edge.Put{gone})
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("cannot publish a will", "client", w.principal.Client, "topic", w.topic, "err", err)
	}
}
