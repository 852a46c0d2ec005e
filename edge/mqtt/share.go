package mqtt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// share is a shared subscription (MQTT 5, 4.8.2): one position in the log for all its members, and what they were lent and
// have not acknowledged. Each message goes to one member that keeps up: of those with the fewest messages in flight, whose turn
// it is. A QoS 1 message that a member did not acknowledge before it left goes to another one; of QoS 2 the session that
// got it keeps it (MQTT-4.8.2-4). When nobody can take a message, the share is left behind in the log as a session is.
//
// Its deliverer is the dispatcher while the state is live, and the goroutine of run while it is catching; both hold
// dispatcher.mu while they deliver, which is what lets them append to the sessions that are live.
type share struct {
	srv    *Server
	key    string        // $share/NAME/FILTER
	entry  *subscription // in the tree
	filter string
	state  atomic.Int32 // behind, catching or live
	again  atomic.Bool  // someone made room meanwhile

	// Under dispatcher.mu.
	members []*subscription // of connected sessions
	next    int             // whose turn it is
	joined  uint64          // QoS 0 of earlier frames is not sent: nobody was there
	cursor  cursor
	round   uint64
	live    bool   // takes part in this round
	fell    bool   // fell behind in this round
	exact   bool   // QoS 2 messages went to sessions that outlive their connection: the position must be durable with them
	stored  bool   // has members that do, or had: the position is kept
	asleep  bool   // has no members
	stayed  uint64 // where it was when that was stored

	mu      sync.Mutex // guards what follows
	lent    []loan     // the first one is not settled
	first   uint64     // ticket of lent[0]
	back    []uint64   // tickets of loans that were given back, to be lent again
	changed bool       // since the position was stored
}

// loan is a message that a member has, or that is to be lent again.
type loan struct {
	part    *edge.Partition
	offset  int64
	settled bool
}

// shareSpace holds the positions of shared subscriptions that have members with sessions that are kept.
const shareSpace = "mqtt.share"

// maxLent bounds the messages of one share that are not acknowledged.
const maxLent = 1 << 16

// joinShare makes sub a member of its share. had says that the session subscribed before this connection.
func (srv *Server) joinShare(c *conn, sub *subscription, had bool) error {
	key, durable := sub.filter, sub.sess.kept()
	d := &srv.dispatch
	for {
		d.mu.Lock()
		g := srv.shares[key]
		if g != nil && (g.stored || !durable) && (!g.asleep || had) {
			g.wake()
			g.join(sub)
			d.mu.Unlock()
			g.kick()
			return nil
		}
		d.mu.Unlock()
		var err error
		switch {
		case g == nil:
			g, err = srv.openShare(c, sub, had)
			if err == nil {
				d.mu.Lock()
				if srv.shares[key] == nil {
					srv.shares[key] = g
				}
				d.mu.Unlock()
			}
			had = true
		case g.asleep && !had: // its position counts only if a session still has it
			if had, err = srv.holdsShare(key); err == nil && !had {
				d.mu.Lock()
				g.forget()
				d.mu.Unlock()
				had = true
			}
		default: // its first member with a session that is kept
			err = srv.keepShare(c, g)
		}
		if err != nil {
			return err
		}
	}
}

// keepShare stores the position of a share that had members without kept sessions only. Until that is durable nothing else stores it.
func (srv *Server) keepShare(c *conn, g *share) error {
	d := &srv.dispatch
	d.mu.Lock()
	put := g.note(g.at())
	d.mu.Unlock()
	if err := srv.broker.Store().Do(c.ctx, &edge.Commit{Puts: put, Urgent: true}); err != nil {
		return fmt.Errorf("store shared subscription: %w", err)
	}
	d.mu.Lock()
	g.stored = true
	d.mu.Unlock()
	return nil
}

// openShare makes a share that has no connected member. What is stored of it counts only if a session still has it.
func (srv *Server) openShare(c *conn, sub *subscription, had bool) (*share, error) {
	store := srv.broker.Store()
	_, filter, _, _ := packet.CutShared([]byte(sub.filter))
	g := &share{srv: srv, key: sub.filter, filter: string(filter), stored: sub.sess.kept(), asleep: true}
	g.entry = &subscription{filter: g.filter, share: g}
	g.cursor = cursor{seq: store.LastSeq()}
	value, err := store.Get(shareSpace, g.key)
	if err == nil && value != nil && !had {
		had, err = srv.holdsShare(g.key)
	}
	if err != nil {
		return nil, fmt.Errorf("read shared subscription: %w", err)
	}
	if had && value != nil {
		g.stored = true
		if err := g.decode(value, srv.partitions()); err != nil {
			return nil, fmt.Errorf("read shared subscription: %w", err)
		}
		return g, nil
	}
	if g.stored {
		if err := store.Do(c.ctx, &edge.Commit{Puts: g.note(g.cursor), Urgent: true}); err != nil {
			return nil, fmt.Errorf("store shared subscription: %w", err)
		}
	}
	return g, nil
}

