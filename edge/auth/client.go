package auth

import "rivulet/edge"

// WithClient is the login under another client id, which a Kafka client may change with every request. What was decided for the old
// one is not remembered for the new one, since rules may speak of {client}.
func (a *Authority) WithClient(p *edge.Principal, client string) *edge.Principal {
	renamed := *p
	renamed.Client = client
	if s, ok := p.Session.(*session); ok {
		renamed.Session = s.anew()
	}
	return &renamed
}

// WithAddr is the login used from another address, host:port, as that of a cookie is: rules may speak of hosts. p may be changed.
func (a *Authority) WithAddr(p *edge.Principal, addr string) *edge.Principal {
	moved := *p
	moved.Addr = addr
	if s, ok := p.Session.(*session); ok && s.addr != addrOf(addr) {
		other := s.anew()
		other.addr = addrOf(addr)
		moved.Session = other
	}
	return &moved
}

// anew is the same login, which remembers no decision.
func (s *session) anew() *session {
	return &session{
		a: s.a, user: s.user, kept: s.kept, version: s.version, record: s.record, key: s.key, expires: s.expires, addr: s.addr, chains: s.chains,
	}
}
