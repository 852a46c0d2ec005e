package mirror

import "rivulet/edge"

// Holds reports whether the uplink mirrors a partition, and from which offset on the centre does not have its records: those must
// not be dropped for want of space. As long as the centre has not been asked, the store's own note counts, and without one
// everything is needed. It does not wait for the centre; any goroutine may call it, also when Run has not begun or has ended.
func (u *Uplink) Holds(p *edge.Partition) (from int64, held bool) {
	if !u.Carries(p.Topic()) {
		return 0, false
	}
	if l := (*u.laneOf.Load())[p.ID]; l != nil && l.settled.Load() {
		return l.position.Load(), true
	}
	if s, ok := u.loadShadow(p.ID); ok && s.ID == p.ID && s.Generation == u.o.Broker.Store().Generation().ID {
		return s.Next, true
	}
	return 0, true
}

// Carries says whether the uplink's rules take a topic to the centre.
func (u *Uplink) Carries(topic string) bool {
	_, ok := u.rule(topic)
	return ok
}
