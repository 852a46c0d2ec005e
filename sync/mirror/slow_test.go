package mirror

import (
	"context"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// slow is a dialer over a link that takes so many bytes a second.
type slow struct{ rate int }

type slowConn struct {
	net.Conn
	s slow
}

func (s slow) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return slowConn{c, s}, nil
}

func (c slowConn) Write(b []byte) (n int, err error) {
	const piece = 4 << 10
	for err == nil && n < len(b) {
		end := min(n+piece, len(b))
		<-time.After(time.Duration(end-n) * time.Second / time.Duration(c.s.rate))
		var m int
		m, err = c.Conn.Write(b[n:end])
		n += m
	}
	return n, err
}

// A record that takes longer than a transaction may be open gets through all the same, once: the transaction gets more time. What
// comes behind it does, too.
func TestRecordThatTakesLong(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, tv protocol) {
		t.Parallel()
		c := newCentre(t, tv)
		var longest atomic.Int32
		c.ControlKey(22, func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			req := kreq.(*kmsg.InitProducerIDRequest)
			longest.Store(max(longest.Load(), req.TransactionTimeoutMillis))
			req.TransactionTimeoutMillis = 60_000 // this centre goes by the first one for ever, Kafka by the last
			return nil, nil, false
		})
		takesLong(t, c.ListenAddrs())
		if ms := longest.Load(); ms < 4000 {
			t.Errorf("the centre was asked for %d ms", ms)
		}
	})
}

// takesLong mirrors a record over a link that needs 2.5 s for it, with transactions of 1 s.
func takesLong(t *testing.T, centre []string) {
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	o := options(t, h, centre, Rule{Topic: "telemetry"})
	o.txnTimeout = time.Second
	o.KgoOpts = []kgo.Opt{kgo.Dialer(slow{100 << 10}.dial)}
	u := start(t, o)
	h.append(t, p, 1, 10)
	u.mirrored(t)
	noise := make([]byte, 250<<10)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	large := edge.Append{Partition: p, Records: []batch.Record{{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, noise, nil)}}}
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{large}}); err != nil {
		t.Fatal(err)
	}
	h.append(t, p, 20, 100)
	u.mirrored(t)
	if s := u.Status(); s.Aborted == 0 {
		t.Error("no transaction took too long")
	}
	equal(t, h, "telemetry", centre, "telemetry")
}
