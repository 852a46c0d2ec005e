// Package authtest makes what tests of logins need: an authority of certificates in memory, and signed tokens. Nothing of it is
// good for more than a test.
package authtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"rivulet/edge/auth"
)

// CA signs certificates.
type CA struct {
	Pool *x509.CertPool
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

// NewCA makes an authority that is good for an hour.
func NewCA() (*CA, error) {
	ca := &CA{last: 1}
	t := template("rivulet test CA", 1)
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &ca.key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	ca.Pool = x509.NewCertPool()
	ca.Pool.AddCert(ca.cert)
	ca.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca, nil
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// Sign makes a certificate with that common name, good for either side of a connection to this machine.
func (ca *CA) Sign(name string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	ca.last++
	der, err := x509.CreateCertificate(rand.Reader, template(name, ca.last), ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", name, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}

// Revoke is a revocation list of certificates that Sign or Client made, and how long it is good for.
func (ca *CA) Revoke(good time.Duration, certs ...*x509.Certificate) ([]byte, error) {
	ca.last++
	list := &x509.RevocationList{Number: big.NewInt(ca.last), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(good)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

func (ca *CA) pair(name string) (tls.Certificate, error) {
	cert, key, err := ca.Sign(name)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// Server is the configuration of a listener that asks for a client certificate, and does not insist.
func (ca *CA) Server() (*tls.Config, error) {
	pair, err := ca.pair("localhost")
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}, nil
}

// Client is the configuration of a client with a certificate of that name; "" is one without.
func (ca *CA) Client(name string) (*tls.Config, error) {
	c := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if name == "" {
		return c, nil
	}
	pair, err := ca.pair(name)
	c.Certificates = []tls.Certificate{pair}
	return c, err
}

// secret signs tokens.
const secret = "a key of thirty-two bytes, at least"

// KeySet is the JWK set that Token's signatures are checked by.
func KeySet() []byte {
	return []byte(`{"keys":[{"kty":"oct","alg":"HS256","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secret)) + `"}]}`)
}

// JWT takes what Token makes.
func JWT() *auth.JWT { return &auth.JWT{Keys: [][]byte{KeySet()}} }

// Token is a signed token (RFC 7519) for a user.
func Token(user string, life time.Duration) string {
	body, err := json.Marshal(map[string]any{"sub": user, "exp": time.Now().Add(life).Unix()})
	if err != nil {
		panic("BUG: encode token: " + err.Error()) // of a string and a number
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
