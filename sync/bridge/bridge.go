package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/edge"
)

// Bridge is one bridge. New makes it, Run runs it once; the other methods may be called by any goroutine.
type Bridge struct {
	o      Options
	ids    *idSet
	bucket bucket        // the batching goroutine's
	hurry  chan struct{} // poked by Resume

	inFlight, lastAt           atomic.Int64
	attempts                   atomic.Uint64 // to connect
	received, committed, bytes atomic.Uint64
	again, refused, looped     atomic.Uint64

	mu        sync.Mutex // guards what follows
	state     State
	problem   string
	problemAt time.Time
	since     time.Time
	connects  uint64
	lost      uint64
	plain     bool               // the other side does not know the bridge bit
	resumed   chan struct{}      // closed by Resume; nil: the bridge is not paused
	stop      context.CancelFunc // ends the present connections; nil before Run
}

// New checks the options and loads the state.
func New(o Options) (*Bridge, error) {
	if err := Check(o); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", o.Name, err)
	}
	o.defaults()
	ids, err := loadIDs(o.Broker.Store(), o.Name)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", o.Name, err)
	}
	return &Bridge{o: o, ids: ids, state: StateStopped, hurry: make(chan struct{}, 1), bucket: bucket{rate: float64(o.LimitBytes), at: o.Now()}}, nil
}

// Run connects, and connects again when the connection is lost, until ctx ends; while the bridge is paused it is not connected. What was
// received then is committed and acknowledged before it returns, or is sent again by the other side.
func (b *Bridge) Run(ctx context.Context) {
	defer b.enter(StateStopped, nil)
	for {
		work, stop := b.unpaused(ctx)
		if work == nil {
			return
		}
		b.connections(work)
		stop()
	}
}

// unpaused waits until the bridge is not paused. work ends with ctx or with the next Pause; nil: ctx has ended.
func (b *Bridge) unpaused(ctx context.Context) (work context.Context, stop context.CancelFunc) {
	for ctx.Err() == nil {
		b.mu.Lock()
		resumed := b.resumed
		if resumed == nil {
			work, stop = context.WithCancel(ctx)
			b.stop = stop
			b.mu.Unlock()
			return work, stop
		}
		b.state, b.problem, b.problemAt = StatePaused, "", time.Time{}
		b.mu.Unlock()
		select {
		case <-resumed:
		case <-ctx.Done():
		}
	}
	return nil, nil
}

// Pause ends the connection, after what was received is committed and acknowledged. The session at the other side stays, and what is
// published there meanwhile waits in it. Pause does not wait; a restart of the program forgets it.
func (b *Bridge) Pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.resumed == nil {
		b.resumed = make(chan struct{})
	}
	if b.stop != nil {
		b.stop()
	}
}

// Resume connects again. When the bridge is not paused but waits to try again, it tries now.
func (b *Bridge) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.resumed != nil {
		close(b.resumed)
		b.resumed = nil
	}
	select {
	case b.hurry <- struct{}{}:
	default:
	}
}

// connections makes one after the other until ctx ends.
func (b *Bridge) connections(ctx context.Context) {
	wait := backOff{longest: b.o.BackOff, rand: b.o.Rand}
	for ctx.Err() == nil {
		select {
		case <-b.hurry: // before this attempt
		default:
		}
		b.enter(StateConnecting, nil)
		b.attempts.Add(1)
		up, err := b.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := wait.after(up)
		b.enter(StateConnecting, err)
		b.o.Log.Warn("bridge is not connected", "bridge", b.o.Name, "broker", b.o.URL, "err", err, "retry", pause.Round(time.Millisecond))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-b.hurry:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errClosed = errors.New("the other broker closed the connection")

// store is the little that a bridge needs of it.
type store interface {
	Scan(space, prefix string, fn func(key string, value []byte) bool) error
	Do(ctx context.Context, c *edge.Commit) error
}
