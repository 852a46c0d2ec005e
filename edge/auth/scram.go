package auth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"rivulet/edge"
)

// scram is the server's side of RFC 5802 with RFC 7677, without channel binding: a client that insists on one (gs2 flag p) is
// refused; one that could but thinks that we cannot (y) is right, since no mechanism with -PLUS is offered.
type scram struct {
	a         *Authority
	c         Conn
	mechanism string

	gs2        string // header of client-first, which client-final repeats
	firstBare  string
	first      string // server-first
	nonce      string
	user       *User
	name       string
	credential Credential
	paid       bool // the limiter knows of this try
}

// maxScram bounds one message.
const maxScram = 4 << 10

// Server error values (RFC 5802, 7).
var (
	errScramEncoding  = scramError("invalid-encoding")
	errScramExtension = scramError("extensions-not-supported")
	errScramBinding   = scramError("channel-binding-not-supported")
	errScramBindings  = scramError("channel-bindings-dont-match")
	errScramProof     = scramError("invalid-proof")
	errScramOther     = scramError("other-error")
)

type scramError string

func (e scramError) Error() string { return string(e) }

// first takes client-first-message and makes server-first-message.
func (s *scram) begin(_ context.Context, message []byte) ([]byte, *edge.Principal, error) {
	if err := s.readFirst(string(message)); err != nil {
		return s.refuse(err, err.Error())
	}
	var err error
	if s.paid, err = s.a.limiter.check(s.a.now(), s.c.Addr, s.name); err != nil {
		return s.throttled(err)
	}
	var random [18]byte
	if _, err := io.ReadFull(s.a.o.Rand, random[:]); err != nil {
		return nil, nil, fmt.Errorf("make nonce: %w", err)
	}
	s.user, s.credential = s.a.credentialOf(s.name, s.mechanism)
	s.nonce += base64.StdEncoding.EncodeToString(random[:])
	s.first = "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.credential.Salt) + ",i=" + strconv.Itoa(s.credential.Iterations)
	return []byte(s.first), nil, nil
}

// readFirst parses gs2-header client-first-message-bare.
func (s *scram) readFirst(m string) error {
	if len(m) > maxScram || !utf8.ValidString(m) || strings.ContainsRune(m, 0) {
		return errScramEncoding
	}
	binding, rest, ok := strings.Cut(m, ",")
	authz, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return errScramEncoding
	}
	switch {
	case binding == "n" || binding == "y":
	case strings.HasPrefix(binding, "p="):
		return errScramBinding
	default:
		return errScramEncoding
	}
	s.gs2 = m[:len(m)-len(bare)]
	s.firstBare = bare
	if strings.HasPrefix(bare, "m=") {
		return errScramExtension
	}
	user, rest, ok := strings.Cut(bare, ",")
	nonce, extensions, _ := strings.Cut(rest, ",")
	name, isName := strings.CutPrefix(user, "n=")
	nonce, isNonce := strings.CutPrefix(nonce, "r=")
	if !ok || !isName || !isNonce || !printable(nonce) {
		return errScramEncoding
	}
	// A delegation token (KIP-48) is not a password; taking one for the other would be worse than refusing.
	for e := range strings.SplitSeq(extensions, ",") {
		if e != "" && (len(e) < 2 || e[1] != '=') && !strings.Contains(e, "=") {
			return errScramEncoding
		}
		if strings.HasPrefix(e, "tokenauth=") && e != "tokenauth=false" {
			return errScramExtension
		}
	}
	name, err := saslName(name)
	if err != nil {
		return err
	}
	s.name, s.nonce = name, nonce
	if authz != "" { // to act for another user is not offered
		as, ok := strings.CutPrefix(authz, "a=")
		if !ok {
			return errScramEncoding
		}
		if as, err = saslName(as); err != nil || as != name {
			return errScramOther
		}
	}
	return nil
}

// printable is the grammar of a nonce: visible ASCII without comma.
func printable(nonce string) bool {
	if nonce == "" {
		return false
	}
	for i := range len(nonce) {
		if c := nonce[i]; c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return true
}

// saslName undoes =2C and =3D; any other = is an error.
func saslName(s string) (string, error) {
	if s == "" || len(s) > 1024 {
		return "", errScramEncoding
	}
	if !strings.Contains(s, "=") {
		return s, nil
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "=")
		b.WriteString(before)
		switch {
		case !ok:
			return b.String(), nil
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", errScramEncoding
		}
		s = after[2:]
	}
}

