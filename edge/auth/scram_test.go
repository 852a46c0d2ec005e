package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
)

var from = Conn{Addr: "192.0.2.7:1"}

// RFC 7677, 3: the example of SCRAM-SHA-256.
func TestExampleOfRFC7677(t *testing.T) {
	const clientNonce, serverNonce = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, _ := pbkdf2.Key(sha256.New, "pencil", salt, 4096, 32)
	c, err := CredentialOfSalted(SHA256, salt, 4096, salted)
	if err != nil {
		t.Fatal(err)
	}
	s := &scram{mechanism: SHA256}
	if err := s.readFirst("n,,n=user,r=" + clientNonce); err != nil || s.name != "user" {
		t.Fatalf("%q, %v", s.name, err)
	}
	s.nonce += serverNonce
	s.credential = c
	s.first = "r=" + s.nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	v, err := s.verify("c=biws,r=" + clientNonce + serverNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if err != nil || base64.StdEncoding.EncodeToString(v) != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%x, %v", v, err)
	}
}

// scramClient answers server-first; a field changes what it says.
type scramClient struct {
	gs2, name, extra, nonce, password string
	binding                           string // instead of gs2
	badNonce, badProof                bool
}

func (c scramClient) first() string {
	return c.gs2 + "n=" + c.name + ",r=" + c.nonce + c.extra
}

