package bridge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"rivulet/edge"
	edgemqtt "rivulet/edge/mqtt"
	"rivulet/storage"
	"rivulet/storage/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a broker with its store, and, when it serves, MQTT.
type site struct {
	t      *testing.T
	dir    string
	store  *storage.Store
	broker *edge.Broker
	srv    *edgemqtt.Server
	addr   string
	served chan error
}

func openSite(t *testing.T, name, dir string, routes ...edge.Route) *site {
	t.Helper()
	s := &site{t: t, dir: dir}
	var err error
	if s.store, err = storage.Open(context.Background(), storage.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if s.broker, err = edge.Open(context.Background(), edge.Options{Edge: name, Store: s.store, Routes: routes}); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve opens MQTT at addr, on a free port the first time.
func (s *site) serve(addr string) *site {
	s.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.srv = edgemqtt.New(edgemqtt.Options{Broker: s.broker, CloseTimeout: time.Second})
	s.addr, s.served = l.Addr().String(), make(chan error, 1)
	go func() { s.served <- s.srv.Serve(context.Background(), l) }()
	return s
}

func (s *site) close() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.srv != nil {
		if err := s.srv.Close(ctx); err != nil {
			s.t.Error(err)
		}
		if err := <-s.served; err != nil {
			s.t.Error(err)
		}
	}
	if err := s.broker.Close(); err != nil {
		s.t.Error(err)
	}
	if err := s.store.Close(); err != nil {
		s.t.Error(err)
	}
}

// logged reads what a topic of the log holds, by MQTT topic.
func (s *site) logged(topic string) map[string][]string {
	s.t.Helper()
	got := map[string][]string{}
	t, ok := s.store.Topic(topic)
	if !ok {
		return got
	}
	for _, p := range t.Partitions {
		from, _, high := p.Offsets()
		for from < high {
			list, err := p.Read(from, high, 1<<20)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, raw := range list {
				var d batch.Decoder
				if err := d.Reset(raw, 1<<26); err != nil {
					s.t.Fatal(err)
				}
				for r, ok := d.Next(); ok; r, ok = d.Next() {
					name := string(s.broker.MQTTName(p, r.Payload))
					got[name] = append(got[name], string(r.Payload.Value()))
					from = r.Offset + 1
				}
			}
		}
	}
	return got
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// running starts a bridge and returns it with what stops it.
func running(t *testing.T, o Options) (*Bridge, func()) {
	t.Helper()
	o.BackOff, o.Rand = 100*time.Millisecond, rand.New(rand.NewPCG(1, 2))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); wg.Wait() }) }
	t.Cleanup(stop)
	return b, stop
}

func isUp(t *testing.T, b *Bridge) {
	t.Helper()
	eventually(t, "the bridge runs", func() bool { return b.Status().State == StateRunning })
}

// device is a client of the far side.
func device(t *testing.T, addr, id string) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(time.Minute))
	if token := c.Connect(); !token.WaitTimeout(time.Minute) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func publish(t *testing.T, c mqtt.Client, topic string, qos byte, retain bool, payload string) {
	t.Helper()
	if token := c.Publish(topic, qos, retain, payload); !token.WaitTimeout(time.Minute) || token.Error() != nil {
		t.Fatal(token.Error())
	}
}