// finish takes client-final-message and makes server-final-message.
func (s *scram) finish(_ context.Context, message []byte) ([]byte, *edge.Principal, error) {
	if !s.paid { // others from there may have failed since: however many exchanges were begun, so many may end
		if _, err := s.a.limiter.check(s.a.now(), s.c.Addr, s.name); err != nil {
			return s.throttled(err)
		}
	}
	verifier, err := s.verify(string(message))
	if err == nil && s.user != nil {
		// It may have been deleted, or got another password, since the exchange began.
		if now, credential := s.a.credentialOf(s.name, s.mechanism); now == nil || !sameCredential(credential, s.credential) {
			err = errScramProof
		} else {
			s.user = now
		}
	}
	switch {
	case err != nil:
		return s.refuse(err, err.Error())
	case s.user == nil:
		return s.refuse(errScramProof, "no such user, or none with this mechanism")
	case s.user.Disabled:
		return s.refuse(errScramProof, "user is disabled")
	}
	s.a.loggedIn(s.c, s.user.Name, s.mechanism)
	return []byte("v=" + base64.StdEncoding.EncodeToString(verifier)), s.a.keptUser(s.c, s.user, s.mechanism), nil
}

func (s *scram) verify(m string) (verifier []byte, err error) {
	if len(m) > maxScram || !utf8.ValidString(m) {
		return nil, errScramEncoding
	}
	at := strings.LastIndex(m, ",p=")
	if at < 0 {
		return nil, errScramEncoding
	}
	bare, proof64 := m[:at], m[at+len(",p="):]
	binding, rest, _ := strings.Cut(bare, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	binding, ok := strings.CutPrefix(binding, "c=")
	nonce, ok2 := strings.CutPrefix(nonce, "r=")
	proof, err := base64.StdEncoding.Strict().DecodeString(proof64)
	if !ok || !ok2 || err != nil {
		return nil, errScramEncoding
	}
	bound, err := base64.StdEncoding.Strict().DecodeString(binding)
	if err != nil {
		return nil, errScramEncoding
	}
	if string(bound) != s.gs2 {
		return nil, errScramBindings
	}
	// librdkafka before 2.3 sends its own part of the nonce twice; Kafka takes that, too. The proof is over what was sent.
	if !strings.HasSuffix(nonce, s.nonce) {
		return nil, errScramOther
	}
	h := hashOf(s.mechanism)
	message := s.firstBare + "," + s.first + "," + bare
	signature := sum(h, s.credential.StoredKey, message)
	if len(proof) != len(signature) {
		return nil, errScramProof
	}
	key := make([]byte, len(proof))
	subtle.XORBytes(key, proof, signature)
	stored := h()
	stored.Write(key)
	if subtle.ConstantTimeCompare(stored.Sum(nil), s.credential.StoredKey) != 1 {
		return nil, errScramProof
	}
	return sum(h, s.credential.ServerKey, message), nil
}

func (s *scram) throttled(err error) ([]byte, *edge.Principal, error) {
	return []byte("e=" + errScramOther), nil, s.a.throttled(s.c, s.name, s.mechanism, err)
}

// refuse ends the exchange with an error that the client may show.
func (s *scram) refuse(err error, why string) ([]byte, *edge.Principal, error) {
	value := errScramOther
	if e, ok := errors.AsType[scramError](err); ok {
		value = e
	}
	return []byte("e=" + value), nil, s.a.failed(s.c, s.name, s.mechanism, why)
}

// plain is RFC 4616: authorization id, NUL, user, NUL, password.
func (a *Authority) plain(ctx context.Context, c Conn, message []byte) ([]byte, *edge.Principal, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) || !utf8.Valid(message) {
		return nil, nil, a.failed(c, "", MechanismPlain, "malformed token")
	}
	p, err := a.password(ctx, string(parts[1]), string(parts[2]), c, MechanismPlain)
	return nil, p, err
}
