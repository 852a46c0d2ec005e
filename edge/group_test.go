package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"rivulet/storage"
)

// testClock is a clock that only moves when told.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// coordinators are groups and transactions on a store, which can be restarted.
type coordinators struct {
	*Groups
	txns  *Txns
	t     testing.TB
	dir   string
	store *storage.Store
	clock *testClock
}

func newCoordinators(t testing.TB) *coordinators {
	t.Helper()
	c := &coordinators{t: t, dir: t.TempDir(), clock: &testClock{t: now}}
	c.start()
	for _, name := range []string{"t", "u"} {
		if _, err := c.store.CreateTopic(t.Context(), name, 4, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.stop)
	return c
}

func (c *coordinators) start() {
	c.t.Helper()
	var err error
	if c.store, err = storage.Open(c.t.Context(), storage.Options{Dir: c.dir, JournalBytes: 4 << 20}); err != nil {
		c.t.Fatal(err)
	}
	if c.Groups, err = NewGroups(c.store, GroupOptions{Now: c.clock.now}); err != nil {
		c.t.Fatal(err)
	}
	if c.txns, err = NewTxns(c.t.Context(), c.store, c.Groups, TxnOptions{Now: c.clock.now}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *coordinators) stop() {
	if c.Groups == nil {
		return
	}
	c.txns.Close()
	c.Groups.Close()
	c.Groups = nil
	if err := c.store.Close(); err != nil {
		c.t.Error(err)
	}
}

func (c *coordinators) restart() { c.t.Helper(); c.stop(); c.start() }

// after moves the clock and lets the coordinators see it.
func (c *coordinators) after(d time.Duration) {
	c.clock.advance(d)
	c.Groups.expire()
	c.txns.expire()
}

// until polls a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		<-tick.C
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for: ", what)
		}
	}
}

// protocols are one protocol for each name, whose metadata is the member's.
func protocols(metadata string, names ...string) []GroupProtocol {
	var list []GroupProtocol
	for _, n := range names {
		list = append(list, GroupProtocol{n, []byte(metadata)})
	}
	return list
}

func joinRequest(id, metadata string) JoinRequest {
	return JoinRequest{
		Group: "g", MemberID: id, Client: "test", Kind: "consumer", Protocols: protocols(metadata, "range"),
		Session: 10 * time.Second, Rebalance: 30 * time.Second,
	}
}

// joining is a Join under way.
type joining chan JoinResult

func (c *coordinators) goJoin(r JoinRequest) joining {
	ch := make(joining, 1)
	go func() { ch <- c.Join(context.Background(), r) }()
	return ch
}

func (j joining) result(t testing.TB) JoinResult {
	t.Helper()
	select {
	case r := <-j:
		return r
	case <-time.After(time.Minute):
		t.Fatal("Join does not return")
		return JoinResult{}
	}
}

// waiting waits until n members are in Join.
func (c *coordinators) waiting(n int) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("%d members in Join", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		in := 0
		for _, m := range c.groups["g"].members {
			if m.join != nil {
				in++
			}
		}
		return in == n
	})
}

func (c *coordinators) syncAs(j JoinResult, assignments map[string][]byte) SyncResult {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	return c.Sync(ctx, SyncRequest{Group: "g", MemberID: j.MemberID, Generation: j.Generation, Assignments: assignments})
}

// stable makes a stable group of n members; the first leads.
func (c *coordinators) stable(n int) []JoinResult {
	c.t.Helper()
	first := c.Join(c.t.Context(), joinRequest("", "m0"))
	if first.Err != nil {
		c.t.Fatal(first.Err)
	}
	calls := []joining{}
	for i := 1; i < n; i++ {
		calls = append(calls, c.goJoin(joinRequest("", fmt.Sprint("m", i))))
	}
	c.waiting(n - 1)
	if n > 1 {
		calls = append([]joining{c.goJoin(joinRequest(first.MemberID, "m0"))}, calls...)
	}
	list := []JoinResult{first}
	if n > 1 {
		list = nil
		for _, j := range calls {
			list = append(list, j.result(c.t))
		}
	}
	assign := map[string][]byte{}
	for _, j := range list {
		assign[j.MemberID] = []byte("for " + j.MemberID)
	}
	for _, j := range list {
		var a map[string][]byte
		if j.Leader == j.MemberID {
			a = assign
		} else {
			continue
		}
		if s := c.syncAs(j, a); s.Err != nil {
			c.t.Fatal(s.Err)
		}
	}
	for _, j := range list {
		if s := c.syncAs(j, nil); s.Err != nil || string(s.Assignment) != "for "+j.MemberID {
			c.t.Fatalf("assignment %q, %v", s.Assignment, s.Err)
		}
	}
	return list
}