// holdsShare reports whether a session in the store has the shared subscription and did not expire.
func (srv *Server) holdsShare(key string) (bool, error) {
	var clients []string
	store := srv.broker.Store()
	err := store.Scan(subscriptionSpace, "", func(k string, _ []byte) bool {
		if client, filter, _ := strings.Cut(k, "\x00"); filter == key {
			clients = append(clients, client)
		}
		return true
	})
	for _, client := range clients {
		value, e := store.Get(sessionSpace, client)
		if o, ok := decodeSession(value); ok && !o.expired(srv.o.Now()) {
			return true, err
		}
		err = errors.Join(err, e)
	}
	return false, err
}

// wake puts a share without members to work again, from where it was; with dispatcher.mu held.
func (g *share) wake() {
	if g.asleep {
		g.asleep = false
		g.joined = g.srv.broker.Store().LastSeq()
		g.srv.tree.add(g.entry, func() uint64 { return 0 })
		g.state.Store(behind)
	}
}

// forget makes a sleeping share one that begins now; with dispatcher.mu held.
func (g *share) forget() {
	if g.asleep {
		g.cursor = cursor{seq: g.srv.broker.Store().LastSeq()}
		g.mu.Lock()
		g.first += uint64(len(g.lent))
		g.lent, g.back = nil, nil
		g.mu.Unlock()
	}
}

// join adds a member, in place of an earlier subscription of its session; with dispatcher.mu held.
func (g *share) join(sub *subscription) {
	s := sub.sess
	sub.share = g
	sub.from.Store(0) // the share's position counts
	if i := slices.IndexFunc(g.members, func(o *subscription) bool { return o.sess == s }); i >= 0 {
		g.members = slices.Clone(g.members)
		g.members[i] = sub
		return
	}
	g.members = append(slices.Clip(g.members), sub)
	s.mu.Lock()
	s.shares = append(slices.Clip(s.shares), g)
	s.sharing.Store(int32(len(s.shares)))
	s.mu.Unlock()
}

// leaveShare ends a membership. When the session is left too, what it was lent and did not acknowledge goes back.
func (srv *Server) leaveShare(sub *subscription, gone bool) {
	g, s := sub.share, sub.sess
	d := &srv.dispatch
	d.mu.Lock()
	g.members = slices.DeleteFunc(slices.Clone(g.members), func(o *subscription) bool { return o.sess == s })
	s.mu.Lock()
	s.shares = slices.DeleteFunc(slices.Clone(s.shares), func(o *share) bool { return o == g })
	s.sharing.Store(int32(len(s.shares)))
	s.mu.Unlock()
	if gone {
		for _, id := range s.window.inFlight() {
			if s.window.at(id).share == g {
				sl, _ := s.window.acknowledged(id, 1)
				g.giveBack(sl.ticket)
			}
		}
	}
	g.stir()
	if len(g.members) == 0 && g.state.CompareAndSwap(behind, left) {
		g.sleep()
	}
	d.mu.Unlock()
	g.kick()
}

// sleep takes a share without members out. Its position is kept while sessions may come back to it; with dispatcher.mu held.
func (g *share) sleep() {
	g.asleep = true
	g.srv.tree.remove(g.entry)
	if g.stored {
		g.srv.commitNotes(g.note(g.cursor))
	} else {
		delete(g.srv.shares, g.key)
	}
}

// stir ends live delivery if there is something to be lent again; with dispatcher.mu held.
func (g *share) stir() {
	g.mu.Lock()
	back := len(g.back) > 0
	g.mu.Unlock()
	if (back || len(g.members) == 0) && g.state.CompareAndSwap(live, behind) {
		g.cursor = g.srv.dispatch.cursorOf(nil)
	}
}

// kick starts run if the share waits; any goroutine may call it.
func (g *share) kick() {
	g.again.Store(true)
	if g.state.CompareAndSwap(behind, catching) {
		g.srv.wg.Add(1) // a connection or the dispatcher, which call this, are counted too
		go g.run()
	}
}

// kickShares is called when the session may take messages again.
func (s *session) kickShares() {
	if s.sharing.Load() == 0 {
		return
	}
	s.mu.Lock()
	shares := s.shares
	s.mu.Unlock()
	for _, g := range shares {
		g.kick()
	}
}

