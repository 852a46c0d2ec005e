package auth

import "sync/atomic"

type counters struct{ logins, failed, throttled, denied atomic.Uint64 }

// Stats are counts since New.
type Stats struct {
	Logins    uint64 // that succeeded
	Failed    uint64
	Throttled uint64 // that were not looked at, since their address failed too often
	Denied    uint64 // operations, as far as they were asked about afresh
	Users     int
	Rules     int
}

// Stats returns a snapshot.
func (a *Authority) Stats() Stats {
	return Stats{
		Logins: a.stats.logins.Load(), Failed: a.stats.failed.Load(), Throttled: a.stats.throttled.Load(), Denied: a.stats.denied.Load(),
		Users: len(a.state.Load().users), Rules: len(a.Rules()),
	}
}
