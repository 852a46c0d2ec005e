package gate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   net.Addr
	closed chan struct{}
	once   sync.Once
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.from }

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func from(addr string) *fakeConn {
	return &fakeConn{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)), closed: make(chan struct{})}
}

// door is a gate with a clock and timers of its own, and a listener that hands out what the test offers.
type door struct {
	t      *testing.T
	gate   *Gate
	l      net.Listener
	offers chan net.Conn
	now    time.Time
	timers []*timer
}

type timer struct {
	at      time.Time
	f       func()
	stopped bool
}

func newDoor(t *testing.T, o Options) *door {
	d := &door{t: t, offers: make(chan net.Conn, 1), now: time.Unix(1e9, 0)}
	o.Now = func() time.Time { return d.now }
	o.AfterFunc = func(after time.Duration, f func()) func() bool {
		tm := &timer{at: d.now.Add(after), f: f}
		d.timers = append(d.timers, tm)
		return func() bool { tm.stopped = true; return true }
	}
	d.gate = New(o)
	d.l = d.gate.Listener(d)
	return d
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.offers:
		return c, nil
	default:
		return nil, io.EOF
	}
}
func (d *door) Close() error   { return nil }
func (d *door) Addr() net.Addr { return nil }

func (d *door) offer(addr string) (*fakeConn, net.Conn) {
	d.t.Helper()
	c := from(addr)
	d.offers <- c
	nc, err := d.l.Accept()
	if err != nil && !errors.Is(err, io.EOF) {
		d.t.Fatal(err)
	}
	if (err != nil) != c.isClosed() {
		d.t.Fatalf("accepted: %v, closed: %v", err == nil, c.isClosed())
	}
	return c, nc
}

func (d *door) advance(by time.Duration) {
	d.now = d.now.Add(by)
	for _, tm := range d.timers {
		if !tm.stopped && !tm.at.After(d.now) {
			tm.stopped = true
			tm.f()
		}
	}
}

func TestConnections(t *testing.T) {
	d := newDoor(t, Options{Connections: 3, PerAddress: 2})
	_, a := d.offer("10.0.0.1")
	_, b := d.offer("10.0.0.1")
	if _, c := d.offer("10.0.0.1"); c != nil {
		t.Error("a third connection of one address")
	}
	d.offer("10.0.0.2")
	if _, c := d.offer("10.0.0.3"); c != nil {
		t.Error("a fourth connection in all")
	}
	if s := d.gate.Stats(); s.Connections != 3 || s.RefusedAll != 1 || s.RefusedAddress != 1 || s.Accepted != 3 {
		t.Errorf("figures %+v", s)
	}
	a.Close()
	a.Close() // twice counts once
	if _, c := d.offer("10.0.0.3"); c == nil {
		t.Error("no room after a connection was closed")
	}
	Admit(b)
	b.Close()
	if s := d.gate.Stats(); s.Connections != 2 || s.Pending != 2 || s.Admitted != 1 {
		t.Errorf("figures %+v", s)
	}
}

func TestPendingTime(t *testing.T) {
	d := newDoor(t, Options{PendingTime: 10 * time.Second})
	slow, nc := d.offer("10.0.0.1")
	_, quick := d.offer("10.0.0.1")
	Admit(quick)
	d.advance(9 * time.Second)
	if slow.isClosed() {
		t.Error("closed too early")
	}
	d.advance(time.Second)
	if !slow.isClosed() {
		t.Error("not closed")
	}
	nc.Close() // its front end
	Admit(nc)  // too late
	if s := d.gate.Stats(); s.TooSlow != 1 || s.Pending != 0 || s.Connections != 1 || s.Admitted != 1 {
		t.Errorf("figures %+v", s)
	}
}

// A flood of one address displaces its own connections; another's, which came before all of them, stays.
func TestFloodDisplacesItself(t *testing.T) {
	d := newDoor(t, Options{Pending: 4})
	other, _ := d.offer("10.0.0.9")
	var flood []*fakeConn
	for range 100 {
		c, _ := d.offer("10.0.0.1")
		flood = append(flood, c)
	}
	if other.isClosed() {
		t.Error("the flood displaced another address")
	}
	open := 0
	for _, c := range flood {
		if !c.isClosed() {
			open++
		}
	}
	if s := d.gate.Stats(); open != 3 || s.Pending != 4 || s.Connections != 4 || s.Displaced != 97 {
		t.Errorf("%d of the flood are open: %+v", open, s)
	}
	if newcomer, nc := d.offer("10.0.0.2"); nc == nil || newcomer.isClosed() {
		t.Error("a newcomer is refused")
	}
}

