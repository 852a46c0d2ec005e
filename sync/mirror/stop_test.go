package mirror

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// deaf is a dialer to a centre that hears nothing any more from the at-th write on, and answers nothing.
type deaf struct {
	at     int64
	n      atomic.Int64
	once   sync.Once
	silent chan struct{} // closed then
}

type deafConn struct {
	net.Conn
	d *deaf
}

func (d *deaf) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &deafConn{c, d}, nil
}

func (c *deafConn) Write(b []byte) (int, error) {
	if c.d.n.Add(1) >= c.d.at {
		c.d.once.Do(func() { close(c.d.silent) })
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Whatever the uplink waits for when the centre falls silent, it stops when it is told to: no answer and no timeout is waited for but that of
// the courtesy to abort. The next run goes on.
func TestStopsWhenTheCentreIsSilent(t *testing.T) {
	t.Parallel()
	c := newCentre(t, tv2)
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 2).Partitions
	for i, at := range []int64{1, 5, 11, 15, 19, 23, 27} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			o := options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"})
			d := &deaf{at: at, silent: make(chan struct{})}
			o.KgoOpts = []kgo.Opt{kgo.Dialer(d.dial)}
			o.txnTimeout = 10 * time.Minute // what waits for a timeout waits longer than the test may take
			u := start(t, o)
			for silent := false; !silent; {
				h.append(t, p[i%2], 5, 50)
				select {
				case <-d.silent:
					silent = true
				default:
				}
			}
			u.stop()
		})
	}
	u := start(t, options(t, h, c.ListenAddrs(), Rule{Topic: "telemetry"}))
	u.mirrored(t)
	equal(t, h, "telemetry", c.ListenAddrs(), "telemetry")
}
