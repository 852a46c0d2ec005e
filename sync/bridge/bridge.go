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
	bucket bucket // the batching goroutine's

	inFlight, lastAt           atomic.Int64
	received, committed, bytes atomic.Uint64
	again, refused, looped     atomic.Uint64

	mu        sync.Mutex // guards what follows
	state     State
	problem   string
	problemAt time.Time
	since     time.Time
	connects  uint64
	lost      uint64
	plain     bool // the other side does not know the bridge bit
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
	return &Bridge{o: o, ids: ids, state: StateStopped, bucket: bucket{rate: float64(o.LimitBytes), at: o.Now()}}, nil
}

// Run connects, and connects again when the connection is lost, until ctx ends. What was received then is committed and
// acknowledged before it returns, or is sent again by the other side.
func (b *Bridge) Run(ctx context.Context) {
	defer b.enter(StateStopped, nil)
	pause := backOffStart
	for ctx.Err() == nil {
		b.enter(StateConnecting, nil)
		up, err := b.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if up > stable {
			pause = backOffStart
		}
		// Half of it is left to chance: what was cut off together must not come back together.
		wait := pause/2 + time.Duration(b.o.Rand.Int64N(int64(pause/2)+1))
		b.enter(StateConnecting, err)
		b.o.Log.Warn("bridge is not connected", "bridge", b.o.Name, "broker", b.o.URL, "err", err, "retry", wait.Round(time.Millisecond))
		if !sleep(ctx, wait) {
			return
		}
		pause = min(2*pause, b.o.BackOff)
	}
}

const (
	backOffStart = 500 * time.Millisecond
	stable       = 10 * time.Second // a connection that lasted so long was a good one
)

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
	Get(space, key string) ([]byte, error)
	Do(ctx context.Context, c *edge.Commit) error
}
