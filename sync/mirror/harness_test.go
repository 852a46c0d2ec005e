package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"rivulet/edge"
	"rivulet/storage"
	"rivulet/storage/batch"
	"rivulet/sync/compare"
)

func verifyMain(m *testing.M) { goleak.VerifyTestMain(m) }

// here is the edge under test.
type here struct {
	dir    string
	store  *storage.Store
	broker *edge.Broker
}

func openHere(t testing.TB, dir string) *here {
	t.Helper()
	store, err := storage.Open(t.Context(), storage.Options{Dir: dir, JournalBytes: 4 << 20, TailBytes: 8 << 20, LogFileBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	broker, err := edge.Open(t.Context(), edge.Options{Edge: "e1", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	h := &here{dir, store, broker}
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *here) close(t testing.TB) {
	t.Helper()
	if h.store == nil {
		return
	}
	if err := errors.Join(h.broker.Close(), h.store.Close()); err != nil {
		t.Error(err)
	}
	h.store = nil
}

// topic makes a topic unless it exists.
func (h *here) topic(t testing.TB, name string, partitions int) *edge.Topic {
	t.Helper()
	if tp, ok := h.store.Topic(name); ok {
		return tp
	}
	tp, err := h.store.CreateTopic(t.Context(), name, partitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tp
}

// append commits n records, numbered in their partition and of about size bytes.
func (h *here) append(t testing.TB, p *edge.Partition, n, size int) {
	t.Helper()
	if err := h.tryAppend(t.Context(), p, n, size); err != nil {
		t.Fatal(err)
	}
}

func (h *here) tryAppend(ctx context.Context, p *edge.Partition, n, size int) error {
	_, _, high := p.Offsets()
	records := make([]batch.Record, n)
	for i := range records {
		at := high + int64(i)
		records[i] = batch.Record{Timestamp: 1700000000000 + at, Payload: payload(p, at, size)}
	}
	return h.store.Do(ctx, &edge.Commit{Appends: []edge.Append{{Partition: p, Records: records}}})
}

// appendAt commits n records with one timestamp.
func (h *here) appendAt(t testing.TB, p *edge.Partition, n int, ms int64) {
	t.Helper()
	_, _, high := p.Offsets()
	records := make([]batch.Record, n)
	for i := range records {
		records[i] = batch.Record{Timestamp: ms, Payload: payload(p, high+int64(i), 100)}
	}
	if err := h.store.Do(t.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: records}}}); err != nil {
		t.Fatal(err)
	}
}

// payload is a record that is not like any other; every seventh has no key, every eleventh no value, every third headers.
func payload(p *edge.Partition, at int64, size int) batch.Payload {
	key := fmt.Appendf(nil, "%s/%d/%d", p.Topic(), p.Index, at)
	value := fmt.Appendf(nil, `{"device":"d%d","seq":%d,"temperature":%d.5,"state":"running"}`, at%50, at, at%40)
	for len(value) < size {
		value = append(value, value[:min(len(value), size-len(value))]...)
	}
	var headers []batch.KV
	if at%3 == 0 {
		headers = append(headers, batch.KV{Key: "mqtt.topic", Value: key}, batch.KV{Key: "empty"})
	}
	switch {
	case at%77 == 0:
	case at%7 == 0:
		key = nil
	case at%11 == 0:
		value = nil
	}
	return batch.AppendPayload(nil, key, value, headers)
}

// txn says which transaction protocols a centre has.
type protocol string

const (
	tv1 protocol = "TV1"
	tv2 protocol = "TV2"
)

// newCentre starts a Kafka in this process.
func newCentre(t testing.TB, tv protocol, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)
	if tv == tv1 {
		opts = append(opts, kfake.MaxVersions(kversion.V3_9_0()))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// options of an uplink that is quick to send and to try again.
func options(t testing.TB, h *here, brokers []string, up ...Rule) Options {
	o := Options{
		Broker: h.broker, Edge: "e1", Name: "cloud", Brokers: brokers, Up: up,
		Age: 5 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o
}

// running is an uplink at work.
type running struct {
	*Uplink
	end  context.CancelFunc
	done chan struct{}
}

func start(t testing.TB, o Options) *running {
	t.Helper()
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{u, cancel, make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := u.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.end()
	<-r.done
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(3 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("timed out: %s", what)
		case <-tick.C:
		}
	}
}

// mirrored waits until the centre has everything.
func (r *running) mirrored(t testing.TB) {
	t.Helper()
	eventually(t, "everything is mirrored", func() bool {
		s := r.Status()
		return s.Lag == 0 && len(s.Partitions) > 0
	})
}

// alarmed reports whether an alarm holds text.
func (r *running) state() State { return r.Status().State }

// equal compares one topic with its copy.
func equal(t testing.TB, h *here, topic string, brokers []string, to string) {
	t.Helper()
	tp, ok := h.store.Topic(topic)
	if !ok {
		t.Fatalf("no topic %s", topic)
	}
	for _, p := range tp.Partitions {
		report, err := compare.Logs(compare.Partition(p), compare.Topic(t.Context(), to, p.Index, kgo.SeedBrokers(brokers...)))
		if err != nil {
			t.Fatal(err)
		}
		if !report.Equal() {
			t.Errorf("%s/%d: %s", topic, p.Index, report.String())
		}
	}
}

// copyDir copies the directory of a store that is open but idle, as a power cut would leave it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	look := func() string {
		var b strings.Builder
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
			return nil
		})
		if err != nil {
			return err.Error()
		}
		return b.String()
	}
	root, to := t.TempDir(), ""
	eventually(t, "the store is idle", func() bool {
		before := look()
		to = filepath.Join(root, fmt.Sprint(time.Now().UnixNano()))
		return os.CopyFS(to, os.DirFS(from)) == nil && look() == before
	})
	return to
}

