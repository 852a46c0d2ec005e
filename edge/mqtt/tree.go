package mqtt

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// subscription is one filter of one session. All but from is constant: a changed subscription is a new one.
type subscription struct {
	sess              *session
	share             *share // that it is a member of, or, without a session, that it stands for in the tree
	filter            string
	qos               byte
	noLocal           bool
	retainAsPublished bool
	id                int           // MQTT 5 subscription identifier, 0 for none
	from              atomic.Uint64 // it gets what frames behind this one hold

	// Of one that asked for history: of frames up to seam it gets what is not older than since (Unix ms), QoS 0 too.
	since int64
	seam  uint64
	waits bool // until startReplays: nothing is delivered; guarded by session.mu
}

// ended is a from that no frame is behind.
const ended = math.MaxUint64

// match is what one session has for a topic, or a share.
type match struct {
	sess  *session
	subs  []*subscription
	share *share
}

// tree holds the subscriptions of all connected clients, by the levels of their filters.
type tree struct {
	version atomic.Uint64 // grows with every change

	mu    sync.RWMutex // guards what follows
	root  node
	count int
}

type node struct {
	children map[string]*node
	exact    []*subscription // whose filter ends here
	rest     []*subscription // whose filter goes on with #
}

// add puts a subscription in, in place of one that the session had for the same filter. start says behind which frame it
// begins; it is called with the tree locked, so that nobody has found the tree empty after that frame.
func (t *tree) add(s *subscription, start func() uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.from.Store(start())
	list := t.root.find(s.filter, true)
	if i := slices.IndexFunc(*list, func(o *subscription) bool { return o.sess == s.sess && o.share == s.share }); i >= 0 {
		// The old one is not ended: a deliverer that has found it serves what is left of its round by it, or those messages would
		// be lost to the session (MQTT-3.8.4-4).
		(*list)[i] = s
	} else {
		*list = append(*list, s)
		t.count++
	}
	t.version.Add(1)
}

// remove takes a subscription out; nothing is delivered for it from now on.
func (t *tree) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.from.Store(ended)
	list := t.root.find(s.filter, false)
	if list == nil {
		return
	}
	if i := slices.Index(*list, s); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
		t.count--
		t.root.prune(s.filter)
	}
	t.version.Add(1)
}

func (t *tree) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.count
}

// find returns the list that a filter's subscriptions are in.
func (n *node) find(filter string, create bool) *[]*subscription {
	for level := range strings.SplitSeq(filter, "/") {
		if level == "#" {
			return &n.rest
		}
		next := n.children[level]
		if next == nil {
			if !create {
				return nil
			}
			next = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[level] = next
		}
		n = next
	}
	return &n.exact
}

// prune removes the nodes of filter that hold nothing any more; it reports whether n itself is one.
func (n *node) prune(filter string) bool {
	level, rest, more := strings.Cut(filter, "/")
	if next := n.children[level]; next != nil {
		empty := len(next.children) == 0 && len(next.exact) == 0 && len(next.rest) == 0
		if more {
			empty = next.prune(rest)
		}
		if empty {
			delete(n.children, level)
		}
	}
	return len(n.children) == 0 && len(n.exact) == 0 && len(n.rest) == 0
}

// match lists what matches a topic (MQTT-4.7), a session only once.
func (t *tree) match(topic string) []match {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found []*subscription
	t.root.collect(topic, strings.HasPrefix(topic, "$"), &found)
	var out []match
	index := map[*session]int{}
	for _, s := range found {
		if s.share != nil {
			out = append(out, match{share: s.share})
			continue
		}
		i, ok := index[s.sess]
		if !ok {
			i = len(out)
			index[s.sess] = i
			out = append(out, match{sess: s.sess})
		}
		out[i].subs = append(out[i].subs, s)
	}
	return out
}

// collect follows the levels of topic. A topic that begins with $ is not matched by a wildcard first (MQTT-4.7.2-1).
func (n *node) collect(topic string, noWildcard bool, found *[]*subscription) {
	if !noWildcard {
		*found = append(*found, n.rest...)
	}
	level, rest, more := strings.Cut(topic, "/")
	step := func(next *node) {
		switch {
		case next == nil:
		case more:
			next.collect(rest, false, found)
		default:
			*found = append(*found, next.exact...)
			*found = append(*found, next.rest...) // a/# matches a (MQTT-4.7.1-2)
		}
	}
	step(n.children[level])
	if !noWildcard {
		step(n.children["+"])
	}
}

// matches reports whether a topic matches a well-formed filter, without allocating.
func matches(filter string, topic []byte) bool {
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		level, filterRest, filterMore := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		end := bytes.IndexByte(topic, '/')
		name := topic
		if end >= 0 {
			name = topic[:end]
		}
		if level != "+" && level != string(name) {
			return false
		}
		switch {
		case end < 0 && !filterMore:
			return true
		case end < 0:
			return filterRest == "#"
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topic[end+1:]
	}
}
