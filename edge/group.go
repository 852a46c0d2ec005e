package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"rivulet/storage"
)

// Errors of the group coordinator.
var (
	ErrGroupName         = errors.New("invalid group name")
	ErrGroupNotFound     = errors.New("no such group")
	ErrGroupNotEmpty     = errors.New("group has members")
	ErrGroupFull         = errors.New("group has its most members")
	ErrUnknownMember     = errors.New("member is not in the group")
	ErrMemberIDRequired  = errors.New("member must join again with the id it was given")
	ErrFencedInstance    = errors.New("another member has this static instance id")
	ErrGeneration        = errors.New("generation is not the group's")
	ErrRebalance         = errors.New("group is rebalancing")
	ErrGroupProtocol     = errors.New("member shares no protocol with the group")
	ErrSessionTimeout    = errors.New("session timeout is out of range")
	ErrMetadataTooLarge  = errors.New("offset metadata is too large")
	ErrCoordinatorClosed = errors.New("coordinator is closed")
)

// GroupOptions of the group coordinator. The zero value of every field is its default.
type GroupOptions struct {
	MinSession  time.Duration // default 1 s
	MaxSession  time.Duration // default 30 min
	MaxMembers  int           // of one group; default 1000
	MaxMetadata int           // bytes of a committed offset's metadata; default 4096
	Now         func() time.Time
	Rand        func() uint64
	Log         *slog.Logger
}

// Groups coordinates consumer groups: who is in a group, which generation it is in, and the offsets that it committed.
// Members live in memory, as their sessions do; committed offsets, the group's kind and its generation are in the
// store's key-value space. It knows no protocol: subscriptions and assignments are bytes.
//
// All methods may be called by many goroutines. Join and Sync block until the rebalance that they take part in is over.
// One timer serves the deadlines of all groups; there is no goroutine per group or member.
type Groups struct {
	store *storage.Store
	opts  GroupOptions

	mu     sync.Mutex
	groups map[string]*consumerGroup
	next   deadline
	closed bool
}

// GroupState is where a group stands.
type GroupState uint8

// The states of a group.
const (
	GroupEmpty      GroupState = iota // no members; it may have offsets
	GroupPreparing                    // waits for all members to join
	GroupCompleting                   // waits for the leader's assignment
	GroupStable
)

// String is the name that Kafka's tools show.
func (s GroupState) String() string {
	switch s {
	case GroupPreparing:
		return "PreparingRebalance"
	case GroupCompleting:
		return "CompletingRebalance"
	case GroupStable:
		return "Stable"
	default:
		return "Empty"
	}
}

// GroupProtocol is one way of assigning partitions that a member offers, with what it tells the leader.
type GroupProtocol struct {
	Name     string
	Metadata []byte
}

type consumerGroup struct {
	name       string
	kind       string // protocol type, "consumer"
	state      GroupState
	generation int32
	protocol   string
	leader     string
	members    map[string]*member
	static     map[string]string    // instance id → member id
	pending    map[string]time.Time // ids given out with ErrMemberIDRequired, and when they lapse
	deadline   time.Time            // of the rebalance or of the assignment; zero: none
	stored     bool                 // the group has a record in the store
}

type member struct {
	id, instance, client, host string
	session, rebalance         time.Duration
	protocols                  []GroupProtocol
	assignment                 []byte
	deadline                   time.Time // the session's
	synced                     bool      // in GroupCompleting: asked for its assignment
	join                       chan JoinResult
	sync                       chan SyncResult
}

// groupRecord is a group's value in space "groups".
type groupRecord struct {
	Kind       string `json:"kind"`
	Generation int32  `json:"generation"`
}

const spaceGroups = "groups"

