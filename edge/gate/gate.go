package gate

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a gate. The zero value of every field is its default; a negative number takes a bound away.
type Options struct {
	Connections  int           // in all; default 10,000
	PerAddress   int           // connections of one address; default half of Connections
	Pending      int           // connections that have not authenticated; default 1,024
	PendingTime  time.Duration // from accept to the end of authentication; default 30 s
	Rate         int           // new connections a second, beyond which they wait; default 2,000. One that brings a handshake counts four
	RateAddress  int           // new connections a second of one address, beyond which they are refused; default 250
	Burst        int           // how many may come at once after a pause, in all; default 10
	BurstAddress int           // of one address; default 2,000
	KnownAddress int           // addresses that are remembered without a connection; default 8,192
	// Proxied says that all connections come from a proxy, which tells their clients' addresses (Name). Until then they count
	// in all alone.
	Proxied bool
	// Waiting is how many logins wait for a processor, for passwords are dear. While there are more than MaxWaiting (default 64), the
	// listener accepts nobody, so that those who come in are answered, and the others wait where it costs nothing. Nil: not asked.
	Waiting    func() int
	MaxWaiting int
	Now        func() time.Time
	// AfterFunc starts the timer of a pending connection; default time.AfterFunc. What it returns stops it.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
}

// Gate counts connections. All methods may be called by many goroutines.
type Gate struct {
	o Options // its bounds belong to mu; the rest never changes

	mu        sync.Mutex // guards what follows
	conns     int
	pending   int
	addresses map[netip.Addr]*address
	all       bucket
	sweepAt   int    // addresses at which those without a connection are forgotten
	age       uint64 // of pending connections: the order in which they came

	accepted, admitted             atomic.Uint64
	refusedAll, refusedAddress     atomic.Uint64
	refusedRate, displaced, tooOld atomic.Uint64
	waited, held                   atomic.Uint64
}

// address is what is known of one address.
type address struct {
	conns   int
	pending map[*conn]struct{}
	rate    bucket
}

// Stats are counters since New, and gauges.
type Stats struct {
	Connections    int    // now
	Pending        int    // of them, not authenticated yet
	Addresses      int    // remembered
	Accepted       uint64 // passed the gate
	Admitted       uint64 // authenticated
	RefusedAll     uint64 // too many connections
	RefusedAddress uint64 // too many of one address
	RefusedRate    uint64 // too many at once of one address
	Displaced      uint64 // closed for a newcomer before they had authenticated
	TooSlow        uint64 // closed because they did not authenticate in time
	Waited         uint64 // had to wait for the rate of all
	Held           uint64 // had to wait since many passwords were being checked
}

// New makes a gate.
func New(o Options) *Gate {
	o.defaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	return &Gate{o: o, addresses: map[netip.Addr]*address{}, sweepAt: o.KnownAddress, all: bucket{tokens: float64(o.Burst)}}
}

// defaults fills in the bounds that are left out.
func (o *Options) defaults() {
	o.Connections = cmp.Or(o.Connections, 10000)
	o.PerAddress = cmp.Or(o.PerAddress, max(o.Connections/2, 1))
	if o.Connections < 0 && o.PerAddress == 1 {
		o.PerAddress = -1
	}
	o.Pending = cmp.Or(o.Pending, 1024)
	o.PendingTime = cmp.Or(o.PendingTime, 30*time.Second)
	o.Rate = cmp.Or(o.Rate, 2000)
	o.RateAddress = cmp.Or(o.RateAddress, 250)
	o.Burst = cmp.Or(o.Burst, 10)
	o.BurstAddress = cmp.Or(o.BurstAddress, 2000)
	o.KnownAddress = cmp.Or(o.KnownAddress, 8192)
	o.MaxWaiting = cmp.Or(o.MaxWaiting, 64)
}

// SetBounds has other bounds hold for connections that come from now on; those that are there stay, also when they are more than may be.
// What is not a bound of connections (Proxied, Waiting, MaxWaiting, Now, AfterFunc) stays as it was.
func (g *Gate) SetBounds(o Options) {
	o.defaults()
	g.mu.Lock()
	defer g.mu.Unlock()
	b := &g.o
	b.Connections, b.PerAddress, b.Pending, b.PendingTime = o.Connections, o.PerAddress, o.Pending, o.PendingTime
	b.Rate, b.RateAddress, b.Burst, b.BurstAddress, b.KnownAddress = o.Rate, o.RateAddress, o.Burst, o.BurstAddress, o.KnownAddress
}

// Stats returns a snapshot.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	s := Stats{Connections: g.conns, Pending: g.pending, Addresses: len(g.addresses)}
	g.mu.Unlock()
	s.Accepted, s.Admitted = g.accepted.Load(), g.admitted.Load()
	s.RefusedAll, s.RefusedAddress, s.RefusedRate = g.refusedAll.Load(), g.refusedAddress.Load(), g.refusedRate.Load()
	s.Displaced, s.TooSlow, s.Waited = g.displaced.Load(), g.tooOld.Load(), g.waited.Load()
	s.Held = g.held.Load()
	return s
}

