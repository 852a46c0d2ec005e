package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"rivulet/edge/auth"
)

const secret = "0123456789abcdef0123456789abcdef"

var testJWKs = `{"keys": [{"kty": "oct", "kid": "s1", "alg": "HS256", "k": "` + base64.RawURLEncoding.EncodeToString([]byte(secret)) + `"}]}`

func part(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// token signs with any kind of key.
func token(t testing.TB, key any, header, claims map[string]any) string {
	t.Helper()
	data := part(t, header) + "." + part(t, claims)
	alg, _ := header["alg"].(string)
	h := crypto.SHA256
	switch {
	case strings.HasSuffix(alg, "384"):
		h = crypto.SHA384
	case strings.HasSuffix(alg, "512"):
		h = crypto.SHA512
	}
	digest := h.New()
	digest.Write([]byte(data))
	var signature []byte
	var err error
	switch k := key.(type) {
	case []byte:
		m := hmac.New(h.New, k)
		m.Write([]byte(data))
		signature = m.Sum(nil)
	case *rsa.PrivateKey:
		if alg[0] == 'P' {
			signature, err = rsa.SignPSS(rand.Reader, k, h, digest.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, k, h, digest.Sum(nil))
		}
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, digest.Sum(nil))
		size := (k.Params().BitSize + 7) / 8
		err = e
		signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(k, []byte(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func hs256(t testing.TB, claims map[string]any) string {
	return token(t, []byte(secret), map[string]any{"alg": "HS256", "typ": "JWT"}, claims)
}

func pemOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestTokensOfEveryAlgorithm(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec := map[string]*ecdsa.PrivateKey{}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if ec[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	long := []byte(secret + secret)
	keys := map[string]any{"HS256": long, "HS384": long, "HS512": long, "EdDSA": ed}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[alg] = rsaKey
	}
	for alg, k := range ec {
		keys[alg] = k
	}
	file := func(key any) []byte {
		switch k := key.(type) {
		case []byte:
			return []byte(`{"kty": "oct", "k": "` + base64.RawURLEncoding.EncodeToString(k) + `"}`)
		case interface{ Public() crypto.PublicKey }:
			return pemOf(t, k.Public())
		}
		return nil
	}
	claims := map[string]any{"sub": "ann", "exp": time.Now().Unix() + 60}
	for alg, key := range keys {
		a := open(t, auth.Options{Config: auth.Config{JWT: &auth.JWT{Keys: [][]byte{file(key)}}}})
		if p, err := a.Token(t.Context(), token(t, key, map[string]any{"alg": alg}, claims), conn); err != nil || p.Name != "ann" || p.Method != auth.MethodToken {
			t.Errorf("%s: %v, %v", alg, p, err)
		}
		// No other algorithm is taken for this key, with whatever it is signed: alg confusion.
		for other, otherKey := range keys {
			if same(key, otherKey) {
				continue
			}
			if _, err := a.Token(t.Context(), token(t, otherKey, map[string]any{"alg": other}, claims), auth.Conn{}); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("a key for %s took %s: %v", alg, other, err)
			}
		}
		for _, public := range [][]byte{file(key), []byte(strings.TrimSpace(string(file(key))))} {
			if _, err := a.Token(t.Context(), token(t, public, map[string]any{"alg": "HS256"}, claims), auth.Conn{}); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("the public key of %s is taken for a secret: %v", alg, err)
			}
		}
		for _, none := range []string{"none", "None", "", "HS1"} {
			if _, err := a.Token(t.Context(), part(t, map[string]any{"alg": none})+"."+part(t, claims)+".", auth.Conn{}); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("alg %q: %v", none, err)
			}
		}
	}
}

func same(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		_, ok := b.([]byte)
		return ok
	case *rsa.PrivateKey:
		_, ok := b.(*rsa.PrivateKey)
		return ok
	case *ecdsa.PrivateKey:
		k, ok := b.(*ecdsa.PrivateKey)
		return ok && k == a
	case ed25519.PrivateKey:
		_, ok := b.(ed25519.PrivateKey)
		return ok
	}
	return false
}