func TestBridge(t *testing.T) {
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			far := openSite(t, "far", t.TempDir()).serve("127.0.0.1:0")
			defer far.close()
			near := openSite(t, "near", t.TempDir(), edge.Route{MQTT: "hall/#", Topic: "hall"})
			defer near.close()
			b, stop := running(t, Options{Name: "line3", Broker: near.broker, URL: "tcp://" + far.addr, Subscribe: []string{"line3/#"}, QoS: qos, Strip: "line3/", Prefix: "hall/"})
			isUp(t, b)
			dev := device(t, far.addr, "dev")
			var want []string
			for i := range 200 {
				want = append(want, fmt.Sprint(i))
				publish(t, dev, "line3/temp", 2, false, fmt.Sprint(i))
			}
			publish(t, dev, "other", 1, false, "not for us")
			eventually(t, "all came", func() bool { return b.Status().Committed == 200 })
			got := near.logged("hall")
			if len(got) != 1 || strings.Join(got["hall/temp"], " ") != strings.Join(want, " ") {
				t.Errorf("%d topics, %d messages: %v", len(got), len(got["hall/temp"]), got)
			}
			st := b.Status()
			if st.Received != 200 || st.Refused+st.Looped+st.Again != 0 || !st.Bridge || st.ClientID != "rivulet-near-line3" || st.LastAt == "" {
				t.Errorf("%+v", st)
			}
			eventually(t, "nothing is in flight", func() bool { return b.Status().InFlight == 0 })
			stop()
			if s := b.Status().State; s != StateStopped {
				t.Error(s)
			}
		})
	}
}

// What is published while the bridge is away waits in its session at the other side.
func TestBridgeComesBack(t *testing.T) {
	far := openSite(t, "far", t.TempDir()).serve("127.0.0.1:0")
	defer far.close()
	dir := t.TempDir()
	near := openSite(t, "near", dir)
	o := Options{Name: "b", Broker: near.broker, URL: "tcp://" + far.addr, Subscribe: []string{"a/#"}, QoS: 1}
	b, stop := running(t, o)
	isUp(t, b)
	dev := device(t, far.addr, "dev")
	publish(t, dev, "a/state", 1, true, "retained")
	eventually(t, "it came", func() bool { return b.Status().Committed == 1 })
	stop()
	near.close()
	for i := range 50 {
		publish(t, dev, "a/x", 1, false, fmt.Sprint(i))
	}
	near = openSite(t, "near", dir)
	defer near.close()
	o.Broker = near.broker
	b, stop = running(t, o)
	defer stop()
	eventually(t, "the rest came", func() bool { return b.Status().Committed == 50 })
	got := near.logged("mqtt")
	if len(got["a/x"]) != 50 || got["a/x"][0] != "0" || got["a/x"][49] != "49" {
		t.Errorf("%v", got["a/x"])
	}
	if n := len(got["a/state"]); n != 1 {
		t.Errorf("the retained message is there %d times: the session was resumed, there was nothing to subscribe to", n)
	}
	if n, _, _ := near.broker.RetainedCount(); n != 1 {
		t.Errorf("%d retained copies", n)
	}
}

// While a bridge is paused, what is published waits in its session; Resume does not wait for the back-off.
func TestBridgePauses(t *testing.T) {
	far := openSite(t, "far", t.TempDir()).serve("127.0.0.1:0")
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	o := Options{Name: "b", Broker: near.broker, URL: "tcp://" + far.addr, Subscribe: []string{"a/#"}, QoS: 2, BackOff: time.Hour}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Pause()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	is := func(s State) {
		t.Helper()
		eventually(t, "the bridge is "+string(s), func() bool { return b.Status().State == s })
	}
	is(StatePaused)
	b.Resume()
	is(StateRunning)
	dev := device(t, far.addr, "dev")
	for i := range 100 {
		if i%10 == 5 {
			b.Pause()
			b.Pause()
		}
		publish(t, dev, "a/x", 2, false, fmt.Sprint(i))
		if i%10 == 9 {
			is(StatePaused)
			b.Resume()
			b.Resume()
		}
	}
	eventually(t, "all came", func() bool { return len(near.logged("mqtt")["a/x"]) >= 100 })
	for i, v := range near.logged("mqtt")["a/x"] {
		if v != fmt.Sprint(i) {
			t.Fatalf("at %d came %s", i, v)
		}
	}
	if st := b.Status(); st.Lost != 0 || st.Error != "" {
		t.Errorf("%+v", st)
	}
	dev.Disconnect(0)
	far.close()
	eventually(t, "an attempt fails", func() bool { st := b.Status(); return st.State == StateConnecting && st.Error != "" })
	for range 10 { // by itself it would wait longer and longer
		at := b.attempts.Load()
		eventually(t, "Resume tries again", func() bool { b.Resume(); return b.attempts.Load() > at })
	}
	b.Pause()
	is(StatePaused)
}

