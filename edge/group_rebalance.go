package edge

import (
	"slices"
	"time"
)

// A rebalance: prepare waits until all members joined (tryComplete) or the longest rebalance timeout is over (expire);
// begin then starts the generation and answers the Joins; the leader's Sync ends it. g.mu is held throughout.

// prepare begins a rebalance, or goes on with the one that is under way.
func (g *Groups) prepare(gr *consumerGroup) {
	if gr.state != GroupPreparing {
		now := g.opts.Now()
		for _, m := range gr.members {
			m.assignment = nil
			if m.sync != nil { // it could not send heartbeats while it waited
				m.answerSync(SyncResult{Err: ErrRebalance})
				m.deadline = now.Add(m.session)
				g.schedule(m.deadline)
			}
		}
		gr.state = GroupPreparing
		gr.deadline = now.Add(gr.rebalanceTimeout())
		g.schedule(gr.deadline)
	}
	g.tryComplete(gr)
}

func (gr *consumerGroup) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range gr.members {
		d = max(d, m.rebalance)
	}
	return d
}

// tryComplete begins the generation when nobody is missing.
func (g *Groups) tryComplete(gr *consumerGroup) {
	if gr.state != GroupPreparing || len(gr.pending) > 0 {
		return
	}
	for _, m := range gr.members {
		if m.join == nil {
			return
		}
	}
	g.begin(gr)
}

// begin starts the next generation with the members that joined; static members stay until their session ends.
func (g *Groups) begin(gr *consumerGroup) {
	joined := make([]string, 0, len(gr.members))
	for id, m := range gr.members {
		switch {
		case m.join != nil:
			joined = append(joined, id)
		case m.instance == "":
			g.opts.Log.Info("group member missed the rebalance", "group", gr.name, "member", id)
			g.forget(gr, m)
		}
	}
	now := g.opts.Now()
	if len(gr.members) > 0 && len(joined) == 0 {
		// Only static members that are away: wait for them for another round.
		gr.deadline = now.Add(gr.rebalanceTimeout())
		g.schedule(gr.deadline)
		return
	}
	gr.generation++
	if gr.generation < 0 {
		gr.generation = 1
	}
	if len(gr.members) == 0 {
		g.empty(gr)
		return
	}
	if m := gr.members[gr.leader]; m == nil || m.join == nil {
		gr.leader = slices.Min(joined)
	}
	gr.protocol = gr.choose()
	gr.state = GroupCompleting
	gr.deadline = now.Add(gr.rebalanceTimeout())
	g.schedule(gr.deadline)
	for _, m := range gr.members {
		m.synced = false
		m.deadline = now.Add(m.session)
		g.schedule(m.deadline)
		m.answerJoin(gr.joined(m))
	}
}

// empty leaves a group without members. One that never stored anything is gone.
func (g *Groups) empty(gr *consumerGroup) {
	gr.state, gr.deadline, gr.leader, gr.protocol = GroupEmpty, time.Time{}, "", ""
	if !gr.stored && len(gr.pending) == 0 {
		delete(g.groups, gr.name)
	}
}

// choose picks the protocol that most members prefer among those that all offer; of equals the first by name.
func (gr *consumerGroup) choose() string {
	votes := make(map[string]int)
	for _, m := range gr.members {
		for _, p := range m.protocols {
			if gr.offeredByAll(p.Name, "") {
				votes[p.Name]++
				break
			}
		}
	}
	best, most := "", 0
	for name, n := range votes {
		if n > most || n == most && name < best {
			best, most = name, n
		}
	}
	return best
}

// forget drops a member without starting a rebalance.
func (g *Groups) forget(gr *consumerGroup, m *member) {
	m.answer(ErrUnknownMember)
	delete(gr.members, m.id)
	if m.instance != "" && gr.static[m.instance] == m.id {
		delete(gr.static, m.instance)
	}
}

// remove drops a member that left or whose session ended, and rebalances the others.
func (g *Groups) remove(gr *consumerGroup, m *member) {
	g.forget(gr, m)
	if gr.state == GroupPreparing {
		g.tryComplete(gr)
		return
	}
	g.prepare(gr)
}

// schedule sees to it that expire runs at t or before.
func (g *Groups) schedule(t time.Time) {
	if !g.closed {
		g.next.set(t, g.opts.Now(), g.expire)
	}
}

// expire ends what is over: ids that nobody joined with, sessions, rebalances. It runs when the timer fires.
func (g *Groups) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := g.opts.Now()
	g.next.fired()
	for _, gr := range g.groups {
		g.expireGroup(gr, now)
	}
	for _, gr := range g.groups {
		for _, t := range gr.pending {
			g.schedule(t)
		}
		for _, m := range gr.members {
			if !m.waits() {
				g.schedule(m.deadline)
			}
		}
		if !gr.deadline.IsZero() {
			g.schedule(gr.deadline)
		}
	}
}

// waits reports whether the member is in a Join or Sync: it cannot send heartbeats then, and its session does not end.
func (m *member) waits() bool { return m.join != nil || m.sync != nil }

func (g *Groups) expireGroup(gr *consumerGroup, now time.Time) {
	lapsed := false
	for id, t := range gr.pending {
		if !now.Before(t) {
			delete(gr.pending, id)
			lapsed = true
		}
	}
	var over []*member
	for _, m := range gr.members {
		if !m.waits() && !now.Before(m.deadline) {
			over = append(over, m)
		}
	}
	for _, m := range over {
		g.opts.Log.Info("group member's session ended", "group", gr.name, "member", m.id, "client", m.client)
		g.remove(gr, m)
	}
	switch {
	case lapsed && gr.state == GroupPreparing:
		g.tryComplete(gr)
	case lapsed && gr.state == GroupEmpty:
		g.empty(gr)
	}
	if gr.deadline.IsZero() || now.Before(gr.deadline) {
		return
	}
	switch gr.state {
	case GroupPreparing:
		g.begin(gr)
	case GroupCompleting:
		// Whoever did not ask for its assignment in time holds up nobody any longer.
		for _, m := range gr.members {
			if !m.synced {
				g.opts.Log.Info("group member did not ask for its assignment", "group", gr.name, "member", m.id)
				g.forget(gr, m)
			}
		}
		g.prepare(gr)
	default:
		gr.deadline = time.Time{}
	}
}