// enter decides on a new connection that counts for weight: nil means that it is refused. victim, if any, is to be closed in its
// place; wait is how long it is to wait before it goes on.
func (g *Gate) enter(nc net.Conn, weight float64) (c *conn, victim *conn, wait time.Duration) {
	at, ok := addressOf(nc)
	if !ok {
		return &conn{Conn: nc}, nil, 0
	}
	now := g.o.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.known(at, now)
	switch {
	case g.o.Connections >= 0 && g.conns >= g.o.Connections:
		g.refusedAll.Add(1)
		return nil, nil, 0
	case !g.o.Proxied && !g.takes(a, now):
		return nil, nil, 0
	}
	if g.o.Pending >= 0 && g.pending >= g.o.Pending {
		if victim = g.displace(); victim != nil {
			g.displaced.Add(1)
		}
	}
	wait = g.all.delay(now, weight, g.o.Rate, g.o.Burst)
	if wait > 0 {
		g.waited.Add(1)
	}
	g.accepted.Add(1)
	g.conns++
	g.pending++
	g.age++
	a.conns++
	c = &conn{Conn: nc, gate: g, from: at, age: g.age}
	if a.pending == nil {
		a.pending = map[*conn]struct{}{}
	}
	a.pending[c] = struct{}{}
	c.stop = g.o.AfterFunc(g.o.PendingTime+wait, c.expire)
	return c, victim, wait
}

// takes reports whether one more connection of an address may come in, and counts it if not. Called with mu held.
func (g *Gate) takes(a *address, now time.Time) bool {
	switch {
	case g.o.PerAddress >= 0 && a.conns >= g.o.PerAddress:
		g.refusedAddress.Add(1)
		return false
	case !a.rate.take(now, g.o.RateAddress, g.o.BurstAddress):
		g.refusedRate.Add(1)
		return false
	}
	return true
}

// name moves c from its proxy's address to its client's, if that one may have one more.
func (g *Gate) name(c *conn, at netip.Addr) bool {
	now := g.o.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.gone {
		return false
	}
	a := g.known(at, now)
	if !g.takes(a, now) {
		return false
	}
	old := g.addresses[c.from]
	if _, ok := old.pending[c]; ok {
		delete(old.pending, c)
		if a.pending == nil {
			a.pending = map[*conn]struct{}{}
		}
		a.pending[c] = struct{}{}
	}
	old.conns--
	a.conns++
	c.from = at
	return true
}

// known finds an address, or begins to know it. It forgets those without connections when there are too many. Called with
// mu held.
func (g *Gate) known(at netip.Addr, now time.Time) *address {
	if a := g.addresses[at]; a != nil {
		return a
	}
	if len(g.addresses) >= g.sweepAt {
		for old, a := range g.addresses {
			if a.conns == 0 {
				delete(g.addresses, old)
			}
		}
		g.sweepAt = max(g.o.KnownAddress, 2*len(g.addresses)) // else each newcomer would walk over all that are connected
	}
	a := &address{rate: bucket{tokens: float64(g.o.BurstAddress), at: now}}
	g.addresses[at] = a
	return a
}

// displace takes the oldest pending connection of the address that has most of them off the books. Called with mu held.
func (g *Gate) displace() *conn {
	var most *address
	for _, a := range g.addresses {
		if len(a.pending) > 0 && (most == nil || len(a.pending) > len(most.pending)) {
			most = a
		}
	}
	if most == nil {
		return nil
	}
	var oldest *conn
	for c := range most.pending {
		if oldest == nil || c.age < oldest.age {
			oldest = c
		}
	}
	g.settle(oldest)
	return oldest
}

// settle takes c out of what is pending and reports whether it was. Called with mu held.
func (g *Gate) settle(c *conn) bool {
	a := g.addresses[c.from]
	if _, ok := a.pending[c]; !ok {
		return false
	}
	delete(a.pending, c)
	if len(a.pending) == 0 {
		a.pending = nil
	}
	g.pending--
	c.stop()
	return true
}

// leave forgets a closed connection.
func (g *Gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settle(c)
	c.gone = true
	g.conns--
	g.addresses[c.from].conns--
}

// addressOf is what a client is counted under.
func addressOf(nc net.Conn) (netip.Addr, bool) {
	t, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return Address(t.AddrPort().Addr())
}

// Address is what a client with that address is counted under: itself, or the /64 of an IPv6 one.
func Address(a netip.Addr) (netip.Addr, bool) {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, err := a.Prefix(64)
		return p.Addr(), err == nil
	}
	return a, a.IsValid()
}
