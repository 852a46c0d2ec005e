package edge

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// JoinRequest asks to be a member of a group. Its slices belong to the coordinator afterwards.
type JoinRequest struct {
	Group      string
	MemberID   string // "" for a new member
	InstanceID string // of a static member (KIP-345), else ""
	Client     string
	Host       string
	Kind       string // protocol type
	Protocols  []GroupProtocol
	Session    time.Duration
	Rebalance  time.Duration // 0: as Session
	// GiveID: a new member is first given an id with ErrMemberIDRequired (KIP-394).
	GiveID bool
	// SkipAssignment: the client understands JoinResult.SkipAssignment (KIP-814).
	SkipAssignment bool
}

// JoinResult is a member's part of a generation. Members is set for the leader only.
type JoinResult struct {
	Err            error
	Generation     int32
	Kind, Protocol string
	Leader         string
	MemberID       string
	Members        []GroupMember
	SkipAssignment bool // the leader came back as it was: the assignment stands
}

// SyncRequest asks for a member's assignment; the leader brings everyone's.
type SyncRequest struct {
	Group, MemberID, InstanceID string
	Generation                  int32
	Kind, Protocol              string // "" is not checked
	Assignments                 map[string][]byte
}

// SyncResult is a member's assignment.
type SyncResult struct {
	Err            error
	Kind, Protocol string
	Assignment     []byte
}

// Join blocks until the generation begins that the member is part of, or until ctx ends.
func (g *Groups) Join(ctx context.Context, r JoinRequest) JoinResult {
	g.mu.Lock()
	wait, res := g.join(r)
	g.mu.Unlock()
	if wait == nil {
		return res
	}
	select {
	case res = <-wait:
		return res
	case <-ctx.Done():
		return JoinResult{Err: ctx.Err(), MemberID: r.MemberID, Generation: -1}
	}
}

// join returns a channel to wait on, or the result at once.
func (g *Groups) join(r JoinRequest) (chan JoinResult, JoinResult) {
	fail := func(err error) (chan JoinResult, JoinResult) {
		return nil, JoinResult{Err: err, MemberID: r.MemberID, Generation: -1}
	}
	if g.closed {
		return fail(ErrCoordinatorClosed)
	}
	if err := checkGroupName(r.Group); err != nil {
		return fail(err)
	}
	if r.Session < g.opts.MinSession || r.Session > g.opts.MaxSession {
		return fail(ErrSessionTimeout)
	}
	if r.Kind == "" || len(r.Protocols) == 0 {
		return fail(ErrGroupProtocol)
	}
	if r.Rebalance <= 0 {
		r.Rebalance = r.Session
	}
	gr := g.groups[r.Group]
	if gr == nil {
		if r.MemberID != "" {
			return fail(ErrUnknownMember)
		}
		gr = newGroup(r.Group)
		g.groups[r.Group] = gr
	}
	if !gr.accepts(r) {
		return fail(ErrGroupProtocol)
	}

	_, given := gr.pending[r.MemberID]
	switch {
	case r.MemberID == "" && r.InstanceID != "" && gr.static[r.InstanceID] != "":
		return g.replaceStatic(gr, r)
	case r.MemberID == "" || given:
		if len(gr.members)+len(gr.pending) >= g.opts.MaxMembers && !given {
			return fail(ErrGroupFull)
		}
		if r.MemberID == "" {
			r.MemberID = g.newMemberID(r)
			if r.GiveID && r.InstanceID == "" {
				lapse := g.opts.Now().Add(r.Session)
				gr.pending[r.MemberID] = lapse
				g.schedule(lapse)
				return fail(ErrMemberIDRequired)
			}
		}
		delete(gr.pending, r.MemberID)
		return g.add(gr, r), JoinResult{}
	}

	if err := gr.checkInstance(r.MemberID, r.InstanceID); err != nil {
		return fail(err)
	}
	m := gr.members[r.MemberID]
	if m == nil {
		return fail(ErrUnknownMember)
	}
	return g.rejoin(gr, m, r)
}

