package mqtt

import (
	"context"
	"fmt"
	"strings"

	"rivulet/edge"
)

// maxTargets bounds the topics that a connection remembers; a client that uses more pays for looking them up.
const maxTargets = 4096

// targetCache remembers where a connection's topics go and whether it may publish there.
type targetCache struct {
	epoch   uint64
	entries map[string]*topicEntry
	last    *topicEntry // devices mostly send to one topic
}

// topicEntry is the answer for one topic.
type topicEntry struct {
	topic  string
	target *edge.Target
	err    error // why nothing may be published there
}

// topic looks up where a valid topic name goes. Errors are part of the entry; only those that pass by themselves (a full
// store, a closed one) are not remembered.
func (c *conn) topic(name []byte) (*topicEntry, error) {
	t := &c.targets
	if epoch := c.srv.broker.Epoch(); epoch != t.epoch || t.entries == nil {
		t.epoch, t.last = epoch, nil
		if t.entries == nil {
			t.entries = make(map[string]*topicEntry)
		}
		clear(t.entries)
	}
	if t.last != nil && t.last.topic == string(name) {
		return t.last, nil
	}
	if e := t.entries[string(name)]; e != nil {
		t.last = e
		return e, nil
	}
	e, err := c.srv.resolve(c.ctx, &c.principal, string(name))
	if err != nil {
		return nil, err
	}
	if len(t.entries) >= maxTargets {
		clear(t.entries)
	}
	t.entries[e.topic] = e
	t.last = e
	return e, nil
}

// resolve asks authorizer and routes.
func (s *Server) resolve(ctx context.Context, p *edge.Principal, topic string) (*topicEntry, error) {
	e := &topicEntry{topic: topic}
	if most := s.limits().MaxTopicLevels; strings.Count(topic, "/") >= most {
		e.err = fmt.Errorf("topic has more than %d levels: %w", most, edge.ErrInvalidTopic)
		return e, nil
	}
	if !s.allowed(p, topic) {
		e.err = edge.ErrNotAuthorized
		return e, nil
	}
	var err error
	if e.target, err = s.broker.Target(ctx, topic); err != nil {
		if !permanent(err) {
			return nil, err
		}
		e.err = err
	}
	return e, nil
}

// allowed keeps clients out of $SYS, which is the broker's own.
func (s *Server) allowed(p *edge.Principal, topic string) bool {
	return !strings.HasPrefix(topic, "$SYS/") && s.broker.Allow(p, edge.OpPublish, topic)
}

func (c *conn) mayPublish(topic string) bool { return c.srv.allowed(&c.principal, topic) }
