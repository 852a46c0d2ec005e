package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"rivulet/edge"
)

// Methods of a login, as principals and the audit log name them. SCRAM's are the mechanisms' names.
const (
	MethodAnonymous   = "anonymous"
	MethodPassword    = "password"
	MethodToken       = "token"
	MethodCertificate = "certificate"
	MethodSocket      = "socket"
)

// session is what the authority keeps of a login.
type session struct {
	a       *Authority
	user    string
	kept    bool     // the user is one of state.users, and must still be, with
	version uint64   // this version
	record  bool     // its groups are those of the user's record, if it has one
	key     keyPrint // that signed its token, and must still be one of ours
	expires int64    // UnixNano; 0: never
	addr    netip.Addr
	chains  [][]*x509.Certificate // of the client's certificate, whatever it logged in by
	slots   atomic.Pointer[slots]
}

// principal finishes a login.
func (a *Authority) principal(c Conn, name, method string) (*edge.Principal, *session) {
	s := &session{a: a, user: name, addr: addrOf(c.Addr)}
	if c.TLS != nil {
		s.chains = c.TLS.VerifiedChains
	}
	return &edge.Principal{Name: name, Client: c.Client, Addr: c.Addr, Method: method, Session: s}, s
}

// keptUser finishes the login of a user with a record.
func (a *Authority) keptUser(c Conn, u *User, method string) *edge.Principal {
	p, s := a.principal(c, u.Name, method)
	p.Groups = u.Groups
	s.kept, s.version, s.record = true, u.Version, true
	return p
}

