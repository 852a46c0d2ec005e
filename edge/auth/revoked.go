package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// Revoked are certificates that their authorities took back (RFC 5280, 5). It is never changed. The zero value, and nil, revoke none.
type Revoked struct {
	serials map[string]struct{} // issuer, as it is encoded, and serial number
	until   time.Time           // of the list that is out of date first; zero: none says
}

// ParseRevoked reads revocation lists, PEM or one in DER, each signed by one of the authorities, which are PEM certificates. A list that is out of
// date is taken: what it revokes stays revoked.
func ParseRevoked(lists, authorities []byte) (*Revoked, error) {
	var cas []*x509.Certificate
	for rest := authorities; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if ca, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil {
			cas = append(cas, ca)
		}
	}
	var ders [][]byte
	for rest := lists; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = [][]byte{lists}
	}
	r := &Revoked{serials: map[string]struct{}{}}
	for i, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		if err := signedByOne(list, cas); err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.ReasonCode != reasonRemoved {
				r.serials[string(list.RawIssuer)+e.SerialNumber.String()] = struct{}{}
			}
		}
		if u := list.NextUpdate; !u.IsZero() && (r.until.IsZero() || u.Before(r.until)) {
			r.until = u
		}
	}
	return r, nil
}

// reasonRemoved stands in delta lists for what is valid again (RFC 5280, 5.3.1).
const reasonRemoved = 8

func signedByOne(list *x509.RevocationList, cas []*x509.Certificate) error {
	for _, ca := range cas {
		if bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: it is not signed by an authority of client_ca, but by %q", ErrInvalid, list.Issuer)
}

// Has reports whether a certificate was taken back.
func (r *Revoked) Has(cert *x509.Certificate) bool {
	if r == nil || len(r.serials) == 0 {
		return false
	}
	_, ok := r.serials[string(cert.RawIssuer)+cert.SerialNumber.String()]
	return ok
}

// Check returns ErrDenied when every one of the chains, leaf first, has a certificate that was taken back. No chain is no certificate, and fine.
func (r *Revoked) Check(chains [][]*x509.Certificate) error {
	var taken *x509.Certificate
	for _, chain := range chains {
		found := false
		for _, cert := range chain {
			if r.Has(cert) {
				taken, found = cert, true
			}
		}
		if !found {
			return nil
		}
	}
	if taken == nil {
		return nil
	}
	return fmt.Errorf("%w: certificate %s of %q was revoked", ErrDenied, taken.SerialNumber, taken.Subject)
}

// Until is when the first list is out of date; zero when none says.
func (r *Revoked) Until() time.Time {
	if r == nil {
		return time.Time{}
	}
	return r.until
}