func TestClaims(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	n := now.Unix()
	o := auth.JWT{Keys: [][]byte{[]byte(testJWKs)}, Issuer: "https://id", Audience: []string{"rivulet"}, Groups: "groups"}
	a := open(t, auth.Options{Config: auth.Config{JWT: &o}, Now: func() time.Time { return now }})
	good := map[string]any{"sub": "ann", "exp": n + 60, "iss": "https://id", "aud": "rivulet"}
	for _, c := range []struct {
		name   string
		change map[string]any // nil takes a claim away
		ok     bool
	}{
		{"good", nil, true},
		{"audience in a list", map[string]any{"aud": []string{"x", "rivulet"}}, true},
		{"nbf now", map[string]any{"nbf": n}, true},
		{"fractions", map[string]any{"exp": float64(n) + 60.5}, true},
		{"expired within the leeway", map[string]any{"exp": n - 20}, true},
		{"expired", map[string]any{"exp": n - 31}, false},
		{"no exp", map[string]any{"exp": nil}, false},
		{"exp as text", map[string]any{"exp": "1900000000"}, false},
		{"exp of another spelling", map[string]any{"exp": nil, "EXP": n + 60}, false},
		{"exp too large", map[string]any{"exp": 1e300}, false},
		{"exp null", map[string]any{"exp": json.RawMessage("null")}, false},
		{"not yet", map[string]any{"nbf": n + 31}, false},
		{"issued tomorrow", map[string]any{"iat": n + 86400}, false},
		{"another issuer", map[string]any{"iss": "https://evil"}, false},
		{"no issuer", map[string]any{"iss": nil}, false},
		{"another audience", map[string]any{"aud": "kafka"}, false},
		{"no audience", map[string]any{"aud": nil}, false},
		{"audience is a number", map[string]any{"aud": 7}, false},
		{"no user", map[string]any{"sub": nil}, false},
		{"empty user", map[string]any{"sub": ""}, false},
		{"user is a number", map[string]any{"sub": 7}, false},
		{"user as a pattern", map[string]any{"sub": "dev-*"}, false},
		{"user as a group", map[string]any{"sub": "@ops"}, false},
		{"user anonymous", map[string]any{"sub": "ANONYMOUS"}, false},
		{"groups", map[string]any{"groups": []string{"ops", "*", "x y"}}, true},
		{"groups as text", map[string]any{"groups": "ops dev"}, true},
		{"groups are numbers", map[string]any{"groups": []int{1}}, false},
	} {
		claims := maps.Clone(good)
		for k, v := range c.change {
			if claims[k] = v; v == nil {
				delete(claims, k)
			}
		}
		p, err := a.Token(t.Context(), hs256(t, claims), auth.Conn{})
		if c.ok != (err == nil) || err != nil && !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v, %v", c.name, p, err)
		}
		if strings.HasPrefix(c.name, "groups") && c.ok && (len(p.Groups) != 2 || p.Groups[0] != "ops") {
			t.Errorf("%s: %q", c.name, p.Groups)
		}
	}
	for name, header := range map[string]map[string]any{
		"crit": {"alg": "HS256", "crit": []string{"exp"}}, "another kid": {"alg": "HS256", "kid": "s2"}, "kid is a number": {"alg": "HS256", "kid": 1},
	} {
		if _, err := a.Token(t.Context(), token(t, []byte(secret), header, good), auth.Conn{}); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Token(t.Context(), token(t, []byte(secret), map[string]any{"alg": "HS256", "kid": "s1"}, good), auth.Conn{}); err != nil {
		t.Errorf("its kid: %v", err)
	}
	// A token that is meant for somebody is not taken where nobody said who we are.
	o.Audience = nil
	a = open(t, auth.Options{Config: auth.Config{JWT: &o}, Now: func() time.Time { return now }})
	if _, err := a.Token(t.Context(), hs256(t, good), auth.Conn{}); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("an audience, and none is configured: %v", err)
	}
}

