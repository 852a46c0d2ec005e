package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// rush starts the devices' process, gives it the sign, and returns what it says when all devices are in. meanwhile, unless it is nil, runs from then on until the
// channel has a value.
func (s *storm) rush(ctx context.Context, args []string, meanwhile func(in <-chan time.Time) error) (r rushResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"rush"}, args...)...)
	cmd.Stderr = s.progress
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return r, fmt.Errorf("make pipe: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return r, fmt.Errorf("make pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("start devices: %w", err)
	}
	defer func() { err = errors.Join(err, stdin.Close(), cmd.Wait()) }()
	lines := bufio.NewReader(stdout)
	if _, err := lines.ReadString('\n'); err != nil { // they are ready
		return r, fmt.Errorf("wait for the devices: %w", err)
	}
	if _, err := fmt.Fprintln(stdin); err != nil {
		return r, fmt.Errorf("start the devices: %w", err)
	}
	in := make(chan time.Time, 1)
	read := make(chan error, 1)
	go func() {
		line, err := lines.ReadBytes('\n')
		in <- time.Now()
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		read <- err
	}()
	if meanwhile != nil {
		err = meanwhile(in)
	}
	return r, errors.Join(err, <-read)
}

// rsaCertificate makes a server certificate that is its own authority.
func rsaCertificate(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.pem"), cert, 0o600), os.WriteFile(filepath.Join(dir, "server.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600),
	)
}
