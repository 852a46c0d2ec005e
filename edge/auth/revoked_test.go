package auth_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
)

func leafOf(t testing.TB, ca *authtest.CA, name string) *x509.Certificate {
	t.Helper()
	text, _, err := ca.Sign(name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRevoked(t *testing.T) {
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	other, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	good, bad := leafOf(t, ca, "good"), leafOf(t, ca, "bad")
	list, err := ca.Revoke(-time.Minute, bad) // out of date, and taken all the same
	if err != nil {
		t.Fatal(err)
	}
	der, _ := pem.Decode(list)
	none, err := ca.Revoke(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, lists := range map[string][]byte{"PEM": list, "DER": der.Bytes, "two": append(append([]byte(nil), none...), list...)} {
		r, err := auth.ParseRevoked(lists, append(append([]byte(nil), other.PEM...), ca.PEM...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Has(good) || !r.Has(bad) || !r.Until().Before(time.Now()) {
			t.Errorf("%s: good %v, bad %v, until %v", name, r.Has(good), r.Has(bad), r.Until())
		}
		for _, c := range []struct {
			chains [][]*x509.Certificate
			refuse bool
		}{
			{nil, false},
			{[][]*x509.Certificate{{good}}, false},
			{[][]*x509.Certificate{{bad}}, true},
			{[][]*x509.Certificate{{good, bad}}, true}, // an authority in between
			{[][]*x509.Certificate{{good, bad}, {good}}, false},
		} {
			if err := r.Check(c.chains); errors.Is(err, auth.ErrDenied) != c.refuse {
				t.Errorf("%s: %d chains: %v", name, len(c.chains), err)
			}
		}
	}
	for name, lists := range map[string][]byte{"nothing": nil, "a certificate": ca.PEM, "cut": der.Bytes[:len(der.Bytes)-1]} {
		if _, err := auth.ParseRevoked(lists, ca.PEM); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := auth.ParseRevoked(list, other.PEM); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("a list that another authority signed: %v", err)
	}
	if (*auth.Revoked)(nil).Has(bad) || (*auth.Revoked)(nil).Check([][]*x509.Certificate{{bad}}) != nil {
		t.Error("no list revokes")
	}
}

// A certificate that is revoked lets nobody in any more, and ends what it let in, by whatever login.
func TestRevokedLoginEnds(t *testing.T) {
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert := leafOf(t, ca, "dev")
	config := auth.Config{Anonymous: auth.AnonymousNo}
	a := open(t, auth.Options{Config: config})
	if err := a.AddUser(t.Context(), auth.NewUser{Name: "ann", Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	c := auth.Conn{Addr: "10.0.0.1:1", TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}}
	byCert, err := a.Certificate(c)
	if err != nil {
		t.Fatal(err)
	}
	byPassword, err := a.Password(t.Context(), "ann", "secret", c)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := a.Password(t.Context(), "ann", "secret", auth.Conn{Addr: "10.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.Revoke(time.Hour, cert)
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := auth.ParseRevoked(list, ca.PEM)
	if err != nil {
		t.Fatal(err)
	}
	config.Revoked = []*auth.Revoked{nil, revoked}
	if err := a.Reload(config); err != nil {
		t.Fatal(err)
	}
	if a.Valid(byCert) == nil || a.Valid(byPassword) == nil || a.Valid(elsewhere) != nil {
		t.Errorf("by certificate %v, by password beside it %v, by password alone %v", a.Valid(byCert), a.Valid(byPassword), a.Valid(elsewhere))
	}
	if _, err := a.Certificate(c); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("another login: %v", err)
	}
}

func FuzzParseRevoked(f *testing.F) {
	ca, err := authtest.NewCA()
	if err != nil {
		f.Fatal(err)
	}
	list, err := ca.Revoke(time.Hour, leafOf(f, ca, "dev"))
	if err != nil {
		f.Fatal(err)
	}
	der, _ := pem.Decode(list)
	f.Add(list)
	f.Add(der.Bytes)
	f.Fuzz(func(t *testing.T, lists []byte) {
		if r, err := auth.ParseRevoked(lists, ca.PEM); err == nil && r == nil {
			t.Error("nothing, and no error")
		}
	})
}
