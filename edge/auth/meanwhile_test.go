package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
)

// What changes while somebody is logged in holds for the logins that are there.

func TestGroupsThatChange(t *testing.T) {
	a := open(t, auth.Options{})
	ctx := t.Context()
	if err := a.AddUser(ctx, auth.NewUser{Name: "ann", Password: "x1", Groups: []string{"ops"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddUser(ctx, auth.NewUser{Name: "dev-1", Groups: []string{"ops"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddRules(ctx, rule(t, "allow all user @ops"), rule(t, "deny publish user @out mqtt #")); err != nil {
		t.Fatal(err)
	}
	byPassword, err := a.Password(ctx, "ann", "x1", conn)
	if err != nil {
		t.Fatal(err)
	}
	byCertificate, err := a.Certificate(auth.Conn{TLS: certificate(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	ofWill := &edge.Principal{Name: "ann", Groups: []string{"ops"}, Method: auth.SHA256} // of a stored will: without a session
	set := func(groups ...string) {
		t.Helper()
		for _, name := range []string{"ann", "dev-1"} {
			if err := a.UpdateUser(ctx, name, func(u *auth.User) error { u.Groups = groups; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		groups          []string
		publish, create bool
	}{{[]string{"ops"}, true, true}, {nil, false, false}, {[]string{"ops", "out"}, false, true}, {[]string{"ops"}, true, true}} {
		set(step.groups...)
		for name, p := range map[string]*edge.Principal{"password": byPassword, "certificate": byCertificate, "will": ofWill} {
			for range 2 { // fresh, and remembered
				if a.Allow(p, edge.OpPublish, "t") != step.publish || a.Allow(p, edge.OpCreate, "t") != step.create {
					t.Errorf("groups %v, by %s: publish %v, create %v", step.groups, name, a.Allow(p, edge.OpPublish, "t"), a.Allow(p, edge.OpCreate, "t"))
				}
			}
			if a.Valid(p) != nil {
				t.Errorf("groups %v, by %s: %v", step.groups, name, a.Valid(p))
			}
		}
	}
}

// A will that was stored by an earlier life of the broker is its user's, who must still be one.
func TestPrincipalsWithoutASession(t *testing.T) {
	a := open(t, auth.Options{Config: auth.Config{Anonymous: auth.AnonymousNo}})
	ctx := t.Context()
	for _, n := range []auth.NewUser{{Name: "ann", Password: "x1"}, {Name: "out", Password: "x1", Disabled: true}} {
		if err := a.AddUser(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AddRules(ctx, rule(t, "allow publish mqtt #")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method string
		want         bool
	}{
		{"ann", auth.MethodPassword, true},
		{"ann", auth.SHA512, true},
		{"gone", auth.MethodPassword, false},
		{"gone", auth.SHA256, false},
		{"gone", auth.MechanismPlain, false},
		{"gone", auth.MethodCertificate, true}, // certificates and tokens need no record
		{"gone", auth.MethodToken, true},
		{"out", auth.MethodPassword, false},
		{"out", auth.MethodCertificate, false},
		{"out", auth.MethodToken, false},
		{"", auth.MethodAnonymous, false},
	} {
		if got := a.Allow(&edge.Principal{Name: c.name, Method: c.method}, edge.OpPublish, "t"); got != c.want {
			t.Errorf("%s by %s: %v", c.name, c.method, got)
		}
	}
}

// A key that is taken out ends what was logged in by its tokens.
func TestKeyThatIsTakenOut(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	config := auth.Config{Anonymous: auth.AnonymousNo, JWT: &auth.JWT{Keys: [][]byte{[]byte(testJWKs), pemOf(t, &ec.PublicKey)}}, Rules: []auth.Rule{rule(t, "allow publish mqtt #")}}
	a := open(t, auth.Options{Config: config})
	claims := map[string]any{"sub": "dev-1", "exp": time.Now().Add(time.Hour).Unix()}
	bySecret, err := a.Token(t.Context(), hs256(t, claims), conn)
	if err != nil {
		t.Fatal(err)
	}
	byKey, err := a.Token(t.Context(), token(t, ec, map[string]any{"alg": "ES256"}, claims), conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		jwt         *auth.JWT
		secret, key bool
	}{
		{&auth.JWT{Keys: [][]byte{pemOf(t, &ec.PublicKey), []byte(testJWKs)}}, true, true},
		{&auth.JWT{Keys: [][]byte{pemOf(t, &ec.PublicKey)}}, false, true},
		{&auth.JWT{Keys: [][]byte{[]byte(testJWKs)}}, true, false},
		{nil, false, false},
	} {
		config.JWT = c.jwt
		if err := a.Reload(config); err != nil {
			t.Fatal(err)
		}
		for p, want := range map[*edge.Principal]bool{bySecret: c.secret, byKey: c.key, a.WithClient(bySecret, "other"): c.secret} {
			if a.Valid(p) == nil != want || a.Allow(p, edge.OpPublish, "t") != want {
				t.Errorf("%+v: valid %v, allowed %v", c, a.Valid(p), a.Allow(p, edge.OpPublish, "t"))
			}
		}
	}
}

// A certificate that stands for another user by now is no login of the old one.
func TestCertificateRulesThatChange(t *testing.T) {
	config := auth.Config{Anonymous: auth.AnonymousNo}
	a := open(t, auth.Options{Config: config})
	p, err := a.Certificate(auth.Conn{TLS: certificate(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rules []auth.CertificateRule
		want  bool
	}{
		{[]auth.CertificateRule{{From: "uri"}, {From: "cn", Match: "dev-.*"}}, true},
		{[]auth.CertificateRule{{From: "cn", User: "x-$0"}}, false},
		{[]auth.CertificateRule{{From: "uri"}}, false},
		{nil, true},
	} {
		config.Certificates = c.rules
		if err := a.Reload(config); err != nil {
			t.Fatal(err)
		}
		if a.Valid(p) == nil != c.want {
			t.Errorf("%+v: %v", c.rules, a.Valid(p))
		}
	}
}

// Another client id, or another address, is still the same login: what ended it ends it there, too.
func TestRevokedUnderAnotherName(t *testing.T) {
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert := leafOf(t, ca, "dev")
	config := auth.Config{Anonymous: auth.AnonymousNo, Rules: []auth.Rule{rule(t, "allow write topic t host 10.0.0.0/8")}}
	a := open(t, auth.Options{Config: config})
	p, err := a.Certificate(auth.Conn{Addr: "10.0.0.1:1", TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}})
	if err != nil {
		t.Fatal(err)
	}
	renamed, moved, away := a.WithClient(p, "c2"), a.WithAddr(p, "10.0.0.2:2"), a.WithAddr(p, "192.0.2.1:2")
	may := func(p *edge.Principal) bool { return a.Allow(p, edge.OpWrite, "t") }
	if !may(p) || !may(renamed) || !may(moved) || may(away) || !may(a.WithAddr(away, "[::ffff:10.0.0.9]:3")) {
		t.Errorf("here %v, renamed %v, moved %v, away %v", may(p), may(renamed), may(moved), may(away))
	}
	list, err := ca.Revoke(time.Hour, cert)
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := auth.ParseRevoked(list, ca.PEM)
	if err != nil {
		t.Fatal(err)
	}
	config.Revoked = []*auth.Revoked{revoked}
	if err := a.Reload(config); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*edge.Principal{"here": p, "renamed": renamed, "moved": moved} {
		if a.Valid(p) == nil || may(p) {
			t.Errorf("%s: valid %v, may %v", name, a.Valid(p), may(p))
		}
	}
}

// However many tries are begun at once, only so many are looked at.
func TestManyGuessesAtOnce(t *testing.T) {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	a := open(t, auth.Options{Now: c.Now})
	if err := a.AddUser(t.Context(), auth.NewUser{Name: "ann", Password: "right"}); err != nil {
		t.Fatal(err)
	}
	looked := func(try func(i int) error) (n int) {
		t.Helper()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				err := try(i)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, auth.ErrDenied):
					n++
				case !errors.Is(err, auth.ErrThrottled):
					t.Errorf("a wrong password: %v", err)
				}
			})
		}
		wg.Wait()
		return n
	}
	// Ten are free, the next is in debt; as many as are hashed at once may be under way then.
	most := 11 + max(1, runtime.GOMAXPROCS(0)/2)
	if n := looked(func(i int) error {
		_, err := a.Password(t.Context(), "ann", fmt.Sprint("wrong", i), auth.Conn{Addr: "10.0.0.1:1"})
		return err
	}); n > most {
		t.Errorf("passwords: %d were looked at, want %d at most", n, most)
	}
	// Of SCRAM, all are begun before any ends.
	var exchanges []*auth.Exchange
	var finals []string
	for range 100 {
		e, err := a.Begin(auth.SHA256, auth.Conn{Addr: "10.0.0.2:1"})
		if err != nil {
			t.Fatal(err)
		}
		first, _, err := e.Step(t.Context(), []byte("n,,n=ann,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(first), ",")
		exchanges, finals = append(exchanges, e), append(finals, "c=biws,"+nonce+",p="+strings.Repeat("A", 43)+"=")
	}
	n := 0
	for i, e := range exchanges {
		if _, _, err := e.Step(t.Context(), []byte(finals[i])); errors.Is(err, auth.ErrDenied) {
			n++
		} else if !errors.Is(err, auth.ErrThrottled) {
			t.Fatal(err)
		}
	}
	if n > 11 {
		t.Errorf("SCRAM: %d were looked at", n)
	}
}

// A name that is a token is in no log.
func TestTokenAsName(t *testing.T) {
	var log strings.Builder
	a := open(t, auth.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Config: auth.Config{Anonymous: auth.AnonymousNo}})
	name := hs256(t, map[string]any{"sub": "dev-1", "exp": 1})
	for range 30 { // throttled ones, too
		if _, err := a.Password(t.Context(), name, "x", conn); err == nil {
			t.Fatal("logged in")
		}
	}
	if text := log.String(); strings.Contains(text, name[:40]) || !strings.Contains(text, "(a token)") {
		t.Error(text)
	}
}

// A rule that cannot hold on this edge is not stored: it would be in the way of every change after it, and of the next start.
func TestRuleThatDoesNotFitTheEdge(t *testing.T) {
	store := &memory{}
	a := open(t, auth.Options{Store: store, Edge: "plant/7"})
	if err := a.AddRules(t.Context(), rule(t, "allow publish mqtt a/b"), rule(t, "allow publish mqtt {edge}/#")); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("stored: %v", err)
	}
	if err := a.AddRules(t.Context(), rule(t, "allow read topic {edge}.x")); err != nil { // a name, not levels
		t.Error(err)
	}
	if n := len(open(t, auth.Options{Store: store, Edge: "plant/7"}).Rules()); n != 1 {
		t.Errorf("%d rules", n)
	}
}
