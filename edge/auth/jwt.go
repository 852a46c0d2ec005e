package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// JWT says which tokens are taken (RFC 7519, RFC 8725).
type JWT struct {
	// Keys are the contents of key files: PEM (public keys, certificates) or a JWK set (RFC 7517), which may hold secrets for HS, too.
	Keys      [][]byte
	Issuer    string        // iss must be it; "": any
	Audience  []string      // aud must name one; empty: tokens with an aud are refused, since they are meant for somebody else
	UserClaim string        // default sub
	Groups    string        // claim with the user's groups: a list, or a text with spaces between; "": none
	Leeway    time.Duration // for clocks that differ; default 30 s
}

// maxToken bounds what is parsed.
const maxToken = 16 << 10

// verifier checks tokens.
type verifier struct {
	o    JWT
	keys []tokenKey
	now  func() time.Time
}

// claims are what counts of a token.
type claims struct {
	user    string
	groups  []string
	expires time.Time
	key     keyPrint // of the key that signed
}

func newVerifier(o JWT, now func() time.Time) (*verifier, error) {
	v := &verifier{o: o, now: now}
	for _, data := range o.Keys {
		keys, err := parseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("read token keys: %w", err)
		}
		v.keys = append(v.keys, keys...)
	}
	if len(v.keys) == 0 {
		return nil, fmt.Errorf("read token keys: %w: there are none", ErrInvalid)
	}
	if v.o.UserClaim == "" {
		v.o.UserClaim = "sub"
	}
	if v.o.Leeway == 0 {
		v.o.Leeway = 30 * time.Second
	}
	return v, nil
}

// verify checks signature, times, issuer and audience. Its errors are for the log; they hold nothing of the token but the names
// of claims and algorithms.
func (v *verifier) verify(token string) (claims, error) {
	var none claims
	if len(token) > maxToken {
		return none, errors.New("token is too long")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return none, errors.New("token has not three parts")
	}
	header, err := decodePart(parts[0])
	if err != nil {
		return none, fmt.Errorf("token header: %w", err)
	}
	var alg, kid string
	if err := header.text("alg", &alg); err != nil || alg == "" {
		return none, errors.New("token header: no alg")
	}
	if err := header.text("kid", &kid); err != nil {
		return none, errors.New("token header: kid is no text")
	}
	if _, ok := header["crit"]; ok {
		return none, errors.New("token header: crit is not supported") // RFC 7515, 4.1.11
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return none, errors.New("token signature is not base64url")
	}
	key, err := v.signed(alg, kid, []byte(token[:len(parts[0])+1+len(parts[1])]), signature)
	if err != nil {
		return none, err
	}
	payload, err := decodePart(parts[1])
	if err != nil {
		return none, fmt.Errorf("token claims: %w", err)
	}
	c, err := v.claims(payload)
	c.key = key
	return c, err
}

// has reports whether a key is among those that tokens are taken of now. A nil verifier takes none.
func (v *verifier) has(key keyPrint) bool {
	return v != nil && slices.ContainsFunc(v.keys, func(k tokenKey) bool { return k.print == key })
}

// signed tries the keys that fit. The key decides which algorithms it may be used with, never the token: a public key is no
// HMAC secret, and "none" is no algorithm (RFC 8725, 2.1).
func (v *verifier) signed(alg, kid string, data, signature []byte) (keyPrint, error) {
	fits := false
	for i := range v.keys {
		k := &v.keys[i]
		if !k.takes(alg) || kid != "" && k.id != "" && kid != k.id {
			continue
		}
		fits = true
		if k.verify(alg, data, signature) {
			return k.print, nil
		}
	}
	if !fits {
		return keyPrint{}, fmt.Errorf("no key for alg %.20q and that kid", alg)
	}
	return keyPrint{}, errors.New("token signature is wrong")
}

func (v *verifier) claims(p claimSet) (claims, error) {
	var none claims
	now := v.now()
	exp, ok, err := p.time("exp")
	switch {
	case err != nil:
		return none, err
	case !ok:
		return none, errors.New("token has no exp")
	case !now.Before(exp.Add(v.o.Leeway)):
		return none, errors.New("token has expired")
	}
	for _, name := range [...]string{"nbf", "iat"} {
		t, ok, err := p.time(name)
		if err != nil {
			return none, err
		}
		if ok && now.Add(v.o.Leeway).Before(t) {
			return none, fmt.Errorf("token is not valid yet (%s); is the clock right?", name)
		}
	}
	var issuer string
	if err := p.text("iss", &issuer); err != nil || v.o.Issuer != "" && issuer != v.o.Issuer {
		return none, errors.New("token is of another issuer")
	}
	audience, err := p.texts("aud", false)
	if err != nil {
		return none, err
	}
	if len(v.o.Audience) > 0 || len(audience) > 0 {
		if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(v.o.Audience, a) }) {
			return none, errors.New("token is for another audience; see auth.jwt.audience")
		}
	}
	c := claims{expires: exp.Add(v.o.Leeway)}
	if err := p.text(v.o.UserClaim, &c.user); err != nil || c.user == "" {
		return none, fmt.Errorf("token has no claim %s that could be a user's name", v.o.UserClaim)
	}
	if err := CheckUserName(c.user); err != nil {
		return none, err
	}
	if v.o.Groups != "" {
		if c.groups, err = p.texts(v.o.Groups, true); err != nil {
			return none, err
		}
		if len(c.groups) > maxGroups {
			return none, fmt.Errorf("token has more than %d groups", maxGroups)
		}
		c.groups = slices.DeleteFunc(c.groups, func(g string) bool { return CheckGroup(g) != nil })
	}
	return c, nil
}

const maxGroups = 256

// claimSet is a JSON object whose names count as they are written: decoding into a struct would take EXP for exp.
type claimSet map[string]json.RawMessage

func decodePart(s string) (claimSet, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	var c claimSet
	if err := json.Unmarshal(data, &c); err != nil || c == nil {
		return nil, errors.New("not a JSON object")
	}
	return c, nil
}

// text reads a claim that may be missing.
func (c claimSet) text(name string, to *string) error {
	raw, ok := c[name]
	if !ok {
		return nil
	}
	if !bytes.HasPrefix(raw, []byte(`"`)) {
		return fmt.Errorf("claim %s is no text", name)
	}
	return json.Unmarshal(raw, to)
}

// texts reads a claim that is one text or a list of them; words says that one text is many, with spaces between.
func (c claimSet) texts(name string, words bool) ([]string, error) {
	raw, ok := c[name]
	if !ok {
		return nil, nil
	}
	var list []string
	var one string
	switch {
	case json.Unmarshal(raw, &one) == nil && words:
		return strings.Fields(one), nil
	case json.Unmarshal(raw, &one) == nil:
		return []string{one}, nil
	case json.Unmarshal(raw, &list) == nil:
		return list, nil
	}
	return nil, fmt.Errorf("claim %s is neither a text nor a list of texts", name)
}

// time reads a NumericDate (RFC 7519, 2).
func (c claimSet) time(name string) (t time.Time, ok bool, err error) {
	raw, ok := c[name]
	if !ok {
		return t, false, nil
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || !(f > -1e11 && f < 1e11) || !bytes.ContainsAny(raw, "0123456789") {
		return t, false, fmt.Errorf("claim %s is no time", name)
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(frac*1e9)), true, nil
}