func TestGroupJoinsAndAssigns(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(3)
	if m[0].Generation != 2 || m[0].Leader != m[0].MemberID || len(m[0].Members) != 3 || m[1].Members != nil {
		t.Errorf("leader %+v, follower %+v", m[0], m[1])
	}
	for _, j := range m {
		if err := c.Heartbeat("g", j.MemberID, "", 2); err != nil {
			t.Error(err)
		}
	}
	d, err := c.Describe("g")
	if err != nil || d.State != GroupStable || d.Protocol != "range" || len(d.Members) != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	for _, test := range []struct {
		id   string
		gen  int32
		want error
	}{{m[0].MemberID, 1, ErrGeneration}, {"nobody", 2, ErrUnknownMember}} {
		if err := c.Heartbeat("g", test.id, "", test.gen); !errors.Is(err, test.want) {
			t.Errorf("heartbeat of %q in generation %d: %v", test.id, test.gen, err)
		}
	}
}

func TestGroupMemberIDIsGivenFirst(t *testing.T) {
	c := newCoordinators(t)
	r := joinRequest("", "m")
	r.GiveID = true
	given := c.Join(t.Context(), r)
	if !errors.Is(given.Err, ErrMemberIDRequired) || given.MemberID == "" {
		t.Fatalf("%+v", given)
	}
	r.MemberID = given.MemberID
	if j := c.Join(t.Context(), r); j.Err != nil || j.MemberID != given.MemberID || j.Generation != 1 {
		t.Fatalf("%+v", j)
	}
	// An id that nobody comes back with holds up the next rebalance only as long as its session.
	r.MemberID = ""
	lost := c.Join(t.Context(), r)
	again := c.goJoin(joinRequest(given.MemberID, "changed"))
	c.waiting(1)
	c.after(11 * time.Second)
	if j := again.result(t); j.Err != nil || j.Generation != 2 || len(j.Members) != 1 {
		t.Errorf("%+v", j)
	}
	r.MemberID = lost.MemberID
	if j := c.Join(t.Context(), r); !errors.Is(j.Err, ErrUnknownMember) {
		t.Errorf("an id that lapsed: %+v", j)
	}
}

func TestGroupSessionEnds(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(2)
	c.after(8 * time.Second)
	if err := c.Heartbeat("g", m[0].MemberID, "", m[0].Generation); err != nil {
		t.Fatal(err)
	}
	c.after(3 * time.Second) // the second is silent for 11 s
	if err := c.Heartbeat("g", m[0].MemberID, "", m[0].Generation); !errors.Is(err, ErrRebalance) {
		t.Fatalf("the other one's end: %v", err)
	}
	if err := c.Heartbeat("g", m[1].MemberID, "", m[1].Generation); !errors.Is(err, ErrUnknownMember) {
		t.Fatalf("heartbeat after the end: %v", err)
	}
	if j := c.Join(t.Context(), joinRequest(m[0].MemberID, "m0")); j.Err != nil || j.Generation != 3 || len(j.Members) != 1 {
		t.Errorf("%+v", j)
	}
}

func TestGroupDropsWhoMissesTheRebalance(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(2)
	third := c.goJoin(joinRequest("", "m2"))
	c.waiting(1)
	for range 4 { // the others only send heartbeats
		c.after(7 * time.Second)
		for _, j := range m {
			if err := c.Heartbeat("g", j.MemberID, "", j.Generation); !errors.Is(err, ErrRebalance) {
				t.Fatal(err)
			}
		}
	}
	c.after(3 * time.Second)
	if j := third.result(t); j.Err != nil || j.Generation != 3 || j.Leader != j.MemberID || len(j.Members) != 1 {
		t.Errorf("%+v", j)
	}
	if err := c.Heartbeat("g", m[0].MemberID, "", 2); !errors.Is(err, ErrUnknownMember) {
		t.Error(err)
	}
}

