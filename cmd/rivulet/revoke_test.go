package main

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet/config"
)

// A certificate that is revoked while its device is connected ends the connection at the next reload, and lets nobody in again; another
// device stays.
func TestRevokedWhileConnected(t *testing.T) {
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	made(t, certs, "lost", "kept")
	text := `
listeners:
  mqtts: {addr: 127.0.0.1:0, tls: {cert: certs/server.pem, key: certs/server.key, client_ca: certs/ca.pem}}
auth: {anonymous: false, acl: [{allow: all}]}
`
	s, rewrite := configured(t, dir, text, io.Discard)
	connect := func(name string) (client mqtt.Client, ended chan error, err error) {
		tc, err := clientTLS(&config.ClientTLS{
			CA: filepath.Join(certs, "ca.pem"), Cert: filepath.Join(certs, "client-"+name+".pem"), Key: filepath.Join(certs, "client-"+name+".key"), ServerName: "localhost",
		})
		if err != nil {
			t.Fatal(err)
		}
		tc.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		ended = make(chan error, 1)
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + s.address("mqtts")).SetClientID(name).SetTLSConfig(tc).SetAutoReconnect(false).
			SetConnectTimeout(10 * time.Second).SetConnectionLostHandler(func(_ mqtt.Client, err error) { ended <- err }))
		return c, ended, await(t.Context(), c.Connect())
	}
	_, lost, err := connect("lost")
	if err != nil {
		t.Fatal(err)
	}
	kept, stays, err := connect("kept")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Disconnect(100)

	rewrite(strings.Replace(text, "client_ca: certs/ca.pem", "client_ca: certs/ca.pem, crl: crl.pem", 1))
	if _, err := s.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "r.yaml:3:") {
		t.Fatalf("a list that is not there: %v", err)
	}
	writeFile(t, dir, "crl.pem", revocation(t, certs, "lost"))
	if _, err := s.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(20 * time.Second):
		t.Fatal("the device is still connected")
	}
	if c, _, err := connect("lost"); err == nil {
		c.Disconnect(10)
		t.Error("the device is in again")
	}
	if err := await(t.Context(), kept.Publish("a", 1, false, "x")); err != nil {
		t.Error(err)
	}
	select {
	case err := <-stays:
		t.Errorf("another device was disconnected: %v", err)
	default:
	}
}

// revocation is a list that the authority of `rivulet tls init` signed.
func revocation(t *testing.T, certs, client string) []byte {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(certs, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	ca, err := x509.ParseCertificate(read("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "ca.pem"), filepath.Join(certs, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(read("client-" + client + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: cert.SerialNumber, RevocationTime: time.Now()}},
	}, ca, pair.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
