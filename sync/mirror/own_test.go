package mirror

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
	"rivulet/edge/kafka"
	"rivulet/storage"
)

// own is another Rivulet as the centre, as in `rivulet demo`.
type own struct {
	store  *storage.Store
	broker *edge.Broker
	server *kafka.Server
	addr   string
	stop   func()
}

func openOwn(t testing.TB, dir, addr string) *own {
	t.Helper()
	store, err := storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	broker, err := edge.Open(t.Context(), edge.Options{Edge: "centre", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	server, err := kafka.New(kafka.Options{Broker: broker})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(ctx, l)
	}()
	o := &own{store: store, broker: broker, server: server, addr: l.Addr().String()}
	stopped := false
	o.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(o.stop)
	return o
}

// A Rivulet is a centre like any other, also over a bad link and when it is restarted itself.
func TestRivuletAsCentre(t *testing.T) {
	whole := t // the centre outlives the rounds
	dir := t.TempDir()
	c := openOwn(t, dir, "127.0.0.1:0")
	h := openHere(t, t.TempDir())
	tp := h.topic(t, "telemetry", 3)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSaboteur(seed, 20)
			o := options(t, h, []string{c.addr}, Rule{Topic: "telemetry", To: "{edge}.{topic}"})
			o.KgoOpts = []kgo.Opt{kgo.Dialer(s.dial)}
			o.Size = 16 << 10
			u := start(t, o)
			for i := range 60 {
				h.append(t, tp.Partitions[i%3], 50, 120)
				if i == 30 && seed%2 == 1 {
					c.stop()
					c = openOwn(whole, dir, c.addr)
				}
				if i%10 == 0 {
					want := u.Status().Txns + 1
					eventually(t, "a transaction goes through", func() bool { return u.Status().Txns >= want || u.Status().Lag == 0 })
				}
			}
			s.calm()
			u.mirrored(t)
			if seed == 5 {
				t.Logf("%s: %d transactions, %d failed, %d faults", u.Status().TxnMode, u.Status().Txns, u.Status().Aborted, s.hits.Load())
			}
			u.stop()
			equal(t, h, "telemetry", []string{c.addr}, "e1.telemetry")
		})
	}
}
