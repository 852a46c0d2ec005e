package config

import (
	"fmt"
	"os"
	"time"

	"rivulet/edge/auth"
)

// Auth says who may come in, and what it may do there.
type Auth struct {
	// Anonymous lets in who does not log in. Left out: only on loopback, and only while nobody can log in.
	Anonymous    *bool         `yaml:"anonymous,omitempty"`
	UsersFile    string        `yaml:"users_file,omitempty"` // instead of users in the store
	ACL          []ACL         `yaml:"acl,omitempty"`
	Default      string        `yaml:"default,omitempty" oneof:"deny allow"` // where no rule speaks
	JWT          *JWT          `yaml:"jwt,omitempty"`
	Certificates []Certificate `yaml:"certificates,omitempty"`
	Iterations   int           `yaml:"iterations,omitempty"` // of PBKDF2, for new passwords
}

// ACL is one access rule, on one resource; with none, on all of them.
type ACL struct {
	Allow   string `yaml:"allow,omitempty"`
	Deny    string `yaml:"deny,omitempty"`
	User    string `yaml:"user,omitempty"`
	Host    string `yaml:"host,omitempty"`
	MQTT    string `yaml:"mqtt,omitempty"`
	Topic   string `yaml:"topic,omitempty"`
	Group   string `yaml:"group,omitempty"`
	Txn     string `yaml:"txn,omitempty"`
	Plugin  string `yaml:"plugin,omitempty"`
	Sync    string `yaml:"sync,omitempty"`
	Cluster bool   `yaml:"cluster,omitempty"`
}

// JWT says which tokens are taken.
type JWT struct {
	Keys        []string `yaml:"keys"` // files
	Issuer      string   `yaml:"issuer,omitempty"`
	Audience    []string `yaml:"audience,omitempty"`
	UserClaim   string   `yaml:"user_claim,omitempty"`
	GroupsClaim string   `yaml:"groups_claim,omitempty"`
	Leeway      Duration `yaml:"leeway,omitempty"`
}

// Certificate is one rule that makes a user name of a client certificate.
type Certificate struct {
	From  string `yaml:"from" oneof:"cn dns email uri"`
	Match string `yaml:"match,omitempty"`
	User  string `yaml:"user,omitempty"`
}

// Configured reports whether it was said who may come in, so that a listener may be open to the network.
func (a Auth) Configured() bool {
	return a.Anonymous != nil || a.UsersFile != "" || a.JWT != nil || len(a.Certificates) > 0
}

// Rule is the rule as the authority takes it.
func (r ACL) Rule() (auth.Rule, error) {
	words := r.Allow
	if r.Deny != "" {
		words = r.Deny
	}
	if (r.Allow == "") == (r.Deny == "") {
		return auth.Rule{}, fmt.Errorf("say either allow or deny")
	}
	actions, err := auth.ParseActions(words)
	if err != nil {
		return auth.Rule{}, err
	}
	rule := auth.Rule{Deny: r.Deny != "", Actions: actions, User: r.User, Host: r.Host}
	given := 0
	for _, on := range []struct {
		kind auth.Kind
		name string
	}{
		{auth.KindMQTT, r.MQTT},
		{auth.KindTopic, r.Topic},
		{auth.KindGroup, r.Group},
		{auth.KindTxn, r.Txn},
		{auth.KindPlugin, r.Plugin},
		{auth.KindSync, r.Sync},
	} {
		if on.name != "" {
			given++
			rule.SetName(on.kind, on.name)
		}
	}
	if r.Cluster {
		given++
		rule.SetName(auth.KindCluster, auth.ClusterName)
	}
	if given > 1 {
		return auth.Rule{}, fmt.Errorf("a rule is about one resource; write one rule for each")
	}
	return rule, rule.Check()
}

