package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// The SCRAM mechanisms (RFC 5802, RFC 7677), strongest last, in the order in which a password is checked: the first that a user
// has is the cheapest.
const (
	SHA256 = "SCRAM-SHA-256"
	SHA512 = "SCRAM-SHA-512"
)

// Bounds of iterations: 4096 is the least that RFC 7677 allows, 16384 the most that Kafka's tools do.
const (
	DefaultIterations = 4096
	MinIterations     = 4096
	MaxIterations     = 16384
	saltBytes         = 16
	maxSalt           = 256
	// MaxPassword bounds what is hashed.
	MaxPassword = 1024
)

// Credential is what the broker keeps of a password: enough to check one, not enough to log in elsewhere with (RFC 5802, 3).
type Credential struct {
	Mechanism  string `json:"mechanism"`
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

func hashOf(mechanism string) func() hash.Hash {
	switch mechanism {
	case SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	}
	return nil
}

// NewCredential hashes a password. It takes 0.5 to 3 ms at 4096 iterations.
func NewCredential(mechanism, password string, iterations int, random io.Reader) (Credential, error) {
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(random, salt); err != nil {
		return Credential{}, fmt.Errorf("make salt: %w", err)
	}
	h := hashOf(mechanism)
	if h == nil {
		return Credential{}, fmt.Errorf("%w: %q; want %s or %s", ErrMechanism, mechanism, SHA256, SHA512)
	}
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return Credential{}, fmt.Errorf("hash password: %w", err)
	}
	return CredentialOfSalted(mechanism, salt, iterations, salted)
}

// CredentialOfSalted is for clients that hash on their side, as Kafka's AlterUserScramCredentials does (KIP-554).
func CredentialOfSalted(mechanism string, salt []byte, iterations int, salted []byte) (Credential, error) {
	h := hashOf(mechanism)
	if h == nil {
		return Credential{}, fmt.Errorf("%w: %q; want %s or %s", ErrMechanism, mechanism, SHA256, SHA512)
	}
	clientKey := sum(h, salted, "Client Key")
	stored := h()
	stored.Write(clientKey)
	c := Credential{
		Mechanism: mechanism, Salt: append([]byte(nil), salt...), Iterations: iterations, StoredKey: stored.Sum(nil), ServerKey: sum(h, salted, "Server Key"),
	}
	if len(salted) != h().Size() {
		return Credential{}, fmt.Errorf("%w credential: salted password of %d bytes, want %d", ErrInvalid, len(salted), h().Size())
	}
	return c, c.check()
}

// check refuses what cannot be used, such as a file's line that was cut.
func (c Credential) check() error {
	h := hashOf(c.Mechanism)
	switch {
	case h == nil:
		return fmt.Errorf("%w: %q; want %s or %s", ErrMechanism, c.Mechanism, SHA256, SHA512)
	case c.Iterations < MinIterations || c.Iterations > MaxIterations:
		return fmt.Errorf("%w credential: %d iterations, want %d to %d", ErrInvalid, c.Iterations, MinIterations, MaxIterations)
	case len(c.Salt) == 0 || len(c.Salt) > maxSalt:
		return fmt.Errorf("%w credential: salt of %d bytes, want 1 to %d", ErrInvalid, len(c.Salt), maxSalt)
	case len(c.StoredKey) != h().Size() || len(c.ServerKey) != h().Size():
		return fmt.Errorf("%w credential: keys of %d and %d bytes, want %d", ErrInvalid, len(c.StoredKey), len(c.ServerKey), h().Size())
	}
	return nil
}

// matches hashes a password and compares in constant time.
func (c Credential) matches(password string) bool {
	h := hashOf(c.Mechanism)
	salted, err := pbkdf2.Key(h, password, c.Salt, c.Iterations, h().Size())
	if err != nil { // it fits nobody, then
		return false
	}
	stored := h()
	stored.Write(sum(h, salted, "Client Key"))
	return subtle.ConstantTimeCompare(stored.Sum(nil), c.StoredKey) == 1
}

func sum(h func() hash.Hash, key []byte, parts ...string) []byte {
	m := hmac.New(h, key)
	for _, p := range parts {
		_, _ = io.WriteString(m, p)
	}
	return m.Sum(nil)
}

// String is the form in which users files hold a credential, which is PostgreSQL's: MECHANISM$ITERATIONS:SALT$STORED_KEY:SERVER_KEY,
// the last three in base64.
func (c Credential) String() string {
	b := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", c.Mechanism, c.Iterations, b(c.Salt), b(c.StoredKey), b(c.ServerKey))
}

// LogValue keeps credentials out of logs.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.Mechanism) }

// ParseCredential reads String's form. Its errors quote nothing of it.
func ParseCredential(s string) (Credential, error) {
	bad := fmt.Errorf("%w credential: want MECHANISM$ITERATIONS:SALT$STORED_KEY:SERVER_KEY, as `rivulet user hash` prints it", ErrInvalid)
	parts := strings.Split(s, "$")
	if len(parts) != 3 {
		return Credential{}, bad
	}
	c := Credential{Mechanism: parts[0]}
	count, salt, ok := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	var err error
	if c.Iterations, err = strconv.Atoi(count); err != nil || !ok || !ok2 {
		return Credential{}, bad
	}
	for _, f := range []struct {
		to   *[]byte
		text string
	}{{&c.Salt, salt}, {&c.StoredKey, stored}, {&c.ServerKey, server}} {
		if *f.to, err = base64.StdEncoding.DecodeString(f.text); err != nil {
			return Credential{}, bad
		}
	}
	return c, c.check()
}
