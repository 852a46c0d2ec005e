package auth

import "rivulet/edge"

// WithClient is the login under another client id, which a Kafka client may change with every request. What was decided for the old
// one is not remembered for the new one, since rules may speak of {client}.
func (a *Authority) WithClient(p *edge.Principal, client string) *edge.Principal {
	renamed := *p
	renamed.Client = client
	if s, ok := p.Session.(*session); ok {
		renamed.Session = &session{a: s.a, user: s.user, kept: s.kept, version: s.version, expires: s.expires, addr: s.addr}
	}
	return &renamed
}