// accepts reports whether the member offers something that all others offer too.
func (gr *consumerGroup) accepts(r JoinRequest) bool {
	others := 0
	for _, m := range gr.members {
		if m.id != r.MemberID {
			others++
		}
	}
	if others == 0 {
		return true
	}
	if gr.kind != r.Kind {
		return false
	}
	for _, p := range r.Protocols {
		if gr.offeredByAll(p.Name, r.MemberID) {
			return true
		}
	}
	return false
}

// offeredByAll reports whether every member but the one named except offers the protocol.
func (gr *consumerGroup) offeredByAll(protocol, except string) bool {
	for _, m := range gr.members {
		if m.id != except && m.metadata(protocol) == nil {
			return false
		}
	}
	return true
}

// metadata is what m offered for protocol, nil when it did not offer it.
func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			if p.Metadata == nil {
				return []byte{}
			}
			return p.Metadata
		}
	}
	return nil
}

// maxIDName bounds what a member id has of its client's name, bytes: it must itself fit wherever the name does.
const maxIDName = 255

func (g *Groups) newMemberID(r JoinRequest) string {
	name := r.Client
	if r.InstanceID != "" {
		name = r.InstanceID
	}
	if len(name) > maxIDName {
		name = strings.ToValidUTF8(name[:maxIDName], "")
	}
	return fmt.Sprintf("%s-%016x%016x", name, g.opts.Rand(), g.opts.Rand())
}

func (g *Groups) add(gr *consumerGroup, r JoinRequest) chan JoinResult {
	m := &member{id: r.MemberID, instance: r.InstanceID}
	m.update(r)
	wait := m.waitJoin()
	if len(gr.members) == 0 {
		gr.leader = m.id
		gr.kind = r.Kind
	}
	gr.members[m.id] = m
	if m.instance != "" {
		gr.static[m.instance] = m.id
	}
	g.opts.Log.Debug("group member joins", "group", gr.name, "member", m.id, "client", m.client)
	g.prepare(gr)
	return wait
}

func (m *member) update(r JoinRequest) {
	m.client, m.host = r.Client, r.Host
	m.session, m.rebalance = r.Session, r.Rebalance
	m.protocols = r.Protocols
}

// waitJoin makes the channel that the member's Join waits on. A Join of the same member that still waits (its
// connection is gone, or the client gave up on it) is told to come again.
func (m *member) waitJoin() chan JoinResult {
	m.answerJoin(JoinResult{Err: ErrRebalance, MemberID: m.id, Generation: -1})
	m.join = make(chan JoinResult, 1)
	return m.join
}

