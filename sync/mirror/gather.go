package mirror

import (
	"errors"
	"fmt"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// parcel is one batch for the centre. It holds source records of [from, next).
type parcel struct {
	lane       *lane
	from, next int64
	data       []byte
	records    int32
	raw        bool // the bytes of the log but for the header
}

// burst is what one transaction carries.
type burst struct {
	parcels []parcel // those of one lane in order
	bytes   int
	records int
	moved   bool // some lane's scan is ahead of its position
	full    bool // more was there than one burst may hold
}

// turnBytes is what one lane may take of a burst before the next one of its priority has its turn.
const turnBytes = 512 << 10

// recordOverhead bounds what a record's framing adds to its payload in a batch.
const recordOverhead = 21

// gatherer makes bursts. Its buffers live from burst to burst.
type gatherer struct {
	dec batch.Decoder
	bld batch.Builder
	cmp batch.Compressor

	arena arena
	burst burst
	limit int // bytes of this burst

	// The batch that is being built.
	open  bool
	raw   []byte
	out   []byte
	first int64
	next  int64

	held     []byte // a small batch that may go as it is, unless another one follows it
	heldHead batch.Header
}

// gather fills a burst of about limit bytes: strictly by priority, and by turns among lanes of one priority.
func (u *Uplink) gather(limit int) *burst {
	g := &u.g
	g.arena.reset()
	g.burst = burst{parcels: g.burst.parcels[:0]}
	g.limit = min(limit, maxGather)
	raw := u.rawBytes()
	lanes := *u.lanes.Load()
	for lo := 0; lo < len(lanes); {
		hi := lo
		for hi < len(lanes) && lanes[hi].priority.Load() == lanes[lo].priority.Load() {
			hi++
		}
		u.gatherClass(lanes[lo:hi])
		if g.burst.full {
			break
		}
		lo = hi
	}
	if !g.burst.full {
		if grown := raw - u.rawSeen; grown > 0 && g.burst.bytes > 0 {
			const inertia = 0.7
			u.ratio = inertia*u.ratio + (1-inertia)*min(max(float64(g.burst.bytes)/float64(grown), 0.02), 1)
		}
		u.rawSeen = raw
	}
	for _, l := range lanes {
		if l.known && l.scan != l.position.Load() {
			g.burst.moved = true
			break
		}
	}
	return &g.burst
}

func (u *Uplink) gatherClass(lanes []*lane) {
	idle := 0 // lanes in a row that had nothing
	for ; idle < len(lanes); u.turn++ {
		l := lanes[u.turn%len(lanes)]
		idle++
		if !l.ready() || l.pending() <= 0 {
			continue
		}
		if u.g.left() <= 0 {
			u.g.burst.full = true
			return
		}
		if err := u.gatherTurn(l); err != nil {
			u.laneFailed(l, err)
			continue
		}
		idle = 0
	}
}

func (g *gatherer) left() int { return g.limit - g.burst.bytes }

// laneFailed handles an error of the log: it holds up this lane alone.
func (u *Uplink) laneFailed(l *lane, err error) {
	u.g.abandon(l)
	switch {
	case errors.Is(err, edge.ErrNoTopic), errors.Is(err, edge.ErrClosed):
		l.block("the topic is being deleted")
	case errors.Is(err, edge.ErrOffsetRange): // retention moved between Offsets and Read; the next turn counts the gap
	default:
		u.alarm("%s/%d cannot be read at offset %d: %v", l.topic, l.index, l.scan, err)
		l.block(err.Error())
	}
}

// gatherTurn takes one turn of a lane.
func (u *Uplink) gatherTurn(l *lane) error {
	start, stable, _ := l.src.Offsets()
	if l.scan < start {
		u.gap(l, start)
	}
	if l.scan >= stable {
		return nil
	}
	set, aborted, err := l.read(l.scan, stable, min(turnBytes, max(u.g.left(), smallBatch)))
	if err != nil {
		return err
	}
	if len(set) == 0 { // nothing behind scan but what the log no longer holds
		l.scan = stable
		return nil
	}
	for _, b := range set {
		h, err := batch.ParseHeader(b)
		if err != nil {
			return fmt.Errorf("read %s/%d: %w", l.topic, l.index, err)
		}
		if h.NextOffset() <= l.scan {
			continue
		}
		if h.NumRecords == 0 {
			u.unreadable(l, h)
		}
		if edge.Committed(aborted, h) {
			if err := u.g.add(l, h, b); err != nil {
				return err
			}
			if u.g.burst.full {
				return nil
			}
		}
		l.scan = h.NextOffset()
		if u.g.left() <= 0 {
			break
		}
	}
	return u.g.flush(l)
}

// gap counts records that the log no longer has.
func (u *Uplink) gap(l *lane, start int64) {
	n := uint64(start - l.scan)
	l.gaps.Add(n)
	u.total.gaps.Add(n)
	u.alarm("gap: %d records of %s/%d from offset %d were removed here before they were mirrored", n, l.topic, l.index, l.scan)
	l.scan = start
}

// unreadable counts records that are damaged on this disk: the centre gets what is behind them. Their offsets are not given out
// twice, so that this stays the same history and the positions hold.
func (u *Uplink) unreadable(l *lane, h batch.Header) {
	if h.BaseOffset < l.damaged { // a burst that failed is gathered again
		return
	}
	for _, d := range u.o.Broker.Store().Damages() {
		if d.Topic != l.topic || d.Partition != l.index || d.Next <= max(h.BaseOffset, l.scan) || d.First >= h.NextOffset() {
			continue
		}
		n := uint64(d.Next - max(d.First, l.scan))
		l.gaps.Add(n)
		u.total.gaps.Add(n)
		l.damaged = d.Next
		u.alarm("gap: %d records of %s/%d from offset %d are damaged on this disk and are not mirrored: %s", n, l.topic, l.index, max(d.First, l.scan), d.Cause)
	}
}

// read reads from offset from on, and says what of it was aborted.
func (l *lane) read(from, stable int64, most int) ([][]byte, []edge.Aborted, error) {
	set, aborted, err := l.src.ReadCommitted(from, stable, most)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s/%d: %w", l.topic, l.index, err)
	}
	return set, aborted, nil
}