// NewGroups loads what the store knows of groups.
func NewGroups(store *storage.Store, o GroupOptions) (*Groups, error) {
	o.MinSession = cmp.Or(o.MinSession, time.Second)
	o.MaxSession = cmp.Or(o.MaxSession, 30*time.Minute)
	o.MaxMembers = cmp.Or(o.MaxMembers, 1000)
	o.MaxMetadata = cmp.Or(o.MaxMetadata, 4096)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = randomUint64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Groups{store: store, opts: o, groups: make(map[string]*consumerGroup)}
	err := store.Scan(spaceGroups, "", func(name string, value []byte) bool {
		var r groupRecord
		if err := json.Unmarshal(value, &r); err != nil {
			o.Log.Warn("group record is damaged; its generation starts again", "group", name, "err", err)
		}
		gr := newGroup(name)
		gr.kind, gr.generation, gr.stored = r.Kind, r.Generation, true
		g.groups[name] = gr
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("load groups: %w", err)
	}
	return g, nil
}

// SessionBounds are the shortest and the longest session that a member may ask for.
func (g *Groups) SessionBounds() (shortest, longest time.Duration) {
	return g.opts.MinSession, g.opts.MaxSession
}

func newGroup(name string) *consumerGroup {
	return &consumerGroup{
		name:    name,
		members: make(map[string]*member),
		static:  make(map[string]string),
		pending: make(map[string]time.Time),
	}
}

// Close answers everyone who waits with ErrCoordinatorClosed.
func (g *Groups) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.next.stop()
	for _, gr := range g.groups {
		for _, m := range gr.members {
			m.answer(ErrCoordinatorClosed)
		}
	}
}

// answer ends what m waits for with err.
func (m *member) answer(err error) {
	m.answerJoin(JoinResult{Err: err, MemberID: m.id, Generation: -1})
	m.answerSync(SyncResult{Err: err})
}

func (m *member) answerJoin(r JoinResult) {
	if m.join != nil {
		m.join <- r // capacity 1, and each channel is answered once
		m.join = nil
	}
}

func (m *member) answerSync(r SyncResult) {
	if m.sync != nil {
		m.sync <- r
		m.sync = nil
	}
}

// checkGroupName refuses what cannot be a key: offsets are kept under group, NUL, topic, NUL, partition.
func checkGroupName(name string) error {
	if name == "" || len(name) > 1024 || strings.ContainsRune(name, 0) {
		return ErrGroupName
	}
	return nil
}

// lookup finds the member that a request speaks for; g.mu is held.
func (g *Groups) lookup(name, id, instance string, generation int32) (*consumerGroup, *member, error) {
	if g.closed {
		return nil, nil, ErrCoordinatorClosed
	}
	if err := checkGroupName(name); err != nil {
		return nil, nil, err
	}
	gr := g.groups[name]
	if gr == nil {
		return nil, nil, ErrUnknownMember
	}
	if err := gr.checkInstance(id, instance); err != nil {
		return nil, nil, err
	}
	m := gr.members[id]
	if m == nil {
		return nil, nil, ErrUnknownMember
	}
	if generation != gr.generation {
		return nil, nil, ErrGeneration
	}
	return gr, m, nil
}

// checkInstance holds that a static member's instance id still belongs to member id.
func (gr *consumerGroup) checkInstance(id, instance string) error {
	if instance == "" {
		return nil
	}
	owner, ok := gr.static[instance]
	switch {
	case !ok:
		return ErrUnknownMember
	case owner != id:
		return ErrFencedInstance
	}
	return nil
}

// Heartbeat keeps a member's session alive. ErrRebalance tells it to join again.
func (g *Groups) Heartbeat(name, id, instance string, generation int32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	gr, m, err := g.lookup(name, id, instance, generation)
	if err != nil {
		return err
	}
	m.deadline = g.opts.Now().Add(m.session)
	if gr.state == GroupPreparing {
		return ErrRebalance
	}
	return nil
}

