package mqtt

import (
	"errors"
	"maps"
	"sync"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// dispatcher reads the log once for all subscribers that keep up.
type dispatcher struct {
	srv    *Server
	waiter *edge.Waiter
	feed   feed
	msg    message
	live   liveQueue
	topic  []byte // of msg, when it is live

	cache   map[string][]match // by topic
	version uint64             // of the tree that the cache shows
	touched []*session         // in this round
	shares  []*share           // in this round
	skipped bool               // frames went by unseen: what is held must be looked up

	mu    sync.Mutex // guards what follows, and keeps sessions from joining or leaving in the middle of a round
	pos   uint64     // frames up to here are delivered
	round uint64
}

const (
	chunk          = 1 << 20 // bytes that are read from the log at once
	maxCachedTopic = 1 << 14 // topics whose matches are remembered
)

func (d *dispatcher) init(s *Server) {
	d.srv = s
	d.cache = map[string][]match{}
	d.live.due = make(chan struct{}, 1)
}

// begin is called before the first connection.
func (d *dispatcher) begin() {
	d.waiter = edge.NewWaiter()
	d.srv.broker.Store().WatchAll(d.waiter)
	d.pos = d.srv.broker.Store().LastSeq()
	d.feed = d.srv.newFeed()
	d.feed.goesOn = true
	d.skipped = true
}

func (d *dispatcher) run() {
	defer d.srv.broker.Store().UnwatchAll(d.waiter)
	var pause backOff
	for {
		select {
		case <-d.srv.stop:
			return
		case <-d.waiter.C:
		case <-d.live.due:
		case <-pause.over():
			pause.ends()
		}
		for more := true; more; {
			more = d.liveStep()
			if pause.lasts() {
				continue
			}
			stepped, err := d.step()
			more = stepped || more
			if err == nil {
				pause.forget()
			} else if pause.begin() {
				d.srv.log.Error("cannot read the log for MQTT subscribers: they wait", "after", d.pos, "err", err)
			}
		}
	}
}

// step delivers a chunk of frames; it returns false when there are none. After an error nothing has changed.
func (d *dispatcher) step() (more bool, err error) {
	store := d.srv.broker.Store()
	if d.skip() {
		return false, nil
	}
	if d.skipped {
		d.skipped = false
		d.mu.Lock()
		d.feed.hold(store.Topics())
		d.mu.Unlock()
	}
	frames, _, err := d.srv.reader.frames(d.pos, chunk, nil)
	if errors.Is(err, edge.ErrClosed) {
		return false, nil
	}
	if err != nil || len(frames) == 0 {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beginRound()
	for i := range frames {
		d.frame(&frames[i])
		d.pos = frames[i].Seq
	}
	d.release()
	return true, nil
}

// beginRound is called with mu held, and release after it.
func (d *dispatcher) beginRound() {
	d.round++
	if v := d.srv.tree.version.Load(); v != d.version || len(d.cache) > maxCachedTopic {
		clear(d.cache)
		d.version = v
	}
}

// skip passes over everything while nobody subscribes.
func (d *dispatcher) skip() bool {
	seq := d.srv.broker.Store().LastSeq() // before looking: who subscribes later begins behind it
	if d.srv.tree.len() > 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pos = max(d.pos, seq)
	d.skipped = true
	return true
}

// frame delivers one frame.
func (d *dispatcher) frame(f *edge.Frame) {
	err := d.feed.frame(f, func(p *edge.Partition, topic []byte, r batch.Record) bool {
		ms, ok := d.cache[string(topic)]
		if !ok {
			name := string(topic)
			ms = d.srv.tree.match(name)
			d.cache[name] = ms
		}
		if len(ms) == 0 {
			return true
		}
		d.msg.read(topic, r)
		d.msg.part = p
		for i := range ms {
			if g := ms[i].share; g != nil {
				d.share(g, f, r.Offset)
				continue
			}
			s := ms[i].sess
			if d.serves(s) && !s.deliver(&d.msg, ms[i].subs, f.Seq, 0) {
				s.live, s.fell = false, true
				s.cursor = d.cursorOf(f)
				s.cursor.stop(&d.feed, f, r.Offset)
			}
		}
		return true
	})
	switch {
	case errors.Is(err, edge.ErrClosed):
	case errors.Is(err, errLog):
		d.srv.log.Error("cannot read a transaction for MQTT subscribers: its partition waits", "seq", f.Seq, "err", err)
	case err != nil:
		d.srv.log.Error("cannot deliver a frame to MQTT subscribers", "seq", f.Seq, "err", err)
	}
}

// share delivers the message that was read for a shared subscription.
func (d *dispatcher) share(g *share, f *edge.Frame, offset int64) {
	if g.round != d.round {
		g.round, g.fell, g.exact = d.round, false, false
		if g.live = g.state.Load() == live; g.live {
			g.again.Store(false)
			d.shares = append(d.shares, g)
		}
	}
	if g.live && !g.deliver(&d.msg, f.Seq, 0) {
		g.live, g.fell = false, true
		g.cursor = d.cursorOf(f)
		g.cursor.stop(&d.feed, f, offset)
	}
}

// serves reports whether messages may be appended to a session in this round.
func (d *dispatcher) serves(s *session) bool {
	if s.round != d.round {
		d.touch(s)
	}
	return s.live
}

// cursorOf is the position before frame f, or behind all frames when f is nil. It is called with mu held.
func (d *dispatcher) cursorOf(f *edge.Frame) cursor {
	c := cursor{seq: d.pos, held: maps.Clone(d.feed.held)}
	if f != nil {
		c.seq = f.Seq - 1
	}
	return c
}

// touch makes a session ready for this round.
func (d *dispatcher) touch(s *session) {
	s.round, s.fell = d.round, false
	if s.live = s.state.Load() == live; s.live {
		s.takeAcks()
		d.touched = append(d.touched, s)
	}
}

// release ends the round. What has to be durable first goes into one commit, and before anyone else may serve the sessions.
// A session that fell behind is on its own from here.
func (d *dispatcher) release() {
	var held []*delivery
	for _, s := range d.touched {
		dl := s.flush(func() cursor {
			if s.fell {
				return s.cursor
			}
			return d.cursorOf(nil)
		})
		if dl != nil {
			held = append(held, dl)
		}
	}
	var with []edge.Put
	for _, g := range d.shares {
		if g.exact {
			with = append(with, g.note(g.at())...)
		}
	}
	d.srv.commitDeliveries(held, with)
	for _, s := range d.touched {
		if s.fell {
			d.srv.stats.fellBehind.Add(1)
			s.state.Store(behind)
			if s.hasRoom() {
				s.kick()
			}
		}
	}
	for _, g := range d.shares {
		if g.fell && g.state.CompareAndSwap(live, behind) {
			d.srv.stats.fellBehind.Add(1)
			if g.again.Load() {
				g.kick()
			}
		}
	}
	clear(d.touched)
	clear(d.shares)
	d.touched, d.shares = d.touched[:0], d.shares[:0]
}