// cutter is a proxy that cuts connections after some bytes of either direction.
type cutter struct {
	t      *testing.T
	l      net.Listener
	to     string
	mu     sync.Mutex
	rng    *rand.Rand
	gentle bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

func newCutter(t *testing.T, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{t: t, l: l, to: to, rng: rand.New(rand.NewPCG(3, 4)), conns: map[net.Conn]struct{}{}}
	c.wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			z, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			c.mu.Lock()
			c.conns[a], c.conns[z] = struct{}{}, struct{}{}
			up, down := int64(300+c.rng.IntN(3000)), int64(300+c.rng.IntN(20000))
			if c.gentle {
				up, down = 1<<40, 1<<40
			}
			c.mu.Unlock()
			pipe := func(dst, src net.Conn, n int64) {
				_, _ = io.CopyN(dst, src, n)
				_, _ = a.Close(), z.Close()
			}
			c.wg.Go(func() { pipe(z, a, up) })
			c.wg.Go(func() { pipe(a, z, down) })
		}
	})
	return c
}

func (c *cutter) close() {
	_ = c.l.Close()
	c.mu.Lock()
	for nc := range c.conns {
		_ = nc.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// However the connection breaks, nothing is lost and nothing is swapped; QoS 2 comes once.
func TestBridgeOverABadLine(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			far := openSite(t, "far", t.TempDir()).serve("127.0.0.1:0")
			defer far.close()
			near := openSite(t, "near", t.TempDir())
			defer near.close()
			line := newCutter(t, far.addr)
			defer line.close()
			b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: "tcp://" + line.l.Addr().String(), Subscribe: []string{"a/#"}, QoS: qos})
			defer stop()
			eventually(t, "the bridge has its session", func() bool { return b.Status().Connects > 0 })
			dev := device(t, far.addr, "dev")
			const n = 600
			for i := range n {
				publish(t, dev, fmt.Sprint("a/", i%3), 2, false, fmt.Sprintf("%d %s", i, strings.Repeat("x", 100)))
			}
			line.mu.Lock()
			line.gentle = true
			line.mu.Unlock()
			count := func() (distinct, all int, swapped bool) {
				for _, list := range near.logged("mqtt") {
					seen, last := map[int]bool{}, -1
					for _, v := range list {
						var i int
						if _, err := fmt.Sscan(v, &i); err != nil {
							t.Fatal(err)
						}
						if !seen[i] && i < last {
							swapped = true
						}
						seen[i], last = true, max(last, i)
					}
					distinct, all = distinct+len(seen), all+len(list)
				}
				return distinct, all, swapped
			}
			eventually(t, "all came", func() bool {
				distinct, _, _ := count()
				return distinct == n
			})
			distinct, all, swapped := count()
			t.Logf("%d messages, %d stored, %+v", distinct, all, b.Status())
			if swapped {
				t.Error("a message came behind a later one for the first time")
			}
			if qos == 2 && all != n {
				t.Errorf("%d messages are there %d times in all", n, all)
			}
			if b.Status().Lost == 0 {
				t.Error("the line was not bad")
			}
		})
	}
}

