package auth

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Bounds of failed logins from one address. What an attacker gets is a try a second, at no cost but a lookup to us; a device whose
// password was mistyped gets its answer at once for the first tries.
const (
	freeFailures  = 10 // at once
	refill        = time.Second
	longestWait   = time.Minute
	maxAddresses  = 4096
	maxKnownPairs = 16384
)

// limiter makes addresses that fail often wait. An address is an IPv4 address or an IPv6 /64, which is what one host can choose
// freely. Behind one address may be many devices: a user that logged in from there before is not kept waiting for the others'
// failures, unless it is that user's own password that is tried.
type limiter struct {
	seed maphash.Seed

	mu        sync.Mutex // guards what follows
	failures  map[netip.Addr]*failing
	good, old map[uint64]int // hashes of address and user that logged in → free tries; two generations, as in knownPasswords
}

// failing is a bucket of free failures; when it is in debt, the address waits until it is paid back. Each debt is twice the last,
// until the bucket is full again.
type failing struct {
	free float64
	debt float64 // the last one
	at   time.Time
}

func newLimiter() *limiter {
	return &limiter{seed: maphash.MakeSeed(), failures: map[netip.Addr]*failing{}, good: map[uint64]int{}}
}

// block is the part of an address that is counted together.
func block(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		p, err := addr.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return addr
}

func (l *limiter) pair(addr netip.Addr, user string) uint64 {
	return maphash.String(l.seed, addr.String()+"\x00"+user)
}

// check returns a *ThrottledError when the address has to wait. A unix socket has no address and never waits. paid says that the user's own
// tries were used: a login that asks again, since it had to wait for a processor, does so only if it was not.
func (l *limiter) check(now time.Time, from, user string) (paid bool, err error) {
	addr := block(addrOf(from))
	if !addr.IsValid() {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failures[addr]
	if f == nil {
		return false, nil
	}
	f.pay(now)
	if f.free >= 0 {
		return false, nil
	}
	if user != "" {
		pair := l.pair(addr, user)
		for _, m := range [...]map[uint64]int{l.good, l.old} {
			if n := m[pair]; n > 0 {
				m[pair] = n - 1 // tries of its own, given back when it succeeds
				return true, nil
			}
		}
	}
	return false, &ThrottledError{RetryAfter: time.Duration(-f.free * float64(refill))}
}

func (f *failing) pay(now time.Time) {
	if d := now.Sub(f.at); d > 0 {
		f.free = min(f.free+float64(d)/float64(refill), freeFailures)
	}
	if f.at = now; f.free >= freeFailures {
		f.debt = 0
	}
}

// failed counts a failure. Each one after the free ones makes the wait longer.
func (l *limiter) failed(now time.Time, from string) {
	addr := block(addrOf(from))
	if !addr.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failures[addr]
	if f == nil {
		if len(l.failures) >= maxAddresses {
			l.forget(now)
		}
		f = &failing{free: freeFailures, at: now}
		l.failures[addr] = f
	}
	f.pay(now)
	if f.free >= 1 {
		f.free--
		return
	}
	f.debt = min(max(2*f.debt, 1), float64(longestWait/refill))
	f.free = -f.debt
}

// forget makes room: those that have paid, else any. An attacker with thousands of addresses gets a few tries from each more.
func (l *limiter) forget(now time.Time) {
	for addr, f := range l.failures {
		if f.pay(now); f.free >= freeFailures {
			delete(l.failures, addr)
		}
	}
	for addr := range l.failures {
		if len(l.failures) < maxAddresses {
			return
		}
		delete(l.failures, addr)
	}
}

// succeeded remembers that this user comes from there.
func (l *limiter) succeeded(_ time.Time, from, user string) {
	addr := block(addrOf(from))
	if !addr.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.good) >= maxKnownPairs/2 {
		l.good, l.old = map[uint64]int{}, l.good
	}
	l.good[l.pair(addr, user)] = freeFailures
}