func (g *Groups) rejoin(gr *consumerGroup, m *member, r JoinRequest) (chan JoinResult, JoinResult) {
	same := slices.EqualFunc(m.protocols, r.Protocols, func(a, b GroupProtocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
	m.deadline = g.opts.Now().Add(r.Session)
	switch {
	case gr.state == GroupCompleting && same:
		// The answer to its first Join was lost: it gets it again.
		m.update(r)
		return nil, gr.joined(m)
	case gr.state == GroupStable && same && gr.leader != m.id:
		m.update(r)
		return nil, gr.joined(m)
	}
	m.update(r)
	wait := m.waitJoin()
	g.prepare(gr)
	return wait, JoinResult{}
}

// replaceStatic gives a static member that came back a new id, and with it fences the old one. While its subscription
// leaves the group's protocol as it is, nobody else notices.
func (g *Groups) replaceStatic(gr *consumerGroup, r JoinRequest) (chan JoinResult, JoinResult) {
	old := gr.members[gr.static[r.InstanceID]]
	old.answer(ErrFencedInstance)
	m := &member{id: g.newMemberID(r), instance: r.InstanceID, assignment: old.assignment, synced: old.synced}
	m.update(r)
	m.deadline = g.opts.Now().Add(r.Session)
	g.schedule(m.deadline)
	leader := gr.leader
	delete(gr.members, old.id)
	gr.members[m.id] = m
	gr.static[m.instance] = m.id
	if gr.leader == old.id {
		gr.leader = m.id
	}
	if gr.state == GroupStable && gr.choose() == gr.protocol {
		res := gr.joined(m)
		if gr.leader == m.id {
			if r.SkipAssignment {
				res.SkipAssignment = true
			} else {
				// A client that does not know SkipAssignment would assign again, for members that do not wait for it.
				// Told another leader, it takes its old assignment as a follower.
				res.Leader, res.Members = leader, nil
			}
		}
		return nil, res
	}
	wait := m.waitJoin()
	g.prepare(gr)
	return wait, JoinResult{}
}

// joined is m's part of the current generation.
func (gr *consumerGroup) joined(m *member) JoinResult {
	res := JoinResult{
		Generation: gr.generation, Kind: gr.kind, Protocol: gr.protocol, Leader: gr.leader, MemberID: m.id,
	}
	if m.id == gr.leader {
		for _, o := range gr.members {
			res.Members = append(res.Members, GroupMember{
				ID: o.id, Instance: o.instance, Client: o.client, Host: o.host, Metadata: o.metadata(gr.protocol),
			})
		}
		slices.SortFunc(res.Members, func(a, b GroupMember) int { return strings.Compare(a.ID, b.ID) })
	}
	return res
}

// Sync blocks until the leader brought the assignment, or until ctx ends.
func (g *Groups) Sync(ctx context.Context, r SyncRequest) SyncResult {
	g.mu.Lock()
	gr, m, err := g.lookup(r.Group, r.MemberID, r.InstanceID, r.Generation)
	if err == nil && (r.Kind != "" && r.Kind != gr.kind || r.Protocol != "" && r.Protocol != gr.protocol) {
		err = ErrGroupProtocol
	}
	if err == nil && gr.state == GroupPreparing {
		err = ErrRebalance
	}
	if err != nil {
		g.mu.Unlock()
		return SyncResult{Err: err}
	}
	m.deadline = g.opts.Now().Add(m.session)
	if gr.state == GroupStable {
		res := gr.assigned(m)
		g.mu.Unlock()
		return res
	}
	m.answerSync(SyncResult{Err: ErrRebalance})
	m.synced = true
	m.sync = make(chan SyncResult, 1)
	wait := m.sync
	leads := gr.leader == m.id
	record, stored := groupRecord{Kind: gr.kind, Generation: gr.generation}, gr.stored
	g.mu.Unlock()

	if leads {
		g.complete(ctx, r, record, stored)
	}
	select {
	case res := <-wait:
		return res
	case <-ctx.Done():
		return SyncResult{Err: ctx.Err()}
	}
}

func (gr *consumerGroup) assigned(m *member) SyncResult {
	return SyncResult{Kind: gr.kind, Protocol: gr.protocol, Assignment: m.assignment}
}

// complete gives everyone who waits the leader's assignment. A group that has committed offsets stores its generation
// first; the others leave no trace.
func (g *Groups) complete(ctx context.Context, r SyncRequest, record groupRecord, stored bool) {
	if stored {
		// A store that cannot write any more can still be read: losing the generation only means that it is used
		// again after a restart, by members that all have new ids.
		if err := g.storeRecord(ctx, r.Group, record); err != nil {
			g.opts.Log.Warn("cannot store group", "group", r.Group, "err", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gr := g.groups[r.Group]
	if gr == nil || gr.state != GroupCompleting || gr.generation != record.Generation {
		return // a new rebalance has answered everyone
	}
	gr.state, gr.deadline = GroupStable, time.Time{}
	now := g.opts.Now()
	for _, m := range gr.members {
		m.assignment = r.Assignments[m.id]
		m.deadline = now.Add(m.session)
		g.schedule(m.deadline)
		m.answerSync(gr.assigned(m))
	}
	g.opts.Log.Debug("group is stable", "group", gr.name, "generation", gr.generation, "members", len(gr.members))
}

func (g *Groups) storeRecord(ctx context.Context, name string, r groupRecord) error {
	put, err := groupPut(name, r)
	if err != nil {
		return err
	}
	return g.store.Do(ctx, &Commit{Puts: []Put{put}, Urgent: true})
}

func groupPut(name string, r groupRecord) (Put, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return Put{}, fmt.Errorf("encode group: %w", err)
	}
	return Put{Space: spaceGroups, Key: name, Value: value}, nil
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:])
}