// A token is taken in place of a password, with its own user's name or none.
func TestTokenAsPassword(t *testing.T) {
	a := open(t, auth.Options{Config: auth.Config{JWT: &auth.JWT{Keys: [][]byte{[]byte(testJWKs)}}}})
	text := hs256(t, map[string]any{"sub": "ann", "exp": time.Now().Unix() + 60})
	for user, ok := range map[string]bool{"ann": true, "": true, "bob": false} {
		p, err := a.Password(t.Context(), user, text, auth.Conn{})
		if ok != (err == nil) || ok && (p.Name != "ann" || p.Method != auth.MethodToken) {
			t.Errorf("user %q: %v, %v", user, p, err)
		}
	}
	for message, ok := range map[string]bool{
		"n,,\x01auth=Bearer " + text + "\x01\x01":                true,
		"n,a=ann,\x01host=h\x01auth=bearer " + text + "\x01\x01": true,
		"n,a=bob,\x01auth=Bearer " + text + "\x01\x01":           false,
		"n,,\x01auth=Basic " + text + "\x01\x01":                 false,
		"n,,\x01auth=Bearer " + text + "x\x01\x01":               false,
		"p=x,,\x01auth=Bearer " + text + "\x01\x01":              false,
		"n,,\x01\x01": false,
	} {
		e, err := a.Begin(auth.MechanismOAuthBearer, auth.Conn{})
		if err != nil {
			t.Fatal(err)
		}
		answer, p, err := e.Step(t.Context(), []byte(message))
		if err == nil && p == nil { // refused in the mechanism's words; the client has to answer before it hears the end
			if !strings.Contains(string(answer), "invalid_token") {
				t.Errorf("%q: %q", message, answer)
			}
			_, p, err = e.Step(t.Context(), []byte("\x01"))
		}
		if ok != (err == nil && p != nil && p.Name == "ann") {
			t.Errorf("%q: %v, %v", message, p, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	var weak []byte
	if err == nil {
		weak = pemOf(t, &small.PublicKey)
	}
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(private)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for name, file := range map[string]string{
		"empty":             "",
		"text":              "secret",
		"private key":       string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"broken key":        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"weak RSA":          string(weak),
		"weak curve":        string(pemOf(t, &p224.PublicKey)),
		"short secret":      `{"kty":"oct","k":"c2hvcnQ"}`,
		"no keys":           `{"keys":[]}`,
		"for encryption":    `{"keys":[{"kty":"oct","use":"enc","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}`,
		"alg of another":    `{"keys":[{"kty":"oct","alg":"RS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}`,
		"off the curve":     `{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag"}]}`,
		"no curve":          `{"keys":[{"kty":"EC","crv":"P-999","x":"AQ","y":"Ag"}]}`,
		"RSA exponent":      `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQ"}]}`,
		"not base64":        `{"keys":[{"kty":"oct","k":"!!!"}]}`,
		"not JSON":          `{"keys":[{"kty":"oct","k":"c2hvcnQsecret`,
		"unknown kty":       `{"keys":[{"kty":"XYZ"}]}`,
		"short Ed25519 key": `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}`,
	} {
		err := auth.CheckKeys([]byte(file))
		if err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "secret`") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}

func FuzzJWT(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	a := open(f, auth.Options{Config: auth.Config{JWT: &auth.JWT{Keys: [][]byte{[]byte(testJWKs)}}}, Now: func() time.Time { return now }})
	f.Add(hs256(f, map[string]any{"sub": "ann", "exp": now.Unix() - 60}))
	f.Add(token(f, []byte("wrong"), map[string]any{"alg": "HS256"}, map[string]any{"sub": "ann", "exp": now.Unix() + 60}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := a.Token(t.Context(), text, auth.Conn{}); err == nil || p != nil {
			t.Fatalf("%q is taken", text)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(testJWKs))
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag"}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(_ *testing.T, data []byte) { _ = auth.CheckKeys(data) })
}
