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
	d.skipped = true
}

func (d *dispatcher) run() {
	defer d.srv.broker.Store().UnwatchAll(d.waiter)
	for {
		select {
		case <-d.srv.stop:
			return
		case <-d.waiter.C:
		case <-d.live.due:
		}
		for more := true; more; {
			more = d.liveStep()
			more = d.step() || more
		}
	}
}

// step delivers a chunk of frames; it returns false when there are none.
func (d *dispatcher) step() bool {
	store := d.srv.broker.Store()
	if d.skip() {
		return false
	}
	if d.skipped {
		d.skipped = false
		d.mu.Lock()
		d.feed.hold(store.Topics())
		d.mu.Unlock()
	}
	frames, err := store.Frames(d.pos, chunk)
	if err != nil {
		if errors.Is(err, edge.ErrClosed) {
			return false
		}
		d.srv.log.Error("cannot read the log for MQTT subscribers", "after", d.pos, "err", err)
		d.mu.Lock()
		d.pos = store.LastSeq() // rather late than never; what lies between is lost to live subscribers
		d.mu.Unlock()
		return false
	}
	if len(frames) == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beginRound()
	for i := range frames {
		d.frame(&frames[i])
		d.pos = frames[i].Seq
	}
	d.endRound()
	return true
}

// beginRound is called with mu held, and endRound after it.
func (d *dispatcher) beginRound() {
	d.round++
	if v := d.srv.tree.version.Load(); v != d.version || len(d.cache) > maxCachedTopic {
		clear(d.cache)
		d.version = v
	}
}

func (d *dispatcher) endRound() {
	for _, s := range d.touched {
		d.release(s)
	}
	clear(d.touched)
	d.touched = d.touched[:0]
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
	err := d.feed.frame(d.srv.broker, f, func(p *edge.Partition, topic []byte, r batch.Record) bool {
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
			s := ms[i].sess
			if s.round != d.round {
				d.touch(s)
			}
			if s.live && !s.deliver(&d.msg, ms[i].subs, f.Seq, 0) {
				s.live, s.fell = false, true
				s.cursor = d.cursorOf(f)
				s.cursor.done = d.feed.progress(f, p, r.Offset)
			}
		}
		return true
	})
	if err != nil {
		d.srv.log.Error("cannot deliver a frame to MQTT subscribers", "seq", f.Seq, "err", err)
	}
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

// release ends a session's round. One that fell behind is on its own from here.
func (d *dispatcher) release(s *session) {
	s.flush()
	if s.fell {
		d.srv.stats.fellBehind.Add(1)
		s.state.Store(behind)
		if s.hasRoom() {
			s.kick()
		}
	}
}