// deliver gives a message to one member. It returns false, having done nothing, when nobody can take it. dispatcher.mu is held.
func (g *share) deliver(m *message, seq uint64, waited int64) bool {
	g.mu.Lock()
	full := len(g.lent) >= maxLent
	g.mu.Unlock()
	if full && m.qos > 0 {
		return false
	}
	m.share = g
	defer func() { m.share = nil }()
	// The member with the fewest messages in flight, beginning with the one whose turn it is.
	n, best := len(g.members), -1
	for i := range n {
		k := (g.next + i) % n
		s := g.members[k].sess
		if g.srv.dispatch.serves(s) && (best < 0 || s.window.used < g.members[best].sess.window.used) {
			if best = k; s.window.used == 0 {
				break
			}
		}
	}
	if best < 0 {
		return false
	}
	for i := range n { // it may be full all the same: then whoever is not
		k := (best + i) % n
		s := g.members[k].sess
		if g.srv.dispatch.serves(s) && s.deliver(m, g.members[k:k+1], seq, waited) {
			g.next = (k + 1) % n
			return true
		}
	}
	return false
}

// lend remembers a QoS 1 message that a member gets.
func (g *share) lend(m *message) (ticket uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lent = append(g.lent, loan{part: m.part, offset: m.offset})
	g.changed = true
	return g.first + uint64(len(g.lent)) - 1
}

// settle forgets a message that was acknowledged.
func (g *share) settle(ticket uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ticket < g.first {
		return // forgotten
	}
	g.lent[ticket-g.first].settled = true
	g.changed = true
	n := 0
	for n < len(g.lent) && g.lent[n].settled {
		n++
	}
	clear(g.lent[:n])
	g.lent = g.lent[n:]
	g.first += uint64(n)
	if len(g.lent) == 0 {
		g.lent = nil
	}
}

func (g *share) giveBack(ticket uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ticket >= g.first {
		g.back = append(g.back, ticket)
	}
}

// at is the share's position; with dispatcher.mu held.
func (g *share) at() cursor {
	if g.state.Load() == live && !g.fell {
		return g.srv.dispatch.cursorOf(nil)
	}
	return g.cursor
}

// A share's position: version, the cursor, and the messages to be lent again after a crash: their number, and of each
// partition+1 and offset.
const shareVersion = 1

// note is the change that stores the share's position.
func (g *share) note(c cursor) []edge.Put {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed, g.stayed = false, c.seq
	b := c.append([]byte{shareVersion})
	n := 0
	for i := range g.lent {
		if !g.lent[i].settled {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i := range g.lent {
		if l := &g.lent[i]; !l.settled {
			b = (&slot{part: l.part, offset: l.offset}).appendPlace(b)
		}
	}
	return []edge.Put{{Space: shareSpace, Key: g.key, Value: b}}
}

func (g *share) decode(b []byte, parts map[uint32]*edge.Partition) error {
	if len(b) == 0 || b[0] != shareVersion {
		return errPosition
	}
	r := uvarints{b: b[1:]}
	g.cursor = r.cursor(parts)
	for n := r.next(); n > 0 && !r.bad; n-- {
		var sl slot
		if r.place(&sl, parts) && sl.part != nil && !r.bad {
			g.back = append(g.back, uint64(len(g.lent)))
			g.lent = append(g.lent, loan{part: sl.part, offset: sl.offset})
		}
	}
	if r.bad {
		return errPosition
	}
	return nil
}

// noteShares lists the changes that store the positions of shares that moved; with dispatcher.mu held.
func (srv *Server) noteShares() (puts [][]edge.Put) {
	for _, g := range srv.shares {
		at := g.at()
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		if g.stored && !g.asleep && (changed || at.seq >= g.stayed+seldom) {
			puts = append(puts, g.note(at))
		}
	}
	return puts
}

// sweepShares forgets the positions of shares that no session has any more.
func (srv *Server) sweepShares() error {
	var keys []string
	store := srv.broker.Store()
	err := store.Scan(shareSpace, "", func(key string, _ []byte) bool {
		keys = append(keys, key)
		return true
	})
	for _, key := range keys {
		held, e := srv.holdsShare(key)
		if err = errors.Join(err, e); held || e != nil {
			continue
		}
		d := &srv.dispatch
		d.mu.Lock()
		if g := srv.shares[key]; g == nil || g.asleep {
			delete(srv.shares, key)
			srv.commitNotes([]edge.Put{{Space: shareSpace, Key: key}})
		}
		d.mu.Unlock()
	}
	return err
}
