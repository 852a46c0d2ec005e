package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
)

// Fields of a certificate that rules look at.
const (
	FromCN    = "cn"
	FromDNS   = "dns"
	FromEmail = "email"
	FromURI   = "uri"
)

// CertificateRule makes a user name of a client certificate.
type CertificateRule struct {
	From  string // cn, or a subject alternative name: dns, email, uri
	Match string // regular expression that the whole of it must match; "" is everything
	User  string // the user, with $1 for what was captured; "" is the whole
}

type certificateRule struct {
	from, user string
	match      *regexp.Regexp
}

func compileCertificates(rules []CertificateRule) ([]certificateRule, error) {
	if rules == nil {
		rules = []CertificateRule{{From: FromCN}}
	}
	list := make([]certificateRule, len(rules))
	for i, r := range rules {
		switch r.From {
		case FromCN, FromDNS, FromEmail, FromURI:
		default:
			return nil, fmt.Errorf("%w certificate rule: from %q; want cn, dns, email or uri", ErrInvalid, r.From)
		}
		c := certificateRule{from: r.From, user: r.User}
		if c.user == "" {
			c.user = "$0"
		}
		match := r.Match
		if match == "" {
			match = ".*"
		}
		var err error
		if c.match, err = regexp.Compile(`\A(?:` + match + `)\z`); err != nil {
			return nil, fmt.Errorf("%w certificate rule: %w", ErrInvalid, err)
		}
		list[i] = c
	}
	return list, nil
}

// userOfCertificate applies the first rule that fits.
func userOfCertificate(rules []certificateRule, cert *x509.Certificate) (string, error) {
	for _, r := range rules {
		for _, v := range r.values(cert) {
			at := r.match.FindStringSubmatchIndex(v)
			if v == "" || at == nil {
				continue
			}
			name := string(r.match.ExpandString(nil, r.user, v, at))
			if err := CheckUserName(name); err != nil {
				return "", err
			}
			return name, nil
		}
	}
	return "", errors.New("no rule of auth.certificates makes a user of this certificate")
}

func (r certificateRule) values(cert *x509.Certificate) []string {
	switch r.from {
	case FromDNS:
		return cert.DNSNames
	case FromEmail:
		return cert.EmailAddresses
	case FromURI:
		var list []string
		for _, u := range cert.URIs {
			list = append(list, u.String())
		}
		return list
	}
	return []string{cert.Subject.CommonName}
}

// CheckCertificateRules says what is wrong with them.
func CheckCertificateRules(rules []CertificateRule) error {
	_, err := compileCertificates(rules)
	return err
}