func TestGroupLeaderThatNeverAssigns(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(2)
	calls := []joining{c.goJoin(joinRequest(m[0].MemberID, "new")), c.goJoin(joinRequest(m[1].MemberID, "new"))}
	leader, follower := calls[0].result(t), calls[1].result(t)
	synced := make(chan SyncResult, 1)
	go func() { synced <- c.syncAs(follower, nil) }()
	until(t, "the follower in Sync", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.groups["g"].members[follower.MemberID].sync != nil
	})
	for range 4 {
		c.after(8 * time.Second)
		if err := c.Heartbeat("g", leader.MemberID, "", leader.Generation); err != nil && !errors.Is(err, ErrRebalance) && !errors.Is(err, ErrUnknownMember) {
			t.Fatal(err)
		}
	}
	if s := <-synced; !errors.Is(s.Err, ErrRebalance) {
		t.Errorf("the follower got %+v", s)
	}
	if j := c.Join(t.Context(), joinRequest(follower.MemberID, "new")); j.Err != nil || j.Leader != follower.MemberID {
		t.Errorf("%+v", j)
	}
}

func TestGroupLeaves(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(2)
	if err := c.Leave("g", m[1].MemberID, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.Leave("g", m[1].MemberID, ""); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("leaving twice: %v", err)
	}
	if err := c.Heartbeat("g", m[0].MemberID, "", m[0].Generation); !errors.Is(err, ErrRebalance) {
		t.Error(err)
	}
	if err := c.Leave("g", m[0].MemberID, ""); err != nil {
		t.Fatal(err)
	}
	if list := c.List(); len(list) != 0 {
		t.Errorf("a group that never committed stays: %v", list)
	}
}

func TestGroupProtocols(t *testing.T) {
	c := newCoordinators(t)
	first := joinRequest("", "a")
	first.Protocols = protocols("a", "sticky", "range", "old")
	one := c.Join(t.Context(), first)
	other := joinRequest("", "b")
	other.Protocols = protocols("b", "range", "sticky")
	two := c.goJoin(other)
	c.waiting(1)
	first.MemberID = one.MemberID
	again := c.goJoin(first)
	// One vote each: the first by name.
	if a, b := again.result(t), two.result(t); a.Protocol != "range" || b.Protocol != "range" {
		t.Errorf("protocols %q and %q", a.Protocol, b.Protocol)
	}
	for name, change := range map[string]func(*JoinRequest){
		"nothing in common": func(r *JoinRequest) { r.Protocols = protocols("c", "old") },
		"another kind":      func(r *JoinRequest) { r.Kind = "connect" },
		"no protocol":       func(r *JoinRequest) { r.Protocols = nil },
	} {
		r := joinRequest("", "c")
		change(&r)
		if j := c.Join(t.Context(), r); !errors.Is(j.Err, ErrGroupProtocol) {
			t.Errorf("%s: %v", name, j.Err)
		}
	}
	r := joinRequest("", "c")
	r.Session = time.Millisecond
	if j := c.Join(t.Context(), r); !errors.Is(j.Err, ErrSessionTimeout) {
		t.Error(j.Err)
	}
	r = joinRequest("", "c")
	r.Group = "with\x00nul"
	if j := c.Join(t.Context(), r); !errors.Is(j.Err, ErrGroupName) {
		t.Error(j.Err)
	}
}

func TestGroupStaticMemberComesBack(t *testing.T) {
	c := newCoordinators(t)
	static := joinRequest("", "m0")
	static.InstanceID, static.SkipAssignment = "press-1", true
	first := c.Join(t.Context(), static)
	if s := c.Sync(t.Context(), SyncRequest{
		Group: "g", MemberID: first.MemberID, InstanceID: "press-1", Generation: 1, Assignments: map[string][]byte{first.MemberID: []byte("all")},
	}); s.Err != nil {
		t.Fatal(s.Err)
	}
	// It restarts: a new id, the same generation and assignment, and nobody has to rebalance.
	again := c.Join(t.Context(), static)
	if again.Err != nil || again.Generation != 1 || again.MemberID == first.MemberID || !again.SkipAssignment {
		t.Fatalf("%+v", again)
	}
	if s := c.syncAs(again, nil); s.Err != nil || string(s.Assignment) != "all" {
		t.Errorf("assignment %q, %v", s.Assignment, s.Err)
	}
	if err := c.Heartbeat("g", first.MemberID, "press-1", 1); !errors.Is(err, ErrFencedInstance) {
		t.Errorf("the instance's old member: %v", err)
	}
	// A client that cannot skip the assignment is told that another leads.
	static.SkipAssignment = false
	if j := c.Join(t.Context(), static); j.Err != nil || j.Leader == j.MemberID || j.Members != nil {
		t.Errorf("%+v", j)
	}
	if err := c.Leave("g", "", "press-1"); err != nil {
		t.Error(err)
	}
	if err := c.Leave("g", "", "press-1"); !errors.Is(err, ErrUnknownMember) {
		t.Error(err)
	}
}

