package storage

import "time"

// pace spreads a seal over time. What lz4 does to 16 MiB takes tens of milliseconds of a core, and on a small machine each message that comes
// meanwhile would wait for it. There is no hurry while tails and journal have room: the sealer works for a slice, then rests for up
// to three times as long, as long as it is well ahead of what comes in: at this rate it is done before an eighth of the room is used that
// the tails had when it began.
type pace struct {
	store *Store
	total int64 // bytes to be sealed
	room  int64 // that the tails had at the beginning
	begun int64 // tail bytes at the beginning
	done  int64
	since int64     // done at the last rest
	from  time.Time // when it ended
}

const (
	paceSlice = 256 << 10 // bytes sealed between two rests: a merged batch, about a millisecond
	paceRest  = 3         // times what a slice took
	paceMax   = 20 * time.Millisecond
)

// newPace is for a seal of total bytes, which came in since the last one began. It is nil, for no rests, when at that rate the rest of the tails
// is full in less than a second.
func (s *Store) newPace(total int64) *pace {
	tails, now := s.tailBytes.Load(), time.Now()
	room, took := s.o.TailBytes-tails, now.Sub(s.sealBegan)
	s.sealBegan = now
	if float64(room)*took.Seconds() < float64(total) {
		return nil
	}
	return &pace{store: s, total: total, begun: tails, room: room, from: now}
}

// worked is called after n bytes were sealed; it may sleep. A nil pace never does.
func (p *pace) worked(n int) {
	if p == nil {
		return
	}
	p.done += int64(n)
	if p.done-p.since < paceSlice {
		return
	}
	if p.ahead() {
		time.Sleep(min(paceRest*time.Since(p.from), paceMax))
	}
	p.since, p.from = p.done, time.Now()
}

// ahead reports whether there is time to rest: nobody waits for the seal.
func (p *pace) ahead() bool {
	s := p.store
	select {
	case <-s.quit:
		return false
	default:
	}
	came := s.tailBytes.Load() - p.begun
	return !s.pressed.Load() && !s.journal.crowded() && 8*float64(came)*float64(p.total) < float64(p.room)*float64(p.done)
}