// Leave takes one member out, named by its id, or by its instance id alone.
func (g *Groups) Leave(name, id, instance string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrCoordinatorClosed
	}
	gr := g.groups[name]
	if gr == nil {
		return ErrUnknownMember
	}
	if id == "" {
		id = gr.static[instance]
	} else if err := gr.checkInstance(id, instance); err != nil {
		return err
	}
	if _, ok := gr.pending[id]; ok {
		delete(gr.pending, id)
		if gr.state == GroupEmpty {
			g.empty(gr)
		}
		g.tryComplete(gr)
		return nil
	}
	m := gr.members[id]
	if m == nil {
		return ErrUnknownMember
	}
	g.opts.Log.Debug("group member leaves", "group", name, "member", id)
	g.remove(gr, m)
	return nil
}

// GroupListing is one line of List.
type GroupListing struct {
	Name  string
	Kind  string
	State GroupState
}

// List names all groups.
func (g *Groups) List() []GroupListing {
	g.mu.Lock()
	list := make([]GroupListing, 0, len(g.groups))
	for _, gr := range g.groups {
		list = append(list, GroupListing{Name: gr.name, Kind: gr.kind, State: gr.state})
	}
	g.mu.Unlock()
	slices.SortFunc(list, func(a, b GroupListing) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// GroupDescription is a snapshot of one group.
type GroupDescription struct {
	Name       string
	Kind       string
	State      GroupState
	Generation int32
	Protocol   string
	Leader     string
	Members    []GroupMember
}

// GroupMember is a snapshot of one member. Metadata is what it offered for the group's protocol.
type GroupMember struct {
	ID, Instance, Client, Host string
	Metadata, Assignment       []byte
}

// Describe returns a snapshot of a group. Errors: ErrGroupNotFound.
func (g *Groups) Describe(name string) (GroupDescription, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gr := g.groups[name]
	if gr == nil {
		return GroupDescription{}, ErrGroupNotFound
	}
	d := GroupDescription{
		Name: gr.name, Kind: gr.kind, State: gr.state, Generation: gr.generation, Protocol: gr.protocol, Leader: gr.leader,
	}
	for _, m := range gr.members {
		d.Members = append(d.Members, GroupMember{
			ID: m.id, Instance: m.instance, Client: m.client, Host: m.host,
			Metadata: m.metadata(gr.protocol), Assignment: m.assignment,
		})
	}
	slices.SortFunc(d.Members, func(a, b GroupMember) int { return strings.Compare(a.ID, b.ID) })
	return d, nil
}

// Delete removes a group without members, and its offsets. Errors: ErrGroupNotFound, ErrGroupNotEmpty.
func (g *Groups) Delete(ctx context.Context, name string) error {
	done := make(chan struct{})
	c := &Commit{Urgent: true, Done: func(*Commit) { close(done) }}
	gr, err := g.delete(ctx, name, c)
	if err != nil {
		return err
	}
	<-done
	if c.Err == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups[name] == nil {
		g.groups[name] = gr
	}
	return fmt.Errorf("delete group: %w", c.Err)
}

// delete looks up what there is of a group and hands its end to the store, before anyone can join and commit anew.
func (g *Groups) delete(ctx context.Context, name string, c *Commit) (*consumerGroup, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gr := g.groups[name]
	switch {
	case gr == nil:
		return nil, ErrGroupNotFound
	case gr.state != GroupEmpty || len(gr.pending) > 0:
		return nil, ErrGroupNotEmpty
	}
	c.Puts = []Put{{Space: spaceGroups, Key: name}}
	err := g.store.Scan(spaceOffsets, name+"\x00", func(key string, _ []byte) bool {
		c.Puts = append(c.Puts, Put{Space: spaceOffsets, Key: key})
		return true
	})
	if err == nil {
		err = g.store.Submit(ctx, c) // which takes an urgent commit without waiting
	}
	if err != nil {
		return nil, fmt.Errorf("delete group: %w", err)
	}
	delete(g.groups, name)
	return gr, nil
}
