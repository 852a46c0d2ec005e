package kafka

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a whole broker on a store of its own, which can be stopped and started again.
type broker struct {
	t      testing.TB
	dir    string
	opts   Options
	store  *storage.Store
	edge   *edge.Broker
	server *Server
	addr   string
	served chan error
	secure *auth.Config // nil: there are no users and rules
	auth   *auth.Authority
}

// testLog shows what the broker logs when a test fails.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// awaitRead waits until the server has read a request that it holds memory for.
func (b *broker) awaitRead() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for all := b.server.o.MaxBuffered; b.server.budget.TryAcquire(all); <-tick.C {
		b.server.budget.Release(all)
	}
}

func startBroker(t testing.TB, opts Options, topics ...edge.TopicSpec) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), opts: opts}
	b.start("127.0.0.1:0", topics...)
	t.Cleanup(b.stop)
	return b
}

// startSecure is startBroker with rules, and with the users ann, bob and eve, each with its name as password.
func startSecure(t testing.TB, c auth.Config, rules []string, opts Options, topics ...edge.TopicSpec) *broker {
	t.Helper()
	for _, text := range rules {
		r, err := auth.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Rules = append(c.Rules, r)
	}
	b := &broker{t: t, dir: t.TempDir(), opts: opts, secure: &c}
	b.start("127.0.0.1:0", topics...)
	t.Cleanup(b.stop)
	for _, name := range []string{"ann", "bob", "eve"} {
		if err := b.auth.AddUser(t.Context(), auth.NewUser{Name: name, Password: name}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *broker) start(addr string, topics ...edge.TopicSpec) {
	b.t.Helper()
	ctx, log := b.t.Context(), testLog(b.t)
	var err error
	if b.store, err = storage.Open(ctx, storage.Options{Dir: b.dir, JournalBytes: 4 << 20, Log: log}); err != nil {
		b.t.Fatal(err)
	}
	eo := edge.Options{Edge: "test", Store: b.store, Topics: topics, Log: log}
	o := b.opts
	if b.secure != nil {
		if b.auth, err = auth.New(auth.Options{Store: b.store, Edge: "test", Config: *b.secure}); err != nil {
			b.t.Fatal(err)
		}
		eo.Authorize, o.Auth = b.auth, b.auth
	}
	if b.edge, err = edge.Open(ctx, eo); err != nil {
		b.t.Fatal(err)
	}
	if b.auth != nil {
		b.auth.Watch(b.edge.PermissionsChanged)
	}
	o.Broker, o.Log = b.edge, log
	if b.server, err = New(o); err != nil {
		b.t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.addr = l.Addr().String()
	b.served = make(chan error, 1)
	server, served := b.server, b.served
	go func() { served <- server.Serve(context.Background(), l) }()
}

func (b *broker) stop() {
	if b.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := b.server.Close(ctx); err != nil {
		b.t.Errorf("close server: %v", err)
	}
	if err := <-b.served; err != nil {
		b.t.Errorf("serve: %v", err)
	}
	if err := b.edge.Close(); err != nil {
		b.t.Errorf("close broker: %v", err)
	}
	if err := b.store.Close(); err != nil {
		b.t.Errorf("close store: %v", err)
	}
	b.server = nil
}

// restart closes everything and opens it again at the same address.
func (b *broker) restart() {
	b.t.Helper()
	b.stop()
	b.start(b.addr)
}

func (b *broker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.addr)}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

func (b *broker) admin() *kadm.Client { return kadm.NewClient(b.client()) }

// call sends one request, at the version that it carries, over the connection of a client of its own.
func call[R kmsg.Response](b *broker, req kmsg.Request, version int16) R {
	b.t.Helper()
	raw := dial(b)
	defer raw.close()
	return ask[R](raw, req, version)
}

func withTimeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