func TestRates(t *testing.T) {
	d := newDoor(t, Options{RateAddress: 10, BurstAddress: 5, Rate: -1})
	count := func(addr string) (n int) {
		for range 20 {
			if _, nc := d.offer(addr); nc != nil {
				n++
			}
		}
		return n
	}
	if got := count("10.0.0.1"); got != 5 {
		t.Errorf("%d came in at once", got)
	}
	if got := count("2001:db8::1"); got != 5 {
		t.Errorf("%d of another address came in at once", got)
	}
	if got := count("2001:db8::2"); got != 0 {
		t.Errorf("%d of the same /64 came in at once", got)
	}
	d.advance(300 * time.Millisecond)
	if got := count("::ffff:10.0.0.1"); got != 3 {
		t.Errorf("%d came in after 0.3 s", got)
	}
	if s := d.gate.Stats(); s.RefusedRate != 20*4-13 {
		t.Errorf("figures %+v", s)
	}
}

func TestRateOfAllWaits(t *testing.T) {
	d := newDoor(t, Options{Rate: 1000, Burst: 1})
	d.offer("10.0.0.1")
	if _, nc := d.offer("10.0.0.2"); nc == nil {
		t.Error("refused")
	}
	if s := d.gate.Stats(); s.Waited != 1 {
		t.Errorf("figures %+v", s)
	}
	d.gate.o.Rate = 1 // one more would wait for two seconds
	d.offers <- from("10.0.0.3")
	done := make(chan error)
	go func() {
		_, err := d.l.Accept()
		done <- err
	}()
	d.l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
	if s := d.gate.Stats(); s.Connections != 2 {
		t.Errorf("figures %+v", s)
	}
}

// Other bounds hold for who comes next; nobody who is in is closed.
func TestSetBounds(t *testing.T) {
	d := newDoor(t, Options{PerAddress: 2, Proxied: false})
	first, _ := d.offer("10.0.0.1")
	d.offer("10.0.0.1")
	d.gate.SetBounds(Options{PerAddress: 1, Proxied: true, PendingTime: time.Second})
	if _, nc := d.offer("10.0.0.1"); nc != nil || first.isClosed() || d.gate.o.Proxied {
		t.Errorf("accepted %v, an older one closed %v", nc != nil, first.isClosed())
	}
	d.offer("10.0.0.2")
	d.advance(time.Second)
	if s := d.gate.Stats(); s.TooSlow != 1 || s.Connections != 3 {
		t.Errorf("figures %+v", s)
	}
	d.gate.SetBounds(Options{})
	if _, nc := d.offer("10.0.0.1"); nc == nil {
		t.Error("the default refuses a third one")
	}
}

// What is remembered of addresses is bounded, and an address with connections is never forgotten.
func TestAddressesAreBounded(t *testing.T) {
	d := newDoor(t, Options{KnownAddress: 16, PerAddress: 1, Rate: -1})
	d.offer("10.9.9.9")
	for i := range 1000 {
		_, nc := d.offer(fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		nc.Close()
	}
	if s := d.gate.Stats(); s.Addresses > 33 {
		t.Errorf("%d addresses are remembered", s.Addresses)
	}
	if _, nc := d.offer("10.9.9.9"); nc != nil {
		t.Error("an address with a connection was forgotten")
	}
}

func TestUnixSocketsAreNotCounted(t *testing.T) {
	d := newDoor(t, Options{Connections: 1})
	for range 3 {
		c := &fakeConn{from: &net.UnixAddr{Name: "s"}, closed: make(chan struct{})}
		d.offers <- c
		nc, err := d.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		Admit(nc)
		nc.Close()
	}
	if s := d.gate.Stats(); s.Accepted != 0 {
		t.Errorf("figures %+v", s)
	}
}

// The real thing: what package net offers to TCP alone must be there still, and Admit looks through wrappers.
func TestTCP(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{})
	l := g.Listener(ln)
	defer l.Close()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, has := range []bool{implements[interface{ CloseWrite() error }](nc), implements[io.ReaderFrom](nc)} {
		if !has {
			t.Error("a method of TCP connections is hidden")
		}
	}
	Admit(wrapper{wrapper{nc}})
	if s := g.Stats(); s.Admitted != 1 || s.Pending != 0 || s.Connections != 1 {
		t.Errorf("figures %+v", s)
	}
	if _, err := (&net.Buffers{[]byte("a"), []byte("b")}).WriteTo(nc); err != nil {
		t.Error(err)
	}
	Admit(client) // not of a gate
}

func implements[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }

func BenchmarkAccept(b *testing.B) {
	g := New(Options{Rate: -1, RateAddress: -1})
	nc := from("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		c, _, _ := g.enter(nc, 1)
		c.Admit()
		c.gate.leave(c)
	}
}
