package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"rivulet/cmd/rivulet/config"
)

// certificates are a listener's TLS side. They are replaced as a whole when the configuration is reloaded; who is connected stays.
type certificates struct {
	name    string // of the listener
	turn    func(ctx context.Context, fn func()) error
	current atomic.Pointer[tls.Config]
}

// hold lets a configuration hold for new connections.
func (c *certificates) hold(t *tls.Config) {
	for i := range t.Certificates {
		if key, ok := t.Certificates[i].PrivateKey.(*rsa.PrivateKey); ok && c.turn != nil {
			t.Certificates[i].PrivateKey = patient{key, c.turn}
		}
	}
	c.current.Store(t)
}

// load reads the files and lets them hold for new connections.
func (c *certificates) load(t config.TLS) error {
	fresh, err := serverTLS(t)
	if err != nil {
		return err
	}
	c.hold(fresh)
	return nil
}

// patient signs with an RSA key when there is a processor for it: a signature takes a millisecond, in which nobody else has that
// processor. Those of elliptic curves take a fiftieth of that.
type patient struct {
	crypto.Signer
	turn func(ctx context.Context, fn func()) error
}

func (p patient) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	// Its connection is bounded in time as a whole.
	if e := p.turn(context.Background(), func() { signature, err = p.Signer.Sign(random, digest, opts) }); e != nil {
		return nil, e
	}
	return signature, err
}

// server is the configuration for the listener.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	}
}

// serverTLS reads certificate, key and authorities. With client_ca only clients with a certificate of it get in, unless it is optional.
func serverTLS(t config.TLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s: %w", t.Cert, err)
	}
	leaf := cert.Leaf
	c := &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		// A gateway without a clock battery starts in 1970, before any client's certificate. It is later than our own was made.
		Time: func() time.Time {
			now := time.Now()
			if now.Before(leaf.NotBefore) {
				return leaf.NotBefore
			}
			return now
		},
	}
	if t.ClientCA != "" {
		if c.ClientCAs, err = certPool(t.ClientCA); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if t.ClientAuth == "optional" {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
		revoked, err := t.Revoked()
		if err != nil {
			return nil, fmt.Errorf("load revocation lists: %w", err)
		}
		// Also of a session that is resumed.
		c.VerifyConnection = func(cs tls.ConnectionState) error { return revoked.Check(cs.VerifiedChains) }
	}
	return c, nil
}

// clientTLS is how an uplink knows its cluster, and the cluster it.
func clientTLS(t *config.ClientTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	var err error
	if t.CA != "" {
		if c.RootCAs, err = certPool(t.CA); err != nil {
			return nil, err
		}
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("load certificate %s: %w", t.Cert, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func certPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("load certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load certificates: %w", errors.New(file+" holds no PEM certificate"))
	}
	return pool, nil
}
