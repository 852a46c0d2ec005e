package mqtt

import (
	"errors"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// run delivers what comes before the dispatcher's position. It ends when no member can take more, or when the share joins
// the dispatcher.
func (g *share) run() {
	defer g.srv.wg.Done()
	d := &g.srv.dispatch
	r := shareReader{feed: g.srv.newFeed()}
	var pause backOff
	for {
		g.again.Store(false)
		d.mu.Lock()
		after, end := g.cursor.seq, d.pos
		d.mu.Unlock()
		frames, reached, err := g.frames(after, end)
		d.mu.Lock()
		d.round++
		g.round, g.exact, g.live, g.fell = d.round, false, false, false
		blocked := len(g.members) == 0
		if err == nil && !blocked {
			if blocked, err = g.lendBack(&r); err == nil && !blocked {
				blocked, err = g.catchUp(&r, frames, reached)
			}
		}
		d.shares = append(d.shares, g)
		d.release()
		g.mu.Lock()
		back := len(g.back) > 0
		g.mu.Unlock()
		switch {
		case err != nil && len(g.members) > 0: // it stays where it is
			d.mu.Unlock()
			if pause.begin() && !errors.Is(err, edge.ErrClosed) {
				g.srv.log.Error("cannot read the log for a shared subscription: it waits", "share", g.key, "after", after, "err", err)
			}
			if pause.rest(g.srv.stop) {
				continue
			}
			d.mu.Lock()
			g.state.Store(behind)
			if len(g.members) == 0 && g.state.CompareAndSwap(behind, left) {
				g.sleep()
			}
			d.mu.Unlock()
			return
		case blocked:
			g.state.Store(behind)
			switch {
			case len(g.members) == 0 && g.state.CompareAndSwap(behind, left):
				g.sleep()
			case len(g.members) > 0 && g.again.Load() && g.state.CompareAndSwap(behind, catching):
				d.mu.Unlock()
				continue
			}
			d.mu.Unlock()
			return
		case !back && g.cursor.seq >= d.pos:
			d.adopt(g.cursor.held)
			g.state.Store(live)
			g.stir() // something came back meanwhile
			d.mu.Unlock()
			if g.again.Load() {
				g.kick()
			}
			return
		}
		d.mu.Unlock()
	}
}

// frames reads what lies between the share's position and the dispatcher's, up to frame reached.
func (g *share) frames(after, end uint64) (frames []edge.Frame, reached uint64, err error) {
	if after >= end {
		return nil, after, nil
	}
	frames, reached, err = g.srv.reader.frames(after, chunk/4, g.srv.broker.Query([]string{g.filter}, g.cursor.holds))
	if err != nil {
		return nil, after, err
	}
	if len(frames) == 0 && reached <= after { // nothing but metadata lies between
		reached = end
	}
	for i := range frames {
		if frames[i].Seq > end {
			frames = frames[:i]
			break
		}
	}
	return frames, min(reached, end), nil
}

// shareReader is run's memory.
type shareReader struct {
	feed feed
	msg  message
}

// catchUp delivers frames, which are all up to frame reached; it is blocked when nobody can take more. The dispatcher's lock is held.
func (g *share) catchUp(r *shareReader, frames []edge.Frame, reached uint64) (blocked bool, err error) {
	now := g.srv.o.Now().UnixMilli()
	for i := range frames {
		f := &frames[i]
		r.feed.held = g.cursor.held
		var from *edge.Partition
		var start int64 // of from's log
		err := r.feed.frame(f, func(p *edge.Partition, topic []byte, rec batch.Record) bool {
			if p != from {
				from = p
				start, _, _ = p.Offsets()
			}
			if rec.Offset < max(start, g.cursor.done[p.ID]) || !matches(g.filter, topic) {
				return true
			}
			r.msg.read(topic, rec)
			r.msg.part = p
			if g.deliver(&r.msg, f.Seq, max(0, (now-rec.Timestamp)/1000)) {
				return true
			}
			g.cursor.stop(&r.feed, f, rec.Offset)
			blocked = true
			return false
		})
		g.cursor.held = r.feed.held
		switch {
		case blocked:
			return true, nil
		case errors.Is(err, errLog):
			g.cursor.stop(&r.feed, f, -1)
			return false, err
		case err != nil:
			g.srv.log.Error("cannot deliver a frame to a shared subscription", "share", g.key, "seq", f.Seq, "err", err)
		}
		g.cursor.seq, g.cursor.done = f.Seq, nil
	}
	if reached > g.cursor.seq {
		g.cursor = cursor{seq: reached, held: g.cursor.held}
	}
	return false, nil
}

// lendBack delivers what members gave back. What the log does not hold any more is given up.
func (g *share) lendBack(r *shareReader) (blocked bool, err error) {
	now := g.srv.o.Now().UnixMilli()
	for {
		g.mu.Lock()
		if len(g.back) == 0 {
			g.mu.Unlock()
			return false, nil
		}
		ticket := g.back[0]
		l := g.lent[ticket-g.first]
		g.mu.Unlock()
		rec, topic, err := g.srv.record(l.part, l.offset)
		if err != nil {
			return false, err
		}
		if topic != nil && rec.Payload != nil {
			r.msg.read(topic, rec)
			r.msg.part = l.part
			if !g.deliver(&r.msg, ended-1, max(0, (now-rec.Timestamp)/1000)) {
				return true, nil
			}
		}
		g.mu.Lock()
		g.back = g.back[1:]
		g.mu.Unlock()
		g.settle(ticket)
	}
}
