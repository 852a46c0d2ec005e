package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/edge"
)

// Errors of logins and of changes. A front end tells its client no more than which of them it was.
var (
	// ErrDenied is a wrong user name, password, token or certificate; which of them is in the log alone.
	ErrDenied = errors.New("user name or password is wrong")
	// ErrAnonymous: the client did not say who it is, and has to.
	ErrAnonymous = errors.New("login needed")
	// ErrThrottled is a ThrottledError.
	ErrThrottled = errors.New("too many failed logins")
	// ErrMechanism: unknown, or not configured.
	ErrMechanism = errors.New("login mechanism is not supported")
	// ErrReadOnly: users or rules that a file declares are changed there.
	ErrReadOnly = errors.New("managed by a file")
	ErrNoUser   = errors.New("no such user")
	ErrNoRule   = errors.New("no such rule")
	ErrInvalid  = errors.New("invalid")
	ErrExists   = errors.New("user exists")
)

// ThrottledError is the refusal of an address that failed too often. It is an ErrThrottled.
type ThrottledError struct{ RetryAfter time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%v from this address; try again in %v", ErrThrottled, e.RetryAfter.Round(time.Second))
}

// Is makes it an ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// Store keeps users and rules; *storage.Store is one.
type Store interface {
	Do(ctx context.Context, c *edge.Commit) error
	Scan(space, prefix string, fn func(key string, value []byte) bool) error
}

// Options of an authority. The zero value of every field but Store is its default.
type Options struct {
	Store Store
	Edge  string // the id of this edge, for {edge}
	Config
	// Changed is called after every change, before the change returns; it must not block, nor call the authority. For edge.Broker.PermissionsChanged.
	Changed func()
	Log     *slog.Logger
	Now     func() time.Time
	Rand    io.Reader // salts, nonces; default crypto/rand
}

// Config is what Reload may change.
type Config struct {
	// Anonymous says whether who does not log in is let in. AnonymousUnset: only while there is no user, and no other way to log in.
	Anonymous Anonymous
	// Users of a file. Nil: users are kept in the store. Not nil, even if empty: the store's are ignored, and changes are refused.
	Users []User
	Rules []Rule // of a file; those of the store come besides
	JWT   *JWT   // nil: tokens are refused
	// Certificates say which user a client certificate stands for; the first that fits counts. Nil: its common name.
	Certificates []CertificateRule
	// Revoked are the client certificates that their authorities took back: of the lists of all listeners. A connection with one of them ends.
	Revoked    []*Revoked
	Default    Default // what holds where no rule speaks
	Iterations int     // of PBKDF2 for new passwords; default 4096, as Kafka's, 0.5 to 3 ms a check
}

// Anonymous is a yes, a no, or neither.
type Anonymous uint8

// What is said about clients that do not log in.
const (
	AnonymousUnset Anonymous = iota
	AnonymousYes
	AnonymousNo
)

// Default is what holds where no rule speaks.
type Default uint8

// The defaults.
const (
	// DefaultByUse denies as soon as somebody can log in or a rule exists; before that, everything is allowed.
	DefaultByUse Default = iota
	DefaultDeny
	DefaultAllow // all but administration: what is on the cluster, plugins and sync needs a rule
)

// Authority knows users and rules. All methods may be called by many goroutines.
type Authority struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	seed    maphash.Seed
	secret  []byte        // of this store, for salts of users that do not exist
	hashing chan struct{} // as many as may compute a password's hash at once
	waiting atomic.Int64  // for hashing, or at it
	known   knownPasswords
	limiter *limiter
	audit   *audit
	stats   counters
	state   atomic.Pointer[state]

	mu       sync.Mutex // guards what follows, and changes of state
	config   Config
	stored   map[string]*User // of the store
	rules    map[string]Rule  // of the store, by id
	required bool             // a user or a rule was once in the store
	watchers map[int]func()
	watched  int
}

// state is what logins and decisions look at. It is never changed, only replaced.
type state struct {
	generation   uint64
	users        map[string]*User
	compiled     *compiled
	jwt          *verifier
	certificates []certificateRule
	revoked      []*Revoked
	anonymous    bool
	unsaid       bool // anonymous for want of a configuration
	login        bool // somebody can log in, or has to
	open         bool // everything is allowed where no rule denies
	fallback     Default
	iterations   int // of new credentials
}