// saboteur is a dialer whose connections break at random writes, reads and dials.
type saboteur struct {
	mu   sync.Mutex // guards rand and conns
	rand *rand.Rand
	odds int // one in so many steps fails; 0: none

	conns map[*badConn]struct{}
	dead  atomic.Bool // nothing goes through any more
	hits  atomic.Int64
}

func newSaboteur(seed uint64, odds int) *saboteur {
	return &saboteur{rand: rand.New(rand.NewPCG(seed, 1)), odds: odds, conns: make(map[*badConn]struct{})}
}

var errSabotage = errors.New("sabotage")

// strikes decides one step: 0 lets it pass.
func (s *saboteur) strikes(ways int) int {
	if s.dead.Load() {
		return 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.odds == 0 || s.rand.IntN(s.odds) != 0 {
		return 0
	}
	s.hits.Add(1)
	return 1 + s.rand.IntN(ways)
}

func (s *saboteur) calm() {
	s.mu.Lock()
	s.odds = 0
	s.mu.Unlock()
}

// kill cuts every connection, and lets no new one through: the process is gone.
func (s *saboteur) kill() {
	s.dead.Store(true)
	s.cut()
}

// cut cuts every connection.
func (s *saboteur) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Conn.Close()
	}
}

func (s *saboteur) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.strikes(1) != 0 {
		return nil, errSabotage
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	b := &badConn{Conn: c, s: s}
	s.mu.Lock()
	s.conns[b] = struct{}{}
	s.mu.Unlock()
	return b, nil
}

type badConn struct {
	net.Conn
	s *saboteur
}

// Write may lose the request, half of it, or the answer to it.
func (c *badConn) Write(b []byte) (int, error) {
	switch c.s.strikes(3) {
	case 1:
		_ = c.Conn.Close()
		return 0, errSabotage
	case 2:
		n, _ := c.Conn.Write(b[:len(b)/2])
		_ = c.Conn.Close()
		return n, errSabotage
	case 3:
		n, err := c.Conn.Write(b)
		_ = c.Conn.(*net.TCPConn).CloseRead()
		return n, err
	}
	return c.Conn.Write(b)
}

func (c *badConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// admin of a centre.
func admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// stepper calls fn when the client has written its at-th request.
type stepper struct {
	n    atomic.Int64
	at   int
	fn   func()
	once sync.Once
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (s *stepper) OnBrokerWrite(kgo.BrokerMetadata, int16, int, time.Duration, time.Duration, error) {
	if int(s.n.Add(1)) >= s.at {
		s.once.Do(s.fn)
	}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