func (c scramClient) final(t testing.TB, mechanism, serverFirst string) (message, verifier string) {
	t.Helper()
	var nonce, salt64 string
	iterations := 0
	for f := range strings.SplitSeq(serverFirst, ",") {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "r":
			nonce = v
		case "s":
			salt64 = v
		case "i":
			iterations, _ = strconv.Atoi(v)
		}
	}
	if !strings.HasPrefix(nonce, c.nonce) || nonce == c.nonce {
		t.Fatalf("server-first %q", serverFirst)
	}
	salt, _ := base64.StdEncoding.DecodeString(salt64)
	h := hashOf(mechanism)
	salted, err := pbkdf2.Key(h, c.password, salt, iterations, h().Size())
	if err != nil {
		t.Fatal(err)
	}
	clientKey := sum(h, salted, "Client Key")
	stored := h()
	stored.Write(clientKey)
	if c.badNonce {
		nonce += "x"
	}
	binding := c.gs2
	if c.binding != "" {
		binding = c.binding
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(binding)) + ",r=" + nonce
	message = "n=" + c.name + ",r=" + c.nonce + c.extra + "," + serverFirst + "," + without
	proof := sum(h, stored.Sum(nil), message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	if c.badProof {
		proof[3] ^= 1
	}
	m := hmac.New(h, sum(h, salted, "Server Key"))
	m.Write([]byte(message))
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof), "v=" + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func testAuthority(t testing.TB, users ...NewUser) *Authority {
	t.Helper()
	c := Config{Users: []User{}}
	for _, n := range users {
		u := User{Name: n.Name, Groups: n.Groups, Disabled: n.Disabled}
		for _, m := range []string{SHA256, SHA512} {
			credential, err := NewCredential(m, n.Password, DefaultIterations, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			u.Credentials = append(u.Credentials, credential)
		}
		c.Users = append(c.Users, u)
	}
	a, err := New(Options{Store: emptyStore{}, Config: c, Edge: "plant-7"})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSCRAM(t *testing.T) {
	a := testAuthority(t, NewUser{Name: "ann", Password: "pencil"}, NewUser{Name: "a,b=c", Password: "pencil"}, NewUser{Name: "off", Password: "pencil", Disabled: true})
	good := scramClient{gs2: "n,,", name: "ann", nonce: "fyko", password: "pencil"}
	with := func(change func(c *scramClient)) scramClient {
		c := good
		change(&c)
		return c
	}
	for _, m := range []string{SHA256, SHA512} {
		for _, c := range []struct {
			name   string
			client scramClient
			who    string
			first  string // error in answer to client-first
			final  string // in answer to client-final
		}{
			{"right", good, "ann", "", ""},
			{"could bind the channel", with(func(c *scramClient) { c.gs2 = "y,," }), "ann", "", ""},
			{"own authorization id", with(func(c *scramClient) { c.gs2 = "n,a=ann," }), "ann", "", ""},
			{"escaped name", with(func(c *scramClient) { c.name = "a=2Cb=3Dc" }), "a,b=c", "", ""},
			{"unknown extension", with(func(c *scramClient) { c.extra = ",x=y" }), "ann", "", ""},
			{"wants to bind the channel", with(func(c *scramClient) { c.gs2 = "p=tls-unique,," }), "", "channel-binding-not-supported", ""},
			{"other authorization id", with(func(c *scramClient) { c.gs2 = "n,a=bob," }), "", "other-error", ""},
			{"no such binding", with(func(c *scramClient) { c.gs2 = "q,," }), "", "invalid-encoding", ""},
			{"mandatory extension", with(func(c *scramClient) { c.gs2 = "n,,m=x," }), "", "extensions-not-supported", ""},
			{"delegation token", with(func(c *scramClient) { c.extra = ",tokenauth=true" }), "", "extensions-not-supported", ""},
			{"malformed name", with(func(c *scramClient) { c.name = "a=2c" }), "", "invalid-encoding", ""},
			{"no name", with(func(c *scramClient) { c.name = "" }), "", "invalid-encoding", ""},
			{"no nonce", with(func(c *scramClient) { c.nonce = "" }), "", "invalid-encoding", ""},
			{"wrong password", with(func(c *scramClient) { c.password = "Pencil" }), "", "", "invalid-proof"},
			{"no such user", with(func(c *scramClient) { c.name = "bob" }), "", "", "invalid-proof"},
			{"disabled", with(func(c *scramClient) { c.name = "off" }), "", "", "invalid-proof"},
			{"wrong proof", with(func(c *scramClient) { c.badProof = true }), "", "", "invalid-proof"},
			{"wrong nonce", with(func(c *scramClient) { c.badNonce = true }), "", "", "other-error"},
			{"changed header", with(func(c *scramClient) { c.binding = "y,," }), "", "", "channel-bindings-dont-match"},
		} {
			t.Run(m+"/"+c.name, func(t *testing.T) {
				a.limiter = newLimiter()
				e, err := a.Begin(m, from)
				if err != nil {
					t.Fatal(err)
				}
				answer, p, err := e.Step(t.Context(), []byte(c.client.first()))
				if c.first != "" {
					if string(answer) != "e="+c.first || !errors.Is(err, ErrDenied) || p != nil {
						t.Fatalf("first: %q, %v, %v", answer, p, err)
					}
					if _, p, err := e.Step(t.Context(), []byte("x")); err == nil || p != nil {
						t.Fatal("it went on")
					}
					return
				}
				if err != nil || p != nil {
					t.Fatalf("first: %q, %v, %v", answer, p, err)
				}
				message, verifier := c.client.final(t, m, string(answer))
				answer, p, err = e.Step(t.Context(), []byte(message))
				if c.final != "" {
					if string(answer) != "e="+c.final || !errors.Is(err, ErrDenied) || p != nil {
						t.Fatalf("final: %q, %v, %v", answer, p, err)
					}
					return
				}
				if err != nil || p == nil || p.Name != c.who || p.Method != m || string(answer) != verifier {
					t.Fatalf("final: %q, %v, %v", answer, p, err)
				}
				if _, p, err := e.Step(t.Context(), []byte(message)); err == nil || p != nil {
					t.Error("the exchange can be used twice")
				}
			})
		}
	}
}

// Who does not exist looks as if it did: with a salt that is the same each time, also after a restart, and another for another name.
func TestNobodyLearnsWhoExists(t *testing.T) {
	store := &secretStore{}
	salt := func(name, mechanism string) string {
		a, err := New(Options{Store: store, Config: Config{Users: []User{}}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := a.Begin(mechanism, from)
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := e.Step(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(answer), ",")
		if !strings.HasSuffix(rest, ",i=4096") || len(rest) != len("s=,i=4096")+24 {
			t.Errorf("server-first is %q", answer)
		}
		return rest
	}
	if first, second := salt("bob", SHA256), salt("bob", SHA256); first != second {
		t.Error("the salt changes")
	}
	if salt("bob", SHA256) == salt("eve", SHA256) || salt("bob", SHA256) == salt("bob", SHA512) {
		t.Error("the salt is everyone's")
	}
}

// A password changes between the two steps.
func TestPasswordChangesWhileSomebodyLogsIn(t *testing.T) {
	store := &secretStore{}
	a, err := New(Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.AddUser(t.Context(), NewUser{Name: "ann", Password: "pencil"}); err != nil {
		t.Fatal(err)
	}
	c := scramClient{gs2: "n,,", name: "ann", nonce: "fyko", password: "pencil"}
	e, _ := a.Begin(SHA256, from)
	answer, _, err := e.Step(t.Context(), []byte(c.first()))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetPassword(t.Context(), "ann", "crayon"); err != nil {
		t.Fatal(err)
	}
	message, _ := c.final(t, SHA256, string(answer))
	if _, p, err := e.Step(t.Context(), []byte(message)); !errors.Is(err, ErrDenied) || p != nil {
		t.Errorf("%v, %v", p, err)
	}
}

func TestPlain(t *testing.T) {
	a := testAuthority(t, NewUser{Name: "ann", Password: "pencil"})
	for _, c := range []struct {
		message string
		who     string
	}{
		{"\x00ann\x00pencil", "ann"},
		{"ann\x00ann\x00pencil", "ann"},
		{"bob\x00ann\x00pencil", ""},
		{"\x00ann\x00Pencil", ""},
		{"\x00\x00pencil", ""},
		{"\x00ann\x00pencil\x00", ""},
		{"ann\x00pencil", ""},
		{"", ""},
		{"\x00ann\x00\xff", ""},
	} {
		a.limiter = newLimiter()
		e, err := a.Begin(MechanismPlain, from)
		if err != nil {
			t.Fatal(err)
		}
		_, p, err := e.Step(t.Context(), []byte(c.message))
		if c.who == "" {
			if !errors.Is(err, ErrDenied) || p != nil {
				t.Errorf("%q: %v, %v", c.message, p, err)
			}
		} else if err != nil || p.Name != c.who || p.Method != MechanismPlain {
			t.Errorf("%q: %v, %v", c.message, p, err)
		}
	}
	if _, err := a.Begin("GSSAPI", from); !errors.Is(err, ErrMechanism) {
		t.Error(err)
	}
	if _, err := a.Begin(MechanismOAuthBearer, from); !errors.Is(err, ErrMechanism) {
		t.Error(err)
	}
}

func FuzzSCRAM(f *testing.F) {
	a := testAuthority(f, NewUser{Name: "ann", Password: "pencil"})
	f.Add("n,,n=ann,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("y,a=ann,n=a=2Cnn,r=abc,x=y", "c=eSws,r=abc,x=y,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Add("p=tls-exporter,,n=ann,r=abc", ",p=")
	f.Fuzz(func(t *testing.T, first, final string) {
		a.limiter = newLimiter()
		e, err := a.Begin(SHA256, Conn{})
		if err != nil {
			t.Fatal(err)
		}
		answer, p, err := e.Step(t.Context(), []byte(first))
		if p != nil || err == nil && !strings.HasPrefix(string(answer), "r=") {
			t.Fatalf("%q: %q %v %v", first, answer, p, err)
		}
		if _, p, err := e.Step(t.Context(), []byte(final)); p != nil || err == nil {
			t.Fatalf("%q then %q logs in", first, final)
		}
	})
}

func FuzzBearer(f *testing.F) {
	f.Add("n,,\x01auth=Bearer abc\x01\x01")
	f.Add("n,a=ann,\x01host=x\x01auth=bearer abc\x01\x01")
	f.Fuzz(func(t *testing.T, m string) {
		token, _, err := bearerToken(m)
		if err == nil && !strings.Contains(m, token) || err == nil && token == "" {
			t.Fatalf("%q: %q", m, token)
		}
	})
}

// The password's check is what a thousand devices that come back have to wait for.
func BenchmarkPassword(b *testing.B) {
	a := testAuthority(b, NewUser{Name: "ann", Password: "pencil"})
	b.Run("first", func(b *testing.B) {
		_, c := a.credentialOf("ann", "")
		for b.Loop() {
			if !c.matches("pencil") {
				b.Fatal("wrong")
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Password(b.Context(), "ann", "pencil", Conn{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("SHA-512", func(b *testing.B) {
		_, c := a.credentialOf("ann", SHA512)
		for b.Loop() {
			c.matches("pencil")
		}
	})
}