// New loads users and rules from the store.
func New(o Options) (*Authority, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	a := &Authority{
		o: o, log: o.Log, now: o.Now, seed: maphash.MakeSeed(), hashing: make(chan struct{}, max(1, min(runtime.NumCPU(), runtime.GOMAXPROCS(0))/2)),
		limiter: newLimiter(), stored: map[string]*User{}, rules: map[string]Rule{}, watchers: map[int]func(){},
	}
	a.audit = newAudit(a.log, a.now)
	if err := a.known.init(o.Rand); err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, a.Reload(o.Config)
}

// Reload replaces what files say. A configuration that is at fault changes nothing.
func (a *Authority) Reload(c Config) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.config
	a.config = c
	if err := a.publish(); err != nil {
		a.config = old
		return err
	}
	return nil
}

// Check says why Reload would refuse a configuration; it changes nothing.
func (a *Authority) Check(c Config) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.makeState(&c)
	return err
}

// publish makes a new state of what is configured and stored, and tells who watches. a.mu is held.
func (a *Authority) publish() error {
	st, err := a.makeState(&a.config)
	if err != nil {
		return err
	}
	a.state.Store(st)
	if a.o.Changed != nil {
		a.o.Changed()
	}
	for _, fn := range a.watchers {
		go fn()
	}
	return nil
}

// makeState is what a configuration comes to, with what is stored. a.mu is held.
func (a *Authority) makeState(c *Config) (*state, error) {
	st := &state{generation: 1, fallback: c.Default, iterations: cmp.Or(c.Iterations, DefaultIterations)}
	if st.iterations < MinIterations || st.iterations > MaxIterations {
		return nil, fmt.Errorf("%w: %d iterations, want %d to %d", ErrInvalid, st.iterations, MinIterations, MaxIterations)
	}
	if old := a.state.Load(); old != nil {
		st.generation = old.generation + 1
	}
	var err error
	if st.users, err = a.usersNow(c); err != nil {
		return nil, err
	}
	all := append([]Rule(nil), c.Rules...)
	for _, id := range sortedKeys(a.rules) {
		all = append(all, a.rules[id])
	}
	if st.compiled, err = compile(all, a.o.Edge); err != nil {
		return nil, err
	}
	if st.certificates, err = compileCertificates(c.Certificates); err != nil {
		return nil, err
	}
	if c.JWT != nil {
		if st.jwt, err = newVerifier(*c.JWT, a.now); err != nil {
			return nil, err
		}
	}
	st.revoked = c.Revoked
	configured := c.Users != nil || c.JWT != nil || c.Certificates != nil || c.Anonymous == AnonymousNo || a.required
	st.login = configured
	st.anonymous = c.Anonymous == AnonymousYes || c.Anonymous == AnonymousUnset && !configured
	st.unsaid = st.anonymous && c.Anonymous == AnonymousUnset
	st.open = c.Default == DefaultByUse && !configured && len(all) == 0
	return st, nil
}

// Configured reports whether somebody can log in or has to, so that a listener may be open to the network.
func (a *Authority) Configured() bool { return a.state.Load().login }

// AllowsAnonymous reports whether who does not log in is let in.
func (a *Authority) AllowsAnonymous() bool { return a.state.Load().anonymous }

// OpenUnsaid reports whether clients that do not log in are let in although nobody said so: a fresh broker, on loopback.
func (a *Authority) OpenUnsaid() bool { return a.state.Load().unsaid }

// Open reports whether everything is allowed to everyone, as long as no rule denies it.
func (a *Authority) Open() bool {
	st := a.state.Load()
	return st.open && st.anonymous
}

// Usable reports whether there is somebody who may do anything, as far as can be told: a rule, or a default that allows.
func (a *Authority) Usable() bool {
	st := a.state.Load()
	return st.open || st.fallback == DefaultAllow || len(a.Rules()) > 0
}

// Watch has fn called, on a goroutine of its own, after users or rules changed. A front end then ends the connections whose
// principal is not Valid any more, and asks again for what it allowed for longer than one request, such as subscriptions.
func (a *Authority) Watch(fn func()) (stop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched++
	id := a.watched
	a.watchers[id] = fn
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, id)
	}
}

// Conn is what a login knows of its connection.
type Conn struct {
	Addr     string // of the other side, host:port; "" or @ for a unix socket
	Client   string // MQTT or Kafka client id, if it is known yet
	Protocol string // mqtt, kafka, http: for the audit log
	TLS      *tls.ConnectionState
}
