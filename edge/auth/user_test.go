package auth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// What is stored is found again, and what could not be stored does not hold.
func TestStoredUsersAndRules(t *testing.T) {
	store := &memory{}
	a := open(t, auth.Options{Store: store})
	ctx := t.Context()
	if err := a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "x1", Groups: []string{"ops"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "x1"}); !errors.Is(err, auth.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	if err := a.AddRules(ctx, rule(t, "allow publish user @ops mqtt a/#"), rule(t, "deny publish mqtt a/b")); err != nil {
		t.Fatal(err)
	}
	store.fail = errors.New("disk is gone")
	for name, err := range map[string]error{
		"add":         a.AddUser(ctx, auth.NewUser{Name: "bob", Password: "x"}),
		"passwd":      a.SetPassword(ctx, "ann", "x2"),
		"delete":      a.DeleteUser(ctx, "ann"),
		"allow":       a.AddRules(ctx, rule(t, "allow all")),
		"delete rule": func() error { _, err := a.DeleteRules(ctx, func(auth.Rule) bool { return true }); return err }(),
	} {
		if !errors.Is(err, store.fail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	store.fail = nil
	for range 2 {
		p, err := a.Password(ctx, "ann", "x1", conn)
		if err != nil || !slices.Equal(p.Groups, []string{"ops"}) {
			t.Fatalf("%+v, %v", p, err)
		}
		if !a.Allow(p, edge.OpPublish, "a/c") || a.Allow(p, edge.OpPublish, "a/b") || a.Allow(p, edge.OpPublish, "c") {
			t.Error("the rules do not hold")
		}
		users, err := json.Marshal(a.Users())
		if err != nil || len(a.Users()) != 1 || bytes.Contains(users, []byte(`"stored_key":"`)) || bytes.Contains(users, []byte(`"salt":"`)) {
			t.Errorf("users are %s", users)
		}
		if rules := a.Rules(); len(rules) != 2 || rules[0].Source != auth.SourceStore {
			t.Errorf("rules are %v", rules)
		}
		a = open(t, auth.Options{Store: store})
	}
	// Deleting everything does not open the door again.
	if err := a.DeleteUser(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.DeleteRules(ctx, func(auth.Rule) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*auth.Authority{a, open(t, auth.Options{Store: store})} {
		if _, err := a.Anonymous(conn); !errors.Is(err, auth.ErrAnonymous) || a.Open() || !a.Configured() {
			t.Errorf("it is open: %v", err)
		}
	}
}

// A rule that cannot be read stops the start: it might be one that denies.
func TestBrokenRuleInTheStore(t *testing.T) {
	store := &memory{data: map[string]map[string][]byte{"acls": {"x": []byte(`{"deny":true`)}}}
	if _, err := auth.New(auth.Options{Store: store}); err == nil || !strings.Contains(err.Error(), "load rule x") {
		t.Error(err)
	}
}

func TestUsersOfAFile(t *testing.T) {
	c, err := auth.NewCredential(auth.SHA512, "x1", 4096, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = auth.ParseCredential(c.String()); err != nil {
		t.Fatal(err)
	}
	a := open(t, auth.Options{Config: auth.Config{Users: []auth.User{{Name: "ann", Credentials: []auth.Credential{c}}}}})
	p, err := a.Password(t.Context(), "ann", "x1", conn)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"add": a.AddUser(t.Context(), auth.NewUser{Name: "bob", Password: "x"}), "passwd": a.SetPassword(t.Context(), "ann", "x2"),
		"delete": a.DeleteUser(t.Context(), "ann"),
	} {
		if !errors.Is(err, auth.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same file again changes nothing; a bad one neither.
	same := auth.Config{Users: []auth.User{{Name: "ann", Credentials: []auth.Credential{c}}}}
	bad := auth.Config{Users: []auth.User{{Name: "ann"}, {Name: "ann"}}}
	if err := a.Reload(same); err != nil || a.Valid(p) != nil {
		t.Errorf("%v, %v", err, a.Valid(p))
	}
	if err := a.Reload(bad); err == nil || a.Valid(p) != nil {
		t.Errorf("%v, %v", err, a.Valid(p))
	}
	if err := a.Reload(auth.Config{Users: []auth.User{}}); err != nil || a.Valid(p) == nil {
		t.Errorf("%v, %v", err, a.Valid(p))
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "a*", "@a", "anonymous", "Anonymous", "a{user}", "a\n", "\xff", strings.Repeat("a", 256)} {
		if err := auth.CheckUserName(name); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "dev-1", "a b", "ü", "a,b=c", "spiffe://x/y", strings.Repeat("a", 255)} {
		if err := auth.CheckUserName(name); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{
		"allow", "permit all", "allow publish", "allow fly mqtt #", "allow publish topic a", "allow read mqtt a/#", "allow all mqtt a/#/b",
		"allow all host here", "allow all user @a*", "allow read topic a{x}", "allow all topic", "allow all cluster topic a", "allow all user",
		"allow publish mqtt a/{user", "allow all user anonymous*x",
	} {
		if r, err := auth.ParseRule(text); err == nil {
			t.Errorf("%q is taken as %q", text, r)
		}
	}
	for _, text := range []string{"", "SCRAM-SHA-256$1:AA==$AA==:AA==", "md5abc", "SCRAM-SHA-256$4096:AA==$AA==:AA==", "SCRAM-SHA-1$4096:AA==$AA==:AA=="} {
		if _, err := auth.ParseCredential(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func certificate(t *testing.T, change func(*x509.Certificate)) *tls.ConnectionState {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: "dev-1"}}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
}

func TestCertificates(t *testing.T) {
	uri, _ := url.Parse("spiffe://plant/dev-7")
	san := func(c *x509.Certificate) { c.URIs, c.DNSNames = []*url.URL{uri}, []string{"other", "gw.plant.example"} }
	for _, c := range []struct {
		name  string
		rules []auth.CertificateRule
		state *tls.ConnectionState
		want  string
		err   error
	}{
		{"common name", nil, certificate(t, nil), "dev-1", nil},
		{"uri", []auth.CertificateRule{{From: "uri", Match: "spiffe://plant/(.+)", User: "$1"}, {From: "cn"}}, certificate(t, san), "dev-7", nil},
		{"second rule", []auth.CertificateRule{{From: "uri", Match: "spiffe://plant/(.+)", User: "$1"}, {From: "cn"}}, certificate(t, nil), "dev-1", nil},
		{"second name", []auth.CertificateRule{{From: "dns", Match: `(.*)\.plant\.example`, User: "gw-$1"}}, certificate(t, san), "gw-gw", nil},
		{"the whole must match", []auth.CertificateRule{{From: "cn", Match: "dev"}}, certificate(t, nil), "", auth.ErrDenied},
		{"no name", nil, certificate(t, func(c *x509.Certificate) { c.Subject.CommonName = "" }), "", auth.ErrDenied},
		{"a pattern", nil, certificate(t, func(c *x509.Certificate) { c.Subject.CommonName = "dev-*" }), "", auth.ErrDenied},
		{"anonymous", nil, certificate(t, func(c *x509.Certificate) { c.Subject.CommonName = "Anonymous" }), "", auth.ErrDenied},
		{"not verified", nil, &tls.ConnectionState{PeerCertificates: certificate(t, nil).PeerCertificates}, "", auth.ErrAnonymous},
		{"no TLS", nil, nil, "", auth.ErrAnonymous},
	} {
		a := open(t, auth.Options{Config: auth.Config{Certificates: c.rules, Anonymous: auth.AnonymousNo}})
		p, err := a.Certificate(auth.Conn{TLS: c.state})
		if !errors.Is(err, c.err) || err == nil && (p.Name != c.want || p.Method != auth.MethodCertificate || p.Expires.IsZero()) {
			t.Errorf("%s: %+v, %v", c.name, p, err)
		}
		if q, err2 := a.Login(t.Context(), "", "", auth.Conn{TLS: c.state}); !errors.Is(err2, c.err) || err == nil && q.Name != c.want {
			t.Errorf("%s: Login: %+v, %v", c.name, q, err2)
		}
	}
}

// A clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestWhoFailsOftenWaits(t *testing.T) {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	a := open(t, auth.Options{Now: c.Now})
	ctx := t.Context()
	if err := a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "right"}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddUser(ctx, auth.NewUser{Name: "new", Password: "right"}); err != nil {
		t.Fatal(err)
	}
	good := func(user, addr string) error {
		_, err := a.Password(ctx, user, "right", auth.Conn{Addr: addr})
		return err
	}
	if err := good("ann", "10.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	attack := func(addr string) (tried int, last error) {
		for i := range 50 {
			if _, last = a.Password(ctx, "root", fmt.Sprint(i), auth.Conn{Addr: addr}); errors.Is(last, auth.ErrThrottled) {
				return i, last
			}
		}
		return 50, last
	}
	tried, err := attack("10.0.0.1:2")
	throttled, ok := errors.AsType[*auth.ThrottledError](err)
	if tried > 15 || !ok || throttled.RetryAfter <= 0 {
		t.Fatalf("%d tries, then %v", tried, err)
	}
	if err := good("new", "10.0.0.1:3"); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("a user that never came from there: %v", err)
	}
	if err := good("ann", "10.0.0.1:4"); err != nil {
		t.Errorf("a neighbour that logged in before: %v", err)
	}
	if err := good("new", "10.0.0.2:1"); err != nil {
		t.Errorf("another address: %v", err)
	}
	e, _ := a.Begin(auth.SHA256, auth.Conn{Addr: "10.0.0.1:5"})
	if _, _, err := e.Step(ctx, []byte("n,,n=root,r=abc")); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("SCRAM: %v", err)
	}
	c.forward(throttled.RetryAfter + time.Second)
	if err := good("new", "10.0.0.1:6"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// It gets longer, to a minute, and is forgotten in the end.
	longest := time.Duration(0)
	for range 30 {
		_, err := a.Password(ctx, "root", "x", auth.Conn{Addr: "10.0.0.1:2"})
		if e, ok := errors.AsType[*auth.ThrottledError](err); ok {
			longest = max(longest, e.RetryAfter)
			c.forward(e.RetryAfter)
		}
	}
	if longest < 2*time.Second || longest > time.Minute {
		t.Errorf("the longest wait is %v", longest)
	}
	// IPv6 hosts have a /64 to choose from; an attacker with many addresses costs bounded memory.
	for i := range 60 {
		if _, err = a.Password(ctx, "root", "x", auth.Conn{Addr: fmt.Sprintf("[2001:db8::%x]:1", i+1)}); errors.Is(err, auth.ErrThrottled) {
			break
		}
	}
	if !errors.Is(err, auth.ErrThrottled) {
		t.Error("a /64 is not one host")
	}
	// The admin socket and other unix sockets have no address.
	for range 40 {
		if _, err := a.Password(ctx, "root", "x", auth.Conn{Addr: "@"}); !errors.Is(err, auth.ErrDenied) {
			t.Fatal(err)
		}
	}
}

// A flood of failures does not fill log or topic; what administrators do is always there.
func TestAuditIsBounded(t *testing.T) {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	var log bytes.Buffer
	a := open(t, auth.Options{Now: c.Now, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	var mu sync.Mutex
	var events []auth.Event
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	started := make(chan struct{}, 1)
	go func() {
		defer close(done)
		a.Start(ctx, func(_ context.Context, batch [][]byte) error {
			mu.Lock()
			defer mu.Unlock()
			for _, b := range batch {
				var e auth.Event
				if err := json.Unmarshal(b, &e); err != nil {
					t.Error(err)
				}
				events = append(events, e)
			}
			select {
			case started <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	for { // until Start has its queue
		a.Record(auth.Event{What: "first", Allowed: true})
		select {
		case <-started:
		case <-time.After(time.Millisecond):
			continue
		}
		break
	}
	for i := range 5000 {
		if i < 20 {
			_, _ = a.Password(ctx, strings.Repeat("x", 100), "wrong", auth.Conn{Addr: fmt.Sprintf("10.0.0.%d:1", i), Protocol: "mqtt"})
		} else {
			a.Record(auth.Event{What: "login", Who: strings.Repeat("x", 100_000)})
		}
		if i%100 == 0 {
			a.Record(auth.Event{Who: "ann", What: "topic.delete", Resource: "t", Allowed: true})
		}
	}
	c.forward(time.Second)
	_, _ = a.Password(ctx, "last", "wrong", auth.Conn{Addr: "10.1.0.1:1"})
	cancel()
	<-done
	failures, deletions, suppressed := 0, 0, uint64(0)
	for _, e := range events {
		switch e.What {
		case "login":
			failures++
		case "topic.delete":
			deletions++
		}
		suppressed += e.Suppressed
	}
	if failures > 250 || failures < 100 || deletions != 50 || suppressed < 4700 {
		t.Errorf("%d failures, %d deletions, %d suppressed", failures, deletions, suppressed)
	}
	if n := strings.Count(log.String(), "\n"); n > 400+len(events) {
		t.Errorf("%d lines in the log", n)
	}
	for _, secret := range []string{`"wrong"`} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

// Kafka's changes are all or none, and say which was at fault.
func TestPutCredentials(t *testing.T) {
	a := open(t, auth.Options{})
	ctx := t.Context()
	c256, _ := auth.NewCredential(auth.SHA256, "x1", 8192, rand.Reader)
	c512, _ := auth.NewCredential(auth.SHA512, "x1", 4096, rand.Reader)
	if at, err := a.PutCredentials(ctx, []auth.CredentialChange{{User: "ann", Credential: c512}, {User: "ann", Credential: c256}, {User: "bob", Credential: c512}}); err != nil {
		t.Fatal(at, err)
	}
	for _, user := range []string{"ann", "bob"} {
		if _, err := a.Password(ctx, user, "x1", conn); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	at, err := a.PutCredentials(ctx, []auth.CredentialChange{{User: "ann", Drop: auth.SHA512}, {User: "bob", Drop: auth.SHA256}})
	if at != 1 || !errors.Is(err, auth.ErrNoCredential) {
		t.Errorf("%d, %v", at, err)
	}
	if u, err := a.User("ann"); err != nil || len(u.Credentials) != 2 {
		t.Errorf("%+v, %v", u, err)
	}
	if at, err = a.PutCredentials(ctx, []auth.CredentialChange{{User: "ann", Drop: auth.SHA512}, {User: "bob", Drop: auth.SHA512}}); err != nil {
		t.Fatal(at, err)
	}
	if _, err := a.User("bob"); !errors.Is(err, auth.ErrNoUser) {
		t.Errorf("bob: %v", err)
	}
	if _, err := a.Password(ctx, "ann", "x1", conn); err != nil {
		t.Error(err)
	}
	// A disabled user keeps its certificates and tokens out, also when it has no password any more.
	if err := a.UpdateUser(ctx, "ann", func(u *auth.User) error { u.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutCredentials(ctx, []auth.CredentialChange{{User: "ann", Drop: auth.SHA256}}); err != nil {
		t.Fatal(err)
	}
	if u, err := a.User("ann"); err != nil || !u.Disabled {
		t.Errorf("disabled ann: %+v, %v", u, err)
	}
}
