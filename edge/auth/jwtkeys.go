package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	// Hashes that signatures name.
	_ "crypto/sha512"
)

// keyPrint tells a key from others, in whichever file it is.
type keyPrint [sha256.Size]byte

// tokenKey is one key with what it may be used for.
type tokenKey struct {
	print  keyPrint
	id     string
	alg    string // the only algorithm, if the key says so
	secret []byte
	rsa    *rsa.PublicKey
	ec     *ecdsa.PublicKey
	ed     ed25519.PublicKey
}

// Least sizes: RFC 7518, 3.2 and 3.3.
const (
	minSecret = 32
	minRSA    = 2048
	maxRSA    = 8192
)

// takes says which algorithms fit the key.
func (k *tokenKey) takes(alg string) bool {
	if k.alg != "" && alg != k.alg {
		return false
	}
	switch alg {
	case "HS256", "HS384", "HS512":
		return k.secret != nil
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return k.rsa != nil
	case "ES256":
		return k.ec != nil && k.ec.Curve == elliptic.P256()
	case "ES384":
		return k.ec != nil && k.ec.Curve == elliptic.P384()
	case "ES512":
		return k.ec != nil && k.ec.Curve == elliptic.P521()
	case "EdDSA", "Ed25519":
		return k.ed != nil
	}
	return false
}

// verify checks a signature by an algorithm that the key takes.
func (k *tokenKey) verify(alg string, data, signature []byte) bool {
	h := crypto.SHA256
	switch {
	case strings.HasSuffix(alg, "384"):
		h = crypto.SHA384
	case strings.HasSuffix(alg, "512"):
		h = crypto.SHA512
	}
	digest := h.New()
	digest.Write(data)
	switch {
	case k.secret != nil:
		m := hmac.New(h.New, k.secret)
		m.Write(data)
		return hmac.Equal(m.Sum(nil), signature)
	case k.rsa != nil && alg[0] == 'R':
		return rsa.VerifyPKCS1v15(k.rsa, h, digest.Sum(nil), signature) == nil
	case k.rsa != nil:
		return rsa.VerifyPSS(k.rsa, h, digest.Sum(nil), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case k.ec != nil:
		size := (k.ec.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(k.ec, digest.Sum(nil), r, s)
	case k.ed != nil:
		return ed25519.Verify(k.ed, data, signature)
	}
	return false
}

// CheckKeys says what is wrong with a key file.
func CheckKeys(data []byte) error {
	_, err := parseKeys(data)
	return err
}

// parseKeys reads PEM or a JWK set.
func parseKeys(data []byte) ([]tokenKey, error) {
	if trimmed := bytes.TrimSpace(data); bytes.HasPrefix(trimmed, []byte("{")) {
		return parseJWKs(trimmed)
	}
	var keys []tokenKey
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		key, err := parsePEM(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, fmt.Errorf("%w: want PEM public keys or certificates, or a JWK set {\"keys\": […]}", ErrInvalid)
	}
	return keys, nil
}

func parsePEM(block *pem.Block) (tokenKey, error) {
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	default:
		return tokenKey{}, fmt.Errorf("%w: %s: only public keys and certificates are wanted here", ErrInvalid, block.Type)
	}
	if err != nil {
		return tokenKey{}, fmt.Errorf("%w: %s: %w", ErrInvalid, block.Type, err)
	}
	return publicKey(public)
}

func publicKey(public any) (tokenKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return tokenKey{}, fmt.Errorf("%w: a key of type %T is not supported", ErrInvalid, public)
	}
	fingerprint := keyPrint(sha256.Sum256(der))
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return tokenKey{}, fmt.Errorf("%w: RSA key of %d bits, want %d to %d", ErrInvalid, n, minRSA, maxRSA)
		}
		return tokenKey{rsa: k, print: fingerprint}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return tokenKey{ec: k, print: fingerprint}, nil
		}
	case ed25519.PublicKey:
		return tokenKey{ed: k, print: fingerprint}, nil
	}
	return tokenKey{}, fmt.Errorf("%w: a key of type %T is not supported", ErrInvalid, public)
}

// jwk is one key of a set (RFC 7517, RFC 7518 section 6, RFC 8037).
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
	K   string `json:"k"`
}

func parseJWKs(data []byte) ([]tokenKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
		jwk        // or one key alone
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%w JWK set: not JSON", ErrInvalid) // the reader's error could quote a secret
	}
	if set.Kty != "" {
		set.Keys = append(set.Keys, set.jwk)
	}
	var keys []tokenKey
	for i, j := range set.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue // for encryption
		}
		key, err := j.key()
		if err != nil {
			return nil, fmt.Errorf("%w JWK set: key %d (kid %q): %w", ErrInvalid, i, j.Kid, err)
		}
		key.id, key.alg = j.Kid, j.Alg
		if j.Alg != "" && !key.takes(j.Alg) {
			return nil, fmt.Errorf("%w JWK set: key %d (kid %q): alg %q does not fit a key of type %s", ErrInvalid, i, j.Kid, j.Alg, j.Kty)
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, fmt.Errorf("%w JWK set: no key for signatures", ErrInvalid)
	}
	return keys, nil
}

var errKeyText = errors.New("a value is not base64url")

func (j jwk) key() (tokenKey, error) {
	var raw [5][]byte
	for i, s := range [...]string{j.N, j.E, j.X, j.Y, j.K} {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "=")); err != nil {
			return tokenKey{}, errKeyText
		}
	}
	n, e, x, y, k := raw[0], raw[1], raw[2], raw[3], raw[4]
	switch j.Kty {
	case "oct":
		if len(k) < minSecret {
			return tokenKey{}, fmt.Errorf("a secret of %d bytes, want %d or more", len(k), minSecret)
		}
		return tokenKey{secret: k, print: sha256.Sum256(k)}, nil
	case "RSA":
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Int64()%2 == 0 {
			return tokenKey{}, errors.New("RSA exponent is out of range")
		}
		return publicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())})
	case "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		if !ok {
			return tokenKey{}, fmt.Errorf("curve %q; want P-256, P-384 or P-521", j.Crv)
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(x) > size || len(y) > size {
			return tokenKey{}, errors.New("the point is not on the curve")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4
		copy(point[1+size-len(x):], x)
		copy(point[1+2*size-len(y):], y)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return tokenKey{}, errors.New("the point is not on the curve")
		}
		return publicKey(key)
	case "OKP":
		if j.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return tokenKey{}, errors.New("want an Ed25519 key of 32 bytes")
		}
		return publicKey(ed25519.PublicKey(x))
	}
	return tokenKey{}, fmt.Errorf("kty %q; want oct, RSA, EC or OKP", j.Kty)
}