func commitOf(j JoinResult, offsets ...GroupOffset) *OffsetCommit {
	return &OffsetCommit{Group: "g", MemberID: j.MemberID, Generation: j.Generation, Offsets: offsets}
}

func TestGroupCommits(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(1)[0]
	at := GroupOffset{Topic: "t", Partition: 1, Offset: 42, LeaderEpoch: 0, Metadata: "where I am"}
	good := commitOf(m, at, GroupOffset{Topic: "nobody"}, GroupOffset{Topic: "t", Partition: 9}, GroupOffset{Topic: "u", Metadata: string(make([]byte, 5000))})
	if err := c.CommitOffsets(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, ErrNoTopic, ErrNoTopic, ErrMetadataTooLarge} {
		if !errors.Is(good.Errs[i], want) {
			t.Errorf("offset %d: %v, want %v", i, good.Errs[i], want)
		}
	}
	for name, test := range map[string]struct {
		change func(*OffsetCommit)
		want   error
	}{
		"another generation": {func(c *OffsetCommit) { c.Generation = 7 }, ErrGeneration},
		"another member":     {func(c *OffsetCommit) { c.MemberID = "x" }, ErrUnknownMember},
		"no member":          {func(c *OffsetCommit) { c.MemberID, c.Generation = "", -1 }, ErrUnknownMember},
		"no such group":      {func(c *OffsetCommit) { c.Group = "h" }, ErrGeneration},
		"no group name":      {func(c *OffsetCommit) { c.Group = "" }, ErrGroupName},
	} {
		bad := commitOf(m, at)
		test.change(bad)
		if err := c.CommitOffsets(t.Context(), bad); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	c.restart()
	o, ok, err := c.Offset("g", "t", 1)
	if at.At = now.Truncate(time.Millisecond); err != nil || !ok || o != at {
		t.Errorf("after a restart: %+v, %v, %v", o, ok, err)
	}
	if d, err := c.Describe("g"); err != nil || d.State != GroupEmpty || d.Kind != "consumer" || d.Generation != m.Generation {
		t.Errorf("after a restart: %+v, %v", d, err)
	}
	if j := c.Join(t.Context(), joinRequest("", "m")); j.Err != nil || j.Generation != m.Generation+1 {
		t.Errorf("the next generation: %+v", j)
	}
}

func TestGroupOffsetsEndWithTheirTopic(t *testing.T) {
	c := newCoordinators(t)
	simple := &OffsetCommit{Group: "g", Generation: -1, Offsets: []GroupOffset{{Topic: "t", Offset: 5}, {Topic: "u", Offset: 6}}}
	if err := c.CommitOffsets(t.Context(), simple); err != nil {
		t.Fatal(err)
	}
	if err := c.store.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.CreateTopic(t.Context(), "t", 4, nil); err != nil {
		t.Fatal(err)
	}
	if o, ok, err := c.Offset("g", "t", 0); ok || err != nil {
		t.Errorf("the new topic has the old one's offset: %+v, %v", o, err)
	}
	list, err := c.Offsets("g")
	if err != nil || len(list) != 1 || list[0].Topic != "u" || list[0].Offset != 6 {
		t.Errorf("offsets %+v, %v", list, err)
	}
}

func TestGroupDeleteAndReset(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(1)[0]
	if err := c.CommitOffsets(t.Context(), commitOf(m, GroupOffset{Topic: "t", Offset: 3})); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "g"); !errors.Is(err, ErrGroupNotEmpty) {
		t.Error(err)
	}
	if _, err := c.Reset(t.Context(), "g", "t", ResetTo{}); !errors.Is(err, ErrGroupNotEmpty) {
		t.Error(err)
	}
	if err := c.Leave("g", m.MemberID, ""); err != nil {
		t.Fatal(err)
	}
	list, err := c.Reset(t.Context(), "g", "t", ResetTo{Latest: true})
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	if o, ok, err := c.Offset("g", "t", 0); err != nil || !ok || o.Offset != 0 {
		t.Errorf("%+v, %v, %v", o, ok, err)
	}
	if err := c.DeleteOffsets(t.Context(), "g", "t", []int32{0, 1}); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Offsets("g"); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.Delete(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	c.restart()
	if list, err := c.Offsets("g"); err != nil || len(list) != 0 || len(c.List()) != 0 {
		t.Errorf("a deleted group is back: %+v, %v, %v", list, c.List(), err)
	}
}

func TestGroupCloseAnswersEveryone(t *testing.T) {
	c := newCoordinators(t)
	m := c.stable(1)[0]
	waits := c.goJoin(joinRequest("", "m1"))
	c.waiting(1)
	c.Groups.Close()
	if j := waits.result(t); !errors.Is(j.Err, ErrCoordinatorClosed) {
		t.Errorf("%+v", j)
	}
	if err := c.Heartbeat("g", m.MemberID, "", m.Generation); !errors.Is(err, ErrCoordinatorClosed) {
		t.Error(err)
	}
}

// TestGroupChurn lets members come, leave and vanish at random, and holds that in every generation every piece of work
// was assigned to exactly one member.
func TestGroupChurn(t *testing.T) {
	c := newCoordinators(t)
	const members, work, rounds = 8, 16, 40
	type held struct {
		generation int32
		leader     string
	}
	var mu sync.Mutex
	assigned := map[held]map[byte]string{} // work → member
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // time flies, so that those who vanished are missed
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				c.after(500 * time.Millisecond)
			}
		}
	})
	var clients sync.WaitGroup
	for n := range members {
		rng := rand.New(rand.NewPCG(uint64(n), 7))
		clients.Go(func() {
			id := ""
			for round := 0; round < rounds; {
				r := joinRequest(id, fmt.Sprint(rng.IntN(3)))
				r.GiveID = rng.IntN(2) == 0
				j := c.Join(context.Background(), r)
				id = j.MemberID
				if j.Err != nil {
					if errors.Is(j.Err, ErrUnknownMember) {
						id = ""
					}
					continue
				}
				var plan map[string][]byte
				if j.Leader == j.MemberID {
					plan = map[string][]byte{}
					for w := range byte(work) {
						m := j.Members[int(w)%len(j.Members)].ID
						plan[m] = append(plan[m], w)
					}
				}
				round++
				if rng.IntN(10) == 0 {
					id = "" // vanishes before it knows its work
					continue
				}
				s := c.Sync(context.Background(), SyncRequest{Group: "g", MemberID: j.MemberID, Generation: j.Generation, Assignments: plan})
				if s.Err != nil {
					if errors.Is(s.Err, ErrUnknownMember) {
						id = ""
					}
					continue
				}
				mu.Lock()
				key := held{j.Generation, j.Leader}
				if assigned[key] == nil {
					assigned[key] = map[byte]string{}
				}
				for _, w := range s.Assignment {
					if other := assigned[key][w]; other != "" && other != j.MemberID {
						t.Errorf("generation %d: work %d was given to %s and %s", j.Generation, w, other, j.MemberID)
					}
					assigned[key][w] = j.MemberID
				}
				mu.Unlock()
				for range rng.IntN(5) {
					if err := c.Heartbeat("g", j.MemberID, "", j.Generation); err != nil {
						break
					}
				}
				switch rng.IntN(6) {
				case 0:
					_ = c.Leave("g", j.MemberID, "") // it may be out already
					id = ""
				case 1:
					id = ""
				}
			}
			if id != "" {
				_ = c.Leave("g", id, "")
			}
		})
	}
	clients.Wait()
	close(stop)
	wg.Wait()
	if len(assigned) < 10 {
		t.Errorf("only %d generations", len(assigned))
	}
	until(t, "the end of the last sessions", func() bool { c.after(time.Minute); return len(c.List()) == 0 })
}
