package mirror

import (
	"context"
	"fmt"
)

// history is the chain of the store's generations, the present one first. Each knows where it forked from the next.
type history []generation

type generation struct {
	ID     string           `json:"id"`
	Parent string           `json:"parent,omitempty"`
	Fork   map[uint32]int64 `json:"fork,omitempty"`
}

// verdict is what comes of one position of the centre.
type verdict int

const (
	same    verdict = iota // go on
	forked                 // from an ancestor; what follows the fork is sent anew
	ahead                  // behind the end of this log: the disk was rolled back
	foreign                // from a store that this one knows nothing of: the disk was wiped, or the topic made again
)

// reconcile says where to go on when the centre holds pos and the log of that partition now ends at high.
//
//	generation     next         go on at                          because
//	ours           ≤ high       next
//	ours           > high       high                              rolled back unnoticed: what comes now is new
//	an ancestor    any          min(next, forks since, high)      records behind the fork differ from those at the centre
//	unknown        any          -1: the log's start               wiped disk
//	any            other id     -1                                the topic was deleted and made again
func (h history) reconcile(pos position, id uint32, high int64) (int64, verdict) {
	if pos.id != id {
		return -1, foreign
	}
	next, v := pos.next, same
	for _, g := range h {
		if g.ID == pos.generation {
			if next > high {
				return high, ahead
			}
			return next, v
		}
		if fork, ok := g.Fork[id]; ok && fork < next {
			next, v = fork, forked
		}
	}
	return -1, foreign
}

// settle decides for every lane that is not known yet where it goes on, and brings the positions into this generation.
func (s *session) settle(ctx context.Context) error {
	u := s.u
	store := u.o.Broker.Store()
	h, err := u.loadHistory(ctx)
	if err != nil {
		return err
	}
	back, err := u.loadRolledBack(ctx, s.progress.counter)
	if err != nil {
		return err
	}
	where := func(pos position, id uint32, high int64) (int64, verdict) {
		next, v := h.reconcile(pos, id, high)
		return back.adjust(id, next, v)
	}
	gen := h[0].ID
	var lost []*lane
	lanes := make(map[source]*lane)
	for _, l := range *u.lanes.Load() {
		lanes[source{l.topic, l.index}] = l
	}
	for _, src := range s.progress.sources() {
		if lanes[src] != nil {
			continue
		}
		// Not a lane now, perhaps a lane again later: kept for as long as the partition is there.
		pos := s.progress.at[src]
		t, ok := store.Topic(src.topic)
		if !ok || int(src.partition) >= len(t.Partitions) {
			delete(s.progress.at, src)
			continue
		}
		p := t.Partitions[src.partition]
		_, _, high := p.Offsets()
		if next, v := where(pos, p.ID, high); v == foreign {
			delete(s.progress.at, src)
		} else {
			s.progress.set(src, position{gen, p.ID, next})
		}
	}
	for _, l := range *u.lanes.Load() {
		if l.known {
			continue
		}
		src := source{l.topic, l.index}
		start, _, high := l.src.Offsets()
		pos, ok := s.progress.at[src]
		if !ok {
			shadow, ok := u.loadShadow(l.src.ID)
			if ok && (shadow.Cluster == s.u.cluster || shadow.Cluster == "" || s.u.cluster == "") {
				if next, v := h.reconcile(position{shadow.Generation, shadow.ID, shadow.Next}, l.src.ID, high); v != foreign {
					switch u.o.OnLostPosition {
					case ResumeLocal:
						u.alarm("the centre has lost the position of %s/%d: going on at offset %d, where this store says that it was; "+
							"the last transaction may be sent twice", l.topic, l.index, next)
						u.place(s, l, gen, next)
						continue
					case Fail:
						if !u.forgiven {
							lost = append(lost, l)
							continue
						}
						u.alarm("the centre has lost the position of %s/%d: going on at offset %d, as told", l.topic, l.index, next)
						u.place(s, l, gen, next)
						continue
					case FromStart:
						u.alarm("the centre has lost the position of %s/%d: sending everything from offset %d again", l.topic, l.index, start)
					}
				}
			}
			u.place(s, l, gen, start)
			l.committed = -1
			continue
		}
		next, v := where(pos, l.src.ID, high)
		switch v {
		case forked:
			u.alarm("%s/%d was restored: records from offset %d on are sent again, since they may differ from those at the centre", l.topic, l.index, next)
		case ahead:
			u.alarm("the centre has records of %s/%d up to offset %d, this log ended at %d: the disk was rolled back; new records go on from there",
				l.topic, l.index, pos.next, next)
		case foreign:
			u.alarm("%s/%d is not the log that the centre knows (wiped disk, or a topic made again): sending it from offset %d", l.topic, l.index, start)
			next = start
		}
		u.place(s, l, gen, next)
	}
	if err := back.save(ctx, u); err != nil {
		return err
	}
	if len(lost) > 0 {
		return &lostError{fmt.Sprintf("the centre has lost the position of %s/%d and %d more", lost[0].topic, lost[0].index, len(lost)-1)}
	}
	u.forgiven = false
	return nil
}

// lostError parks the uplink: on_lost_position is fail.
type lostError struct{ what string }

func (e *lostError) Error() string {
	return e.what + " (on_lost_position: fail); `rivulet sync resume` goes on where this store says that it was"
}

// place sets where a lane goes on.
func (u *Uplink) place(s *session, l *lane, generation string, next int64) {
	l.scan, l.committed = next, next
	l.position.Store(next)
	l.known = true
	l.settled.Store(true)
	l.skips = l.skips.from(next)
	s.progress.set(source{l.topic, l.index}, position{generation, l.src.ID, next})
}
