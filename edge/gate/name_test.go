package gate

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// client is the address that a proxy tells.
func client(addr string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 4711))
}

// Behind a proxy the limits of an address are those of the client's, from when it is known.
func TestProxiedClientsCountByThemselves(t *testing.T) {
	d := newDoor(t, Options{Proxied: true, PerAddress: 2, BurstAddress: 3, RateAddress: 1, Pending: 6})
	come := func(addr string) (*fakeConn, net.Conn, bool) {
		c, nc := d.offer("10.0.0.1")
		if nc == nil {
			t.Fatal("the proxy's address was limited")
		}
		return c, nc, addr == "" || Name(nc, client(addr))
	}
	_, a, ok := come("192.0.2.1")
	_, _, ok2 := come("192.0.2.1")
	if !ok || !ok2 {
		t.Error("refused")
	}
	_, third, ok := come("192.0.2.1")
	if ok {
		t.Error("a third connection of one client's address")
	}
	third.Close()
	a.Close()
	if _, _, ok := come("::ffff:192.0.2.1"); !ok {
		t.Error("no room after one was closed")
	}
	if _, nc, ok := come("192.0.2.1"); ok {
		t.Error("a fourth connection in a second") // it is the third that counted
	} else {
		nc.Close()
	}
	if _, _, ok := come("192.0.2.2"); !ok {
		t.Error("another client is refused")
	}
	if s := d.gate.Stats(); s.Connections != 3 || s.Pending != 3 || s.RefusedAddress != 2 || s.RefusedRate != 0 {
		t.Errorf("figures %+v", s)
	}
	// Those that do not say who they are displace each other, not those who have.
	var silent []*fakeConn
	for range 10 {
		c, _, _ := come("")
		silent = append(silent, c)
	}
	open := 0
	for _, c := range silent {
		if !c.isClosed() {
			open++
		}
	}
	if s := d.gate.Stats(); open != 3 || s.Pending != 6 || s.Displaced != 7 {
		t.Errorf("%d of the silent are open: %+v", open, s)
	}
	d.advance(time.Hour)
	if s := d.gate.Stats(); s.Pending != 0 || s.TooSlow != 6 {
		t.Errorf("figures %+v", s)
	}
}

// A connection that is closed while its header is read counts nowhere.
func TestNameAfterClose(t *testing.T) {
	d := newDoor(t, Options{Proxied: true})
	_, nc := d.offer("10.0.0.1")
	nc.Close()
	if Name(nc, client("192.0.2.1")) {
		t.Error("a closed connection got a name")
	}
	if s := d.gate.Stats(); s.Connections != 0 || s.Pending != 0 {
		t.Errorf("figures %+v", s)
	}
	d = newDoor(t, Options{}) // a gate that is before no proxy believes nobody
	_, nc = d.offer("10.0.0.1")
	if !Name(nc, client("192.0.2.1")) || len(d.gate.addresses) != 1 {
		t.Errorf("%d addresses", len(d.gate.addresses))
	}
}

// While many passwords are being checked nobody is accepted; who waits too long is. The test answers each question, so that accepting goes on
// only when it does.
func TestAcceptWaitsForPasswords(t *testing.T) {
	answers := make(chan int)
	d := newDoor(t, Options{MaxWaiting: 5, Waiting: func() int { return <-answers }})
	accept := func(addr string) <-chan error {
		d.offers <- from(addr)
		accepted := make(chan error, 1)
		go func() {
			_, err := d.l.Accept()
			accepted <- err
		}()
		return accepted
	}
	first := accept("10.0.0.1")
	for _, n := range []int{7, 6, 6} {
		answers <- n
	}
	select {
	case <-first:
		t.Fatal("accepted while too many wait")
	default:
	}
	answers <- 5
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	second := accept("10.0.0.2")
	for asked, done := 0, false; !done; asked++ {
		select {
		case answers <- 1000:
		case err := <-second:
			if done = true; err != nil || asked < 10 {
				t.Errorf("accepted after %d questions: %v", asked, err)
			}
		}
	}
	if s := d.gate.Stats(); s.Held != 2 || s.Accepted != 2 {
		t.Errorf("figures %+v", s)
	}
	d.l.Close()
	third := accept("10.0.0.3")
	answers <- 1000
	if err := <-third; err != nil { // the fake one below goes on; what is shown is that a closed listener does not wait
		t.Error(err)
	}
}

func TestHandshakesWeighMore(t *testing.T) {
	b := bucket{tokens: 4, at: time.Unix(1, 0)}
	if d := b.delay(time.Unix(1, 0), handshakeWeight, 100, 4); d != 0 {
		t.Error(d)
	}
	if d := b.delay(time.Unix(1, 0), handshakeWeight, 100, 4); d != 40*time.Millisecond {
		t.Error(d)
	}
}
