package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// How long certificates live: an authority of one's own, ten years; what it signs, a little over two, so that renewing is done often
// enough to be known how.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 825 * 24 * time.Hour
	// backdated is for clients whose clock is behind.
	backdated = 24 * time.Hour
)

// clockIsSet is a time that has certainly passed: a machine that says it is before has no clock yet.
var clockIsSet = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (p *program) tlsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tls", Short: "Make certificates for a start"}
	cmd.AddCommand(p.tlsInitCommand())
	return cmd
}

type tlsInit struct {
	hosts, clients []string
	now            func() time.Time
}

func (p *program) tlsInitCommand() *cobra.Command {
	t := tlsInit{now: time.Now}
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a local certificate authority, a server certificate and client certificates",
		Long: `Make a local certificate authority and what it signs, for a start:

  ca.pem, ca.key                  the authority, ten years; keep ca.key off the gateway
  server.pem, server.key          this host's names and addresses, 825 days
  client-NAME.pem, client-NAME.key one for each --client; the name is the user

What is there already is kept: run it again with the same DIR for more clients. To renew the server's certificate, delete
server.pem and server.key, run it again, and rivulet reload.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			made, err := t.run(args[0])
			for _, file := range made {
				p.note("made %s", file)
			}
			if err != nil {
				return err
			}
			if len(made) == 0 {
				p.note("everything is there already")
			}
			dir := args[0]
			_, err = fmt.Fprintf(p.stdout, "listeners:\n  mqtts:  {addr: 0.0.0.0:8883, tls: {cert: %[1]s, key: %[2]s, client_ca: %[3]s, client_auth: optional}}\n"+
				"  kafkas: {addr: 0.0.0.0:9093, tls: {cert: %[1]s, key: %[2]s}}\n  https:  {addr: 0.0.0.0:8443, tls: {cert: %[1]s, key: %[2]s}}\n",
				filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), filepath.Join(dir, "ca.pem"))
			return err
		},
	}
	cmd.Flags().StringSliceVar(&t.hosts, "host", nil, "name or address by which the server is reached; repeatable (default: this host's, and localhost)")
	cmd.Flags().StringSliceVar(&t.clients, "client", nil, "user to make a client certificate for; repeatable")
	return cmd
}

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (t *tlsInit) run(dir string) (made []string, err error) {
	if now := t.now(); now.Before(clockIsSet) {
		return nil, fmt.Errorf("make certificates: this machine's clock says %s; set it first, since certificates made now would have expired", now.Format(time.DateOnly))
	}
	for _, c := range t.clients {
		if c == "" || strings.ContainsAny(c, `/\`) || c[0] == '.' {
			return nil, usageError("--client %q: want a user's name that can be part of a file's", c)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	ca, fresh, err := t.authority(dir)
	if err != nil {
		return nil, err
	}
	if fresh {
		made = append(made, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	}
	leaf := func(name string, template *x509.Certificate) error {
		cert, key := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
		if exists(cert) && exists(key) {
			return nil
		}
		if err := t.sign(cert, key, template, &ca); err != nil {
			return err
		}
		made = append(made, cert, key)
		return nil
	}
	server := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range t.names() {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	server.Subject.CommonName = t.names()[0]
	if err := leaf("server", server); err != nil {
		return made, err
	}
	for _, c := range t.clients {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: c}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if err := leaf("client-"+c, template); err != nil {
			return made, err
		}
	}
	return made, nil
}

// names are what the server is reached by.
func (t *tlsInit) names() []string {
	if len(t.hosts) > 0 {
		return t.hosts
	}
	names := []string{}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	names = append(names, "localhost", "127.0.0.1", "::1")
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			names = append(names, n.IP.String())
		}
	}
	return names
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

// authority reads the one in dir, or makes it.
func (t *tlsInit) authority(dir string) (ca authority, fresh bool, err error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	if !exists(certFile) {
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: "Rivulet local CA"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if err := t.sign(certFile, keyFile, template, nil); err != nil {
			return ca, false, err
		}
		fresh = true
	}
	ca, err = readAuthority(certFile, keyFile)
	return ca, fresh, err
}

func readAuthority(certFile, keyFile string) (ca authority, err error) {
	der, err := readPEM(certFile, "CERTIFICATE")
	if err != nil {
		return ca, err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return ca, fmt.Errorf("read %s: %w", certFile, err)
	}
	if der, err = readPEM(keyFile, "PRIVATE KEY"); err != nil {
		return ca, fmt.Errorf("%w; bring back the authority's key to sign more", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return ca, fmt.Errorf("read %s: %w", keyFile, err)
	}
	var ok bool
	if ca.key, ok = key.(*ecdsa.PrivateKey); !ok {
		return ca, fmt.Errorf("read %s: not made by rivulet tls init", keyFile)
	}
	return ca, nil
}

func readPEM(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("read %s: no PEM block %s", file, kind)
	}
	return block.Bytes, nil
}

// sign makes a key and its certificate; without ca it signs itself.
func (t *tlsInit) sign(certFile, keyFile string, c *x509.Certificate, ca *authority) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return fmt.Errorf("make serial number: %w", err)
	}
	now := t.now()
	c.NotBefore = now.Add(-backdated)
	parent, signer := c, key
	if ca == nil {
		c.NotAfter = now.Add(caLife)
	} else {
		parent, signer = ca.cert, ca.key
		c.NotAfter = now.Add(leafLife)
		if c.NotAfter.After(parent.NotAfter) {
			c.NotAfter = parent.NotAfter
		}
		c.KeyUsage = x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	// The key first: a certificate without one would be kept at the next run.
	return errors.Join(
		writePEM(keyFile, "PRIVATE KEY", private, 0o600),
		writePEM(certFile, "CERTIFICATE", der, 0o644),
	)
}

func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}
