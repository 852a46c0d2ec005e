package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// A server's signatures with an RSA key wait for their turn, in each version of TLS; a refused turn ends the handshake.
func TestRSASignaturesWait(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw"}, DNSNames: []string{"gw"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	turns, refused := 0, error(nil)
	c := &certificates{turn: func(_ context.Context, fn func()) error {
		if turns++; refused == nil {
			fn()
		}
		return refused
	}}
	c.hold(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	shake := func(version uint16) error {
		near, far := net.Pipe()
		server := make(chan error, 1)
		go func() {
			err := tls.Server(far, c.server()).HandshakeContext(t.Context())
			server <- errors.Join(err, far.Close())
		}()
		client := tls.Client(near, &tls.Config{RootCAs: pool, ServerName: "gw", MinVersion: version, MaxVersion: version})
		err := client.HandshakeContext(t.Context())
		_ = near.Close()
		<-server
		return err
	}
	for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if err := shake(version); err != nil || turns != i+1 {
			t.Errorf("version %x: %v, %d turns", version, err, turns)
		}
	}
	refused = context.Canceled
	if err := shake(tls.VersionTLS13); err == nil {
		t.Error("a handshake without a signature")
	}
}
