package mqtt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
)

// The spaces of the store that hold sessions, by client id. A session changes when it begins and when its client leaves, its
// position often. A subscription has a key of its own (client id, NUL, filter), so that one more costs the same however many
// there are.
const (
	sessionSpace      = "mqtt.session"
	positionSpace     = "mqtt.position"
	subscriptionSpace = "mqtt.subscription"
)

// storedSession is the value in sessionSpace, JSON.
type storedSession struct {
	Expiry uint32 `json:"expiry"`         // seconds; 4294967295: never
	User   string `json:"user,omitempty"` // whose it is; "": of one who did not log in
	Left   int64  `json:"left,omitempty"` // when the client left, Unix seconds; 0: it is connected, or was when the broker stopped
}

// storedSub is the value in subscriptionSpace, JSON.
type storedSub struct {
	QoS               byte   `json:"qos"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	ID                int    `json:"id,omitempty"`
	From              uint64 `json:"from"` // frames up to this one are not for it

	// Of one that asked for history, see subscription.
	Since int64  `json:"since,omitempty"`
	Seam  uint64 `json:"seam,omitempty"`
	Waits bool   `json:"waits,omitempty"`
}

// openSession finds the client's session in the store or makes a new one, and says in ack which.
func (srv *Server) openSession(c *conn, p *packet.Connect, ack *packet.Connack) (*session, error) {
	store := srv.broker.Store()
	s := &session{srv: srv, conn: c, id: c.id, parked: make(chan struct{}, 1), subs: map[string]*subscription{}}
	s.expiry = srv.agreedExpiry(p, ack)
	s.window.max = c.o.MaxInFlight
	if p.Properties.Has(packet.PropReceiveMaximum) {
		s.window.max = min(s.window.max, int(p.Properties.ReceiveMaximum))
	}
	s.cursor = cursor{seq: store.LastSeq()}
	value, err := store.Get(sessionSpace, c.id)
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	old, ok := decodeSession(value)
	if value != nil && !ok {
		return nil, fmt.Errorf("read session: %w", errPosition)
	}
	if value != nil && !old.expired(srv.o.Now()) && !mayTake(&c.principal, old.User) {
		return nil, errOthersClient
	}
	resumed := value != nil && !p.CleanStart && !old.expired(srv.o.Now())
	waited := srv.cancelWill(c.id, resumed)
	var puts []edge.Put
	if value != nil && !resumed {
		if puts, err = srv.forgetSession(c.id); err != nil {
			return nil, err
		}
	}
	if resumed {
		if err := s.resume(c); err != nil {
			return nil, err
		}
		ack.SessionPresent = true
		s.tellMissed(ack)
	}
	s.stored = resumed || s.expiry > 0
	if (s.expiry > 0 || resumed) && (!resumed || old.Expiry != s.expiry || old.User != c.principal.Name) {
		puts = append(puts, edge.Put{Space: sessionSpace, Key: c.id, Value: s.encode(0)})
	}
	if s.expiry > 0 && !resumed { // without a position the session would begin anew after a crash
		puts = append(puts, s.positionPut(s.cursor))
	}
	if c.will != nil { // before CONNACK (MQTT-3.1.2-7)
		puts = append(puts, c.will.put(time.Time{}))
	} else if waited && resumed {
		puts = append(puts, edge.Put{Space: willSpace, Key: c.id})
	}
	if len(puts) > 0 {
		if err := store.Do(c.ctx, &edge.Commit{Puts: puts, Urgent: true}); err != nil {
			return nil, fmt.Errorf("store session: %w", err)
		}
	}
	for _, sub := range s.subs {
		if !srv.maySubscribe(&c.principal, sub.filter) { // not any more
			sub.from.Store(ended)
			sub.waits = false
			continue
		}
		if _, _, shared, _ := packet.CutShared([]byte(sub.filter)); shared {
			if err := srv.joinShare(c, sub, true); err != nil {
				s.unsubscribeAll()
				return nil, err
			}
			continue
		}
		from := sub.from.Load()
		srv.tree.add(sub, func() uint64 { return from })
	}
	return s, nil
}

// agreedExpiry is how long the session outlives the connection. Before MQTT 5 that is for ever or not at all.
func (srv *Server) agreedExpiry(p *packet.Connect, ack *packet.Connack) uint32 {
	asked := uint32(0)
	switch {
	case p.Version >= packet.V5:
		if p.Properties.Has(packet.PropSessionExpiry) {
			asked = p.Properties.SessionExpiry
		}
	case !p.CleanStart:
		asked = never
	}
	if m := srv.limits().MaxSessionExpiry; m > 0 && time.Duration(asked)*time.Second > m {
		asked = uint32(m / time.Second)
		if p.Version >= packet.V5 {
			ack.Properties.SessionExpiry = asked
			ack.Properties.Mark(packet.PropSessionExpiry)
		}
	}
	return asked
}

func decodeSession(value []byte) (o storedSession, ok bool) {
	ok = value != nil && json.Unmarshal(value, &o) == nil
	return o, ok
}

func (o *storedSession) expired(now time.Time) bool {
	return o.Expiry == 0 || o.Expiry != never && o.Left > 0 && now.Unix() > o.Left+int64(o.Expiry)
}

// resume fills a session with what the store has.
func (s *session) resume(c *conn) error {
	store := s.srv.broker.Store()
	var damaged error
	err := store.Scan(subscriptionSpace, c.id+"\x00", func(key string, value []byte) bool {
		var o storedSub
		if damaged = json.Unmarshal(value, &o); damaged != nil {
			return false
		}
		filter := key[len(c.id)+1:]
		sub := &subscription{sess: s, filter: filter, qos: o.QoS, noLocal: o.NoLocal, retainAsPublished: o.RetainAsPublished, id: o.ID}
		sub.since, sub.seam, sub.waits = o.Since, o.Seam, o.Waits
		sub.from.Store(o.From)
		s.subs[filter] = sub
		if sub.waits {
			s.replays = append(s.replays, replay{sub, sub.since})
		}
		return true
	})
	if err = errors.Join(err, damaged); err != nil {
		return fmt.Errorf("read subscriptions: %w", err)
	}
	value, err := store.Get(positionSpace, c.id)
	if err != nil {
		return fmt.Errorf("read session position: %w", err)
	}
	if value != nil {
		if err := s.decodePosition(value); err != nil {
			return fmt.Errorf("read session position: %w", err)
		}
	}
	if err := s.resumeOutbound(); err != nil {
		return err
	}
	err = store.Scan(qos2Space, c.id+"\x00", func(key string, _ []byte) bool {
		if id := key[len(c.id)+1:]; len(id) == 2 {
			if c.qos2 == nil {
				c.qos2 = map[uint16]struct{}{}
			}
			c.qos2[uint16(id[0])<<8|uint16(id[1])] = struct{}{}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read QoS 2 ids: %w", err)
	}
	c.unacked.Store(int64(len(c.qos2)))
	return nil
}

// resumeOutbound puts the QoS 2 messages that are not complete back into the window.
func (s *session) resumeOutbound() error {
	var damaged error
	parts := s.srv.partitions()
	err := s.srv.broker.Store().Scan(outboundSpace, s.id+"\x00", func(key string, value []byte) bool {
		var sl slot
		var ok bool
		if sl, ok, damaged = decodeOutbound(value, parts); damaged != nil {
			return false
		}
		rest := key[len(s.id)+1:]
		if len(rest) != 2 {
			return true
		}
		id := uint16(rest[0])<<8 | uint16(rest[1])
		if !ok { // its topic was deleted; the client may know the id
			sl = slot{order: sl.order, qos: 2, released: true}
		}
		if s.outbound == nil {
			s.outbound = map[uint16]outbound{}
		}
		s.outbound[id] = outbound{sl.order, sl.released}
		s.window.restore(id, sl)
		return true
	})
	if err = errors.Join(err, damaged); err != nil {
		return fmt.Errorf("read outbound QoS 2 messages: %w", err)
	}
	return nil
}

// forgetSession lists the changes that remove all of a session.
func (srv *Server) forgetSession(id string) ([]edge.Put, error) {
	puts := []edge.Put{{Space: sessionSpace, Key: id}, {Space: positionSpace, Key: id}}
	for _, space := range [...]string{subscriptionSpace, qos2Space, outboundSpace} {
		err := srv.broker.Store().Scan(space, id+"\x00", func(key string, _ []byte) bool {
			puts = append(puts, edge.Put{Space: space, Key: key})
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("read session: %w", err)
		}
	}
	return puts, nil
}

// encode is the session's value in sessionSpace; left is 0 while the client is connected.
func (s *session) encode(left int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return mustJSON(storedSession{Expiry: s.expiry, User: s.conn.shown.Load().Name, Left: left})
}

// encode is the subscription's value in subscriptionSpace.
func (sub *subscription) encode() []byte { return sub.encodeFrom(sub.from.Load(), sub.waits) }

func (sub *subscription) encodeFrom(from uint64, waits bool) []byte {
	return mustJSON(storedSub{sub.qos, sub.noLocal, sub.retainAsPublished, sub.id, from, sub.since, sub.seam, waits})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: numbers cannot be encoded: " + err.Error())
	}
	return b
}

// put writes a session whose client has left, or removes it when it ends with its connection.
func (s *session) put() {
	s.mu.Lock()
	expiry, stored := s.expiry, s.stored
	s.mu.Unlock()
	var puts []edge.Put
	switch {
	case expiry > 0:
		puts = append(s.unstored, s.dones...)
		puts = append(puts, edge.Put{Space: sessionSpace, Key: s.id, Value: s.encode(max(1, s.srv.o.Now().Unix()))}, s.positionPut(s.cursor))
		puts = append(puts, s.srv.milestone(s.cursor.seq)...)
	case stored:
		var err error
		if puts, err = s.srv.forgetSession(s.id); err != nil {
			s.srv.log.Error("cannot remove session", "client", s.id, "err", err)
			return
		}
	default:
		return
	}
	err := s.srv.broker.Store().Do(s.srv.ctx, &edge.Commit{Puts: puts, Urgent: true})
	if err != nil && !errors.Is(err, edge.ErrClosed) {
		s.srv.log.Error("cannot store session", "client", s.id, "err", err)
	}
}

// A position: version, seq, then counted lists: done (partition, offset), held (partition, offset), QoS 1 in flight (packet id,
// order, partition+1 and offset, or 0 and a retained topic). Shared subscriptions have a position of their own.
const positionVersion = 1

func (s *session) encodePosition(c cursor) []byte {
	b := c.append([]byte{positionVersion})
	ids := s.window.inFlight()
	ids = slices.DeleteFunc(ids, func(id uint16) bool { sl := s.window.at(id); return sl.qos != 1 || sl.share != nil })
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		sl := s.window.at(id)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(id)), sl.order)
		b = sl.appendPlace(b)
	}
	return b
}

func (c *cursor) append(b []byte) []byte {
	b = binary.AppendUvarint(b, c.seq)
	b = binary.AppendUvarint(b, uint64(len(c.done)))
	for id, offset := range c.done {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(id)), uint64(offset))
	}
	b = binary.AppendUvarint(b, uint64(len(c.held)))
	for p, offset := range c.held {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.ID)), uint64(offset))
	}
	return b
}

// appendPlace appends where a message is: partition+1 and offset, or 0 and the topic of a retained copy.
func (s *slot) appendPlace(b []byte) []byte {
	if s.part == nil {
		b = binary.AppendUvarint(append(b, 0), uint64(len(s.topic)))
		return append(b, s.topic...)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.part.ID)+1), uint64(s.offset))
}

var errPosition = errors.New("value is damaged")

func (s *session) decodePosition(b []byte) error { return s.decode(b, s.srv.partitions()) }

func (s *session) decode(b []byte, parts map[uint32]*edge.Partition) error {
	if len(b) == 0 || b[0] != positionVersion {
		return errPosition
	}
	r := uvarints{b: b[1:]}
	s.cursor = r.cursor(parts)
	for n := r.next(); n > 0 && !r.bad; n-- {
		id, sl := uint16(r.next()), slot{order: r.next(), qos: 1}
		if !r.place(&sl, parts) {
			continue // its topic was deleted
		}
		if id != 0 && sl.order != 0 && !r.bad {
			s.window.restore(id, sl)
		}
	}
	if r.bad {
		return errPosition
	}
	return nil
}

// uvarints reads numbers one after the other.
type uvarints struct {
	b   []byte
	bad bool
}

func (r *uvarints) next() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *uvarints) text() string {
	n := r.next()
	if n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// cursor reads what cursor.append wrote.
func (r *uvarints) cursor(parts map[uint32]*edge.Partition) cursor {
	c := cursor{seq: r.next()}
	for n := r.next(); n > 0 && !r.bad; n-- {
		if c.done == nil {
			c.done = map[uint32]int64{}
		}
		id := uint32(r.next())
		c.done[id] = int64(r.next())
	}
	for n := r.next(); n > 0 && !r.bad; n-- {
		if c.held == nil {
			c.held = map[*edge.Partition]int64{}
		}
		p, offset := parts[uint32(r.next())], int64(r.next())
		if p != nil {
			c.held[p] = offset
		}
	}
	return c
}

// place reads what appendPlace wrote; it returns false when the partition is no more.
func (r *uvarints) place(sl *slot, parts map[uint32]*edge.Partition) bool {
	part := r.next()
	if part == 0 {
		sl.topic = r.text()
		return true
	}
	sl.part, sl.offset = parts[uint32(part-1)], int64(r.next())
	return sl.part != nil
}

// partitions lists all partitions by id.
func (srv *Server) partitions() map[uint32]*edge.Partition {
	parts := map[uint32]*edge.Partition{}
	for _, t := range srv.broker.Store().Topics() {
		for _, p := range t.Partitions {
			parts[p.ID] = p
		}
	}
	return parts
}

// How often positions of connected sessions are stored, and how often expired sessions are looked for.
const (
	notePeriod  = time.Second
	sweepPeriod = time.Minute
)

// persistLoop stores positions, removes sessions that expired, and gives back memory that idle connections do not need any more.
func (srv *Server) persistLoop() {
	note, sweep := time.NewTicker(notePeriod), time.NewTicker(sweepPeriod)
	defer note.Stop()
	defer sweep.Stop()
	t := tidier{since: tidyRest}
	for {
		select {
		case <-srv.stop:
			return
		case <-note.C:
			srv.notePositions()
			srv.tidyUp(&t)
		case <-sweep.C:
			srv.sweep()
		}
	}
}

// notePositions stores how far sessions have got that outlive their connection. Each is stored while whoever serves the session
// cannot, so that an older position never follows a newer one.
func (srv *Server) notePositions() {
	srv.mu.Lock()
	sessions := make([]*session, 0, len(srv.clients))
	for _, c := range srv.clients {
		if s := c.sess.Load(); s != nil && s.kept() {
			sessions = append(sessions, s)
		}
	}
	srv.mu.Unlock()
	srv.noteLive(sessions)
	for _, s := range sessions {
		switch s.state.Load() {
		case behind:
			if s.state.CompareAndSwap(behind, catching) {
				s.takeAcks()
				srv.commitNotes(s.position(s.cursor))
				s.rest()
				s.kick() // room may have been made meanwhile
			}
		case catching:
			s.noteDue.Store(true)
		}
	}
}

// noteLive stores the positions of those that the dispatcher serves, and of shared subscriptions.
func (srv *Server) noteLive(sessions []*session) {
	d := &srv.dispatch
	d.mu.Lock()
	defer d.mu.Unlock()
	var puts [][]edge.Put
	for _, s := range sessions {
		if s.state.Load() == live {
			s.takeAcks()
			puts = append(puts, s.position(d.cursorOf(nil)))
		}
	}
	srv.commitNotes(append(puts, srv.noteShares()...)...)
}

// commitNotes stores positions, those of each session or share in one commit; it does not wait.
func (srv *Server) commitNotes(puts ...[]edge.Put) {
	for len(puts) > 0 {
		c := &edge.Commit{Urgent: true, Patient: true}
		n, size := 0, 0
		for ; n < len(puts) && size < maxCommit; n++ {
			for i := range puts[n] {
				size += len(puts[n][i].Key) + len(puts[n][i].Value) + 32
			}
			c.Puts = append(c.Puts, puts[n]...)
		}
		if puts = puts[n:]; len(c.Puts) == 0 {
			return
		}
		c.Done = func(c *edge.Commit) { srv.noteFailed(c.Err) }
		if err := srv.broker.Store().Submit(srv.ctx, c); err != nil {
			srv.noteFailed(err)
		}
	}
}

func (srv *Server) noteFailed(err error) {
	if err != nil && srv.ctx.Err() == nil && !errors.Is(err, edge.ErrClosed) {
		srv.log.Error("cannot store notes of MQTT sessions", "err", err)
	}
}

// position makes the changes that store where the session is; the deliverer's. A position that is behind because nothing was
// for this session does no harm, and is brought up seldom.
func (s *session) position(c cursor) []edge.Put {
	if !s.dirty && c.seq < s.stayed+seldom {
		return nil
	}
	puts := append(s.dones, s.positionPut(c))
	s.dones = nil
	return puts
}

func (s *session) positionPut(c cursor) edge.Put {
	s.dirty, s.stayed = false, c.seq
	return edge.Put{Space: positionSpace, Key: s.id, Value: s.encodePosition(c)}
}

// seldom is a number of frames.
const seldom = 100_000

// expire removes a session that expired, unless its client is there, or was since somebody looked.
func (srv *Server) expire(id string, now time.Time) error {
	release, ok := srv.claim(id)
	if !ok {
		return nil
	}
	defer release()
	value, err := srv.broker.Store().Get(sessionSpace, id)
	if err != nil {
		return err
	}
	if o, ok := decodeSession(value); !ok || !o.expired(now) {
		return nil
	}
	puts, err := srv.forgetSession(id)
	if err != nil {
		return err
	}
	if err := srv.broker.Store().Do(srv.ctx, &edge.Commit{Puts: puts, Urgent: true}); err != nil {
		return err
	}
	srv.stats.sessionsExpired.Add(1)
	return nil
}

// sweep removes sessions whose clients stayed away too long.
func (srv *Server) sweep() {
	now := srv.o.Now()
	var ids []string
	err := srv.broker.Store().Scan(sessionSpace, "", func(id string, value []byte) bool {
		if o, ok := decodeSession(value); ok && o.expired(now) {
			ids = append(ids, id)
		}
		return true
	})
	for _, id := range ids {
		err = errors.Join(err, srv.expire(id, now))
	}
	err = errors.Join(err, srv.sweepShares(), srv.sweepMilestones())
	if err != nil && srv.ctx.Err() == nil {
		srv.log.Error("cannot remove expired MQTT sessions", "err", err)
	}
}