func TestBridgeRefusesAndGoesOn(t *testing.T) {
	far := openSite(t, "far", t.TempDir()).serve("127.0.0.1:0")
	defer far.close()
	near := openSite(t, "near", t.TempDir(), edge.Route{MQTT: "bad/#", Topic: "_rivulet-x"})
	defer near.close()
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: "tcp://" + far.addr, Subscribe: []string{"#"}, QoS: 2, Prefix: "up/"})
	defer stop()
	isUp(t, b)
	dev := device(t, far.addr, "dev")
	publish(t, dev, "a", 2, false, "good")
	publish(t, dev, "up/a", 2, false, "been here")
	publish(t, dev, "b", 2, false, "good too")
	eventually(t, "all were handled", func() bool { st := b.Status(); return st.Committed == 2 && st.Looped == 1 && st.InFlight == 0 })

	b, stop2 := running(t, Options{Name: "c", Broker: near.broker, URL: "tcp://" + far.addr, Subscribe: []string{"bad/#", "ok/#"}, QoS: 2})
	defer stop2()
	isUp(t, b)
	publish(t, dev, "bad/x", 2, false, "to an internal topic")
	publish(t, dev, "ok/x", 2, false, "good")
	eventually(t, "all were handled", func() bool { st := b.Status(); return st.Committed == 1 && st.Refused == 1 && st.InFlight == 0 })
}

// A broker that does not take version 0x84 is asked without it, and one that refuses a filter is told about.
func TestBridgeStatusIsTruthful(t *testing.T) {
	near := openSite(t, "near", t.TempDir())
	defer near.close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { strict(nc) })
		}
	})
	defer wg.Wait()
	defer func() { _ = l.Close() }()
	b, stop := running(t, Options{Name: "b", Broker: near.broker, URL: "tcp://" + l.Addr().String(), Subscribe: []string{"a"}, QoS: 1})
	defer stop()
	eventually(t, "the refusal shows", func() bool {
		st := b.Status()
		return st.State == StateConnecting && !st.Bridge && strings.Contains(st.Error, "subscribe to a: the other broker refuses")
	})
	stop()

	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	b, stop = running(t, Options{Name: "c", Broker: near.broker, URL: "tcp://" + nobody.Addr().String(), Subscribe: []string{"a"}})
	defer stop()
	eventually(t, "the error shows", func() bool {
		st := b.Status()
		return st.State == StateConnecting && st.Error != "" && st.ErrorAt != ""
	})
}

// strict answers CONNECT of version 4 only, and refuses what is subscribed to.
func strict(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	buf := make([]byte, 1000)
	n, err := nc.Read(buf)
	if err != nil || n < 10 {
		return
	}
	if buf[8] != 4 {
		_, _ = nc.Write([]byte{0x20, 2, 0, 1})
		return
	}
	_, _ = nc.Write([]byte{0x20, 2, 0, 0})
	if n, err = nc.Read(buf); err != nil || n < 4 {
		return
	}
	_, _ = nc.Write([]byte{0x90, 3, buf[2], buf[3], 0x80})
	_, _ = nc.Read(buf)
}

func TestCheck(t *testing.T) {
	good := Options{Name: "a", URL: "tcp://h:1", Subscribe: []string{"a/#"}}
	if err := Check(good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"name":              func(o *Options) { o.Name = "" },
		"HOST:PORT":         func(o *Options) { o.URL = "tcp://h" },
		"want tcp, ssl":     func(o *Options) { o.URL = "http://h:1" },
		"keys of their own": func(o *Options) { o.URL = "tcp://u:p@h:1" },
		"unix:///PATH":      func(o *Options) { o.URL = "unix://" },
		"subscribe":         func(o *Options) { o.Subscribe = nil },
		"# stands alone":    func(o *Options) { o.Subscribe = []string{"a/#/b"} },
		"qos 3":             func(o *Options) { o.QoS = 3 },
		"keep_alive 20h":    func(o *Options) { o.KeepAlive = 20 * time.Hour },
		"keep_alive -1s":    func(o *Options) { o.KeepAlive = -time.Second },
		"parts of topics":   func(o *Options) { o.Prefix = "a/+/" },
		"and not of $SYS":   func(o *Options) { o.Prefix = "$SYS/" },
	} {
		o := good
		change(&o)
		if err := Check(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