func (k *checker) auth() {
	a := &k.c.Auth
	for i, r := range a.ACL {
		if _, err := r.Rule(); err != nil {
			k.fail(fmt.Sprintf("auth.acl[%d]", i), "%s", err)
		}
	}
	if j := a.JWT; j != nil && len(j.Keys) == 0 {
		k.fail("auth.jwt", "keys are missing: name files with public keys, or a JWK set")
	}
	if n := a.Iterations; n != 0 && (n < auth.MinIterations || n > auth.MaxIterations) {
		k.fail("auth.iterations", "%d is not between %d and %d", n, auth.MinIterations, auth.MaxIterations)
	}
	if err := auth.CheckCertificateRules(a.certificates()); err != nil {
		k.fail("auth.certificates", "%s", err)
	}
}

func (a Auth) certificates() []auth.CertificateRule {
	var list []auth.CertificateRule
	for _, c := range a.Certificates {
		list = append(list, auth.CertificateRule(c))
	}
	return list
}

// maxSecretFile bounds key files and users files.
const maxSecretFile = 16 << 20

// Authority reads the files that auth names and returns what the authority takes. The configuration was checked.
func (c *Config) Authority() (auth.Config, error) {
	a := &c.Auth
	out := auth.Config{Certificates: a.certificates(), Iterations: a.Iterations}
	if a.Anonymous != nil {
		out.Anonymous = auth.AnonymousNo
		if *a.Anonymous {
			out.Anonymous = auth.AnonymousYes
		}
	}
	switch a.Default {
	case "deny":
		out.Default = auth.DefaultDeny
	case "allow":
		out.Default = auth.DefaultAllow
	}
	for i, r := range a.ACL {
		rule, err := r.Rule()
		if err != nil {
			return out, fmt.Errorf("auth.acl[%d]: %w", i, err)
		}
		rule.Source = "configuration"
		if at, ok := c.at.of(fmt.Sprintf("auth.acl[%d]", i)); ok {
			rule.Source = fmt.Sprintf("%s:%d", at.file, at.line)
		}
		out.Rules = append(out.Rules, rule)
	}
	if a.JWT != nil {
		out.JWT = &auth.JWT{
			Issuer: a.JWT.Issuer, Audience: a.JWT.Audience, UserClaim: a.JWT.UserClaim, Groups: a.JWT.GroupsClaim, Leeway: time.Duration(a.JWT.Leeway),
		}
		for _, name := range a.JWT.Keys {
			data, err := readBounded(name)
			if err != nil {
				return out, fmt.Errorf("read keys of tokens: %w", err)
			}
			if err := auth.CheckKeys(data); err != nil {
				return out, fmt.Errorf("read keys of tokens: %s: %w", name, err)
			}
			out.JWT.Keys = append(out.JWT.Keys, data)
		}
	}
	for _, l := range c.Listeners.all() {
		if l.TLS == nil || l.TLS.CRL == "" || !l.Open() {
			continue
		}
		revoked, err := l.TLS.Revoked()
		if err != nil {
			return out, c.At("listeners."+l.name+".tls.crl", err)
		}
		out.Revoked = append(out.Revoked, revoked)
	}
	if a.UsersFile != "" {
		data, err := readBounded(a.UsersFile)
		if err != nil {
			return out, fmt.Errorf("read users: %w", err)
		}
		if out.Users, err = ParseUsers(a.UsersFile, data); err != nil {
			return out, err
		}
	}
	return out, nil
}

// Revoked reads the revocation lists; nil when there are none.
func (t TLS) Revoked() (*auth.Revoked, error) {
	if t.CRL == "" {
		return nil, nil
	}
	lists, err := readBounded(t.CRL)
	if err != nil {
		return nil, err
	}
	authorities, err := readBounded(t.ClientCA)
	if err != nil {
		return nil, err
	}
	r, err := auth.ParseRevoked(lists, authorities)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.CRL, err)
	}
	return r, nil
}

func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxSecretFile {
		err = fmt.Errorf("%s: %d bytes are too long", name, info.Size())
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}