func addrOf(hostport string) netip.Addr {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// Anonymous lets in who did not log in, where that is configured; else ErrAnonymous.
func (a *Authority) Anonymous(c Conn) (*edge.Principal, error) {
	if !a.state.Load().anonymous {
		return nil, ErrAnonymous
	}
	p, _ := a.principal(c, "", MethodAnonymous)
	return p, nil
}

// Owner is the principal of the admin socket, which the file system lets nobody but the data directory's owner reach.
func (a *Authority) Owner(c Conn) *edge.Principal {
	p, _ := a.principal(c, "", MethodSocket)
	p.Super = true
	return p
}

// Password checks a user's password, in about a millisecond, or a token in its place. It waits while too many are being checked.
// Errors: ErrDenied, ErrThrottled, ctx's.
func (a *Authority) Password(ctx context.Context, user, password string, c Conn) (*edge.Principal, error) {
	return a.password(ctx, user, password, c, MethodPassword)
}

func (a *Authority) password(ctx context.Context, user, password string, c Conn, method string) (*edge.Principal, error) {
	if looksLikeToken(password) && a.state.Load().jwt != nil {
		p, err := a.Token(ctx, password, c)
		if err == nil && user != "" && user != p.Name {
			return nil, a.failed(c, user, MethodToken, "the token is another user's")
		}
		return p, err
	}
	paid, err := a.limiter.check(a.now(), c.Addr, user)
	if err != nil {
		return nil, a.throttled(c, user, method, err)
	}
	if len(user) > 255 || len(password) > MaxPassword {
		return nil, a.failed(c, "", method, "user name or password is too long")
	}
	u, credential := a.credentialOf(user, "")
	mark := a.known.mark(user, password, credential)
	if !a.known.has(mark) {
		var throttled error
		err := a.hash(ctx, func() {
			// Others from there may have failed while this one waited. Failures count before the next one's turn.
			if !paid {
				if _, throttled = a.limiter.check(a.now(), c.Addr, user); throttled != nil {
					return
				}
			}
			if u = checked(u, credential, password); u == nil {
				a.limiter.failed(a.now(), c.Addr)
			}
		})
		switch {
		case err != nil:
			return nil, err
		case throttled != nil:
			return nil, a.throttled(c, user, method, throttled)
		case u == nil:
			return nil, a.refused(c, user, method, "no such user, or wrong password")
		}
		a.known.add(mark)
	}
	if u.Disabled {
		return nil, a.failed(c, user, method, "user is disabled")
	}
	a.loggedIn(c, u.Name, method)
	return a.keptUser(c, u, method), nil
}

func checked(u *User, c Credential, password string) *User {
	if !c.matches(password) {
		return nil
	}
	return u
}

// credentialOf finds what a password is checked by: of the mechanism, or, with "", the first. A user that does not exist gets one
// that no password fits, the same each time, so that neither time nor salt tells who exists (RFC 5802, 9).
func (a *Authority) credentialOf(user, mechanism string) (*User, Credential) {
	u := a.state.Load().users[user]
	if u != nil {
		if mechanism == "" && len(u.Credentials) > 0 {
			return u, u.Credentials[0]
		}
		if c, ok := u.credential(mechanism); ok {
			return u, c
		}
	}
	if mechanism == "" {
		mechanism = SHA256
	}
	h := hashOf(mechanism)
	return nil, Credential{
		Mechanism: mechanism, Iterations: a.state.Load().iterations,
		Salt:      sum(sha256.New, a.secret, "salt\x00", mechanism, "\x00", user)[:saltBytes],
		StoredKey: sum(h, a.secret, "stored\x00", user), ServerKey: sum(h, a.secret, "server\x00", user),
	}
}

// Waiting is how many passwords wait to be checked. Who lets clients in lets them in more slowly then.
func (a *Authority) Waiting() int { return int(a.waiting.Load()) }

// Heavy runs what takes a processor for a millisecond, such as a signature with an RSA key, when there is one for it: with the
// passwords, in the order in which they came.
func (a *Authority) Heavy(ctx context.Context, fn func()) error { return a.hash(ctx, fn) }

// hash runs fn when there is a processor for it, for who came first first.
func (a *Authority) hash(ctx context.Context, fn func()) error {
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	select {
	case a.hashing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for a processor: %w", ctx.Err())
	}
	defer func() { <-a.hashing }()
	defer giveWay()()
	fn()
	return nil
}

// Token checks a JWT. Errors: ErrDenied, ErrThrottled, ErrMechanism when none are taken.
func (a *Authority) Token(_ context.Context, token string, c Conn) (*edge.Principal, error) {
	st := a.state.Load()
	if st.jwt == nil {
		return nil, fmt.Errorf("%w: tokens; configure auth.jwt", ErrMechanism)
	}
	if _, err := a.limiter.check(a.now(), c.Addr, ""); err != nil {
		return nil, a.throttled(c, "", MethodToken, err)
	}
	claims, err := st.jwt.verify(token)
	if err != nil {
		return nil, a.failed(c, "", MethodToken, err.Error())
	}
	if u := st.users[claims.user]; u != nil && u.Disabled {
		return nil, a.failed(c, claims.user, MethodToken, "user is disabled")
	}
	p, s := a.principal(c, claims.user, MethodToken)
	p.Groups, p.Expires, s.key = claims.groups, claims.expires, claims.key
	if !p.Expires.IsZero() {
		s.expires = p.Expires.UnixNano()
	}
	a.loggedIn(c, p.Name, MethodToken)
	return p, nil
}

// Certificate is whom the connection's verified client certificate stands for. ErrAnonymous when there is none, ErrDenied
// when no rule makes a user of it.
func (a *Authority) Certificate(c Conn) (*edge.Principal, error) {
	if c.TLS == nil || len(c.TLS.VerifiedChains) == 0 || len(c.TLS.VerifiedChains[0]) == 0 {
		return nil, ErrAnonymous
	}
	st := a.state.Load()
	cert := c.TLS.VerifiedChains[0][0]
	if err := st.notRevoked(c.TLS.VerifiedChains); err != nil {
		return nil, a.failed(c, "", MethodCertificate, err.Error())
	}
	name, err := userOfCertificate(st.certificates, cert)
	if err != nil {
		return nil, a.failed(c, "", MethodCertificate, err.Error())
	}
	u := st.users[name]
	if u != nil && u.Disabled {
		return nil, a.failed(c, name, MethodCertificate, "user is disabled")
	}
	p, s := a.principal(c, name, MethodCertificate)
	s.record = true
	if u != nil {
		p.Groups = u.Groups
	}
	p.Expires = cert.NotAfter
	s.expires = cert.NotAfter.UnixNano()
	a.loggedIn(c, name, MethodCertificate)
	return p, nil
}

// Login is what a front end without mechanisms has: what the client said, else its certificate, else nothing. user and password are
// "" when it sent none.
func (a *Authority) Login(ctx context.Context, user, password string, c Conn) (*edge.Principal, error) {
	if user != "" || password != "" {
		return a.Password(ctx, user, password, c)
	}
	p, err := a.Certificate(c)
	if errors.Is(err, ErrAnonymous) {
		return a.Anonymous(c)
	}
	return p, err
}

// Valid says why a login does not hold any more, nil while it does: its user is deleted or disabled, its password changed, its
// token or certificate has expired, the key that signed the token was taken out of the configuration, the certificate was revoked or stands for
// another user by now, or anonymous clients are not let in any more. It is called after Watch's call, not for each message.
func (a *Authority) Valid(p *edge.Principal) error {
	s, ok := p.Session.(*session)
	if !ok {
		return nil
	}
	st := a.state.Load()
	if err := a.valid(st, p, s); err != nil {
		return err
	}
	if p.Method == MethodCertificate && len(s.chains) > 0 {
		if name, err := userOfCertificate(st.certificates, s.chains[0][0]); err != nil || name != s.user {
			return fmt.Errorf("%w: the certificate of %s stands for another user now", ErrDenied, s.user)
		}
	}
	return nil
}

func (a *Authority) valid(st *state, p *edge.Principal, s *session) error {
	if s.expires != 0 && a.now().UnixNano() >= s.expires {
		return fmt.Errorf("%w: the login has expired", ErrDenied)
	}
	if err := st.notRevoked(s.chains); err != nil {
		return err
	}
	switch p.Method {
	case MethodSocket:
		return nil
	case MethodAnonymous:
		if !st.anonymous {
			return ErrAnonymous
		}
		return nil
	case MethodToken:
		if s.key != (keyPrint{}) && !st.jwt.has(s.key) {
			return fmt.Errorf("%w: the key of the token is not taken any more", ErrDenied)
		}
	}
	u := st.users[s.user]
	switch {
	case s.kept && u == nil:
		return fmt.Errorf("%w: user %s is deleted", ErrDenied, s.user)
	case s.kept && u.Version != s.version:
		return fmt.Errorf("%w: the password of %s was changed", ErrDenied, s.user)
	case u != nil && u.Disabled:
		return fmt.Errorf("%w: user %s is disabled", ErrDenied, s.user)
	}
	return nil
}

// holds is valid for a principal whose login was in another life of the broker, as that of a stored will: there is no more of it than its
// name and method.
func (st *state) holds(p *edge.Principal) error {
	u := st.users[p.Name]
	switch p.Method {
	case MethodPassword, MechanismPlain, SHA256, SHA512:
		if u == nil {
			return fmt.Errorf("%w: user %s is deleted", ErrDenied, p.Name)
		}
	case MethodAnonymous:
		if !st.anonymous {
			return ErrAnonymous
		}
	}
	if u != nil && u.Disabled {
		return fmt.Errorf("%w: user %s is disabled", ErrDenied, p.Name)
	}
	return nil
}

// asOfNow is p with the groups that its user's record has now; those of a token stay.
func (st *state) asOfNow(p *edge.Principal, s *session) *edge.Principal {
	switch {
	case s != nil && s.record:
	case s == nil && recorded(p.Method):
	default:
		return p
	}
	var groups []string
	if u := st.users[p.Name]; u != nil {
		groups = u.Groups
	}
	if slices.Equal(groups, p.Groups) {
		return p
	}
	now := *p
	now.Groups = groups
	return &now
}

// recorded reports whether a login by that method takes its groups from the user's record.
func recorded(method string) bool {
	switch method {
	case MethodPassword, MechanismPlain, SHA256, SHA512, MethodCertificate:
		return true
	}
	return false
}

// notRevoked asks all lists.
func (st *state) notRevoked(chains [][]*x509.Certificate) error {
	for _, r := range st.revoked {
		if err := r.Check(chains); err != nil {
			return err
		}
	}
	return nil
}

// failed counts and records a failed login. What was wrong goes to the log, never to the client.
func (a *Authority) failed(c Conn, user, method, why string) error {
	a.limiter.failed(a.now(), c.Addr)
	return a.refused(c, user, method, why)
}

// refused is failed for what the limiter knows of.
func (a *Authority) refused(c Conn, user, method, why string) error {
	a.stats.failed.Add(1)
	a.audit.record(Event{Who: claimed(user), From: c.Addr, Client: c.Client, Protocol: c.Protocol, What: "login", Resource: method, Detail: why})
	return ErrDenied
}

func (a *Authority) throttled(c Conn, user, method string, err error) error {
	a.stats.throttled.Add(1)
	a.audit.record(Event{Who: claimed(user), From: c.Addr, Client: c.Client, Protocol: c.Protocol, What: "login", Resource: method, Detail: "too many failed logins from this address"})
	return err
}

func (a *Authority) loggedIn(c Conn, user, method string) {
	a.stats.logins.Add(1)
	a.limiter.succeeded(a.now(), c.Addr, user)
	a.audit.record(Event{Who: user, From: c.Addr, Client: c.Client, Protocol: c.Protocol, What: "login", Resource: method, Allowed: true})
}

// claimed is a name that was not believed, for the audit log. Some clients send a token as their name.
func claimed(user string) string {
	if looksLikeToken(user) {
		return "(a token)"
	}
	return user
}

func looksLikeToken(password string) bool {
	return strings.HasPrefix(password, "eyJ") && strings.Count(password, ".") == 2
}
