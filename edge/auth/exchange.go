package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"rivulet/edge"
)

// SASL mechanisms besides SCRAM's.
const (
	MechanismPlain       = "PLAIN"
	MechanismOAuthBearer = "OAUTHBEARER"
)

// Exchange is one authentication in steps, for SASL and for MQTT 5 enhanced authentication. It belongs to one goroutine.
type Exchange struct {
	mechanism string
	step      func(ctx context.Context, message []byte) (answer []byte, p *edge.Principal, err error)
	next      func(ctx context.Context, message []byte) (answer []byte, p *edge.Principal, err error)
	ended     bool
}

// Mechanisms that Begin takes, in the order in which clients should be told.
func (a *Authority) Mechanisms() []string {
	list := []string{MechanismPlain, SHA256, SHA512}
	if a.state.Load().jwt != nil {
		list = append(list, MechanismOAuthBearer)
	}
	return list
}

// Begin starts an authentication. ErrMechanism.
func (a *Authority) Begin(mechanism string, c Conn) (*Exchange, error) {
	e := &Exchange{mechanism: mechanism}
	switch mechanism {
	case MechanismPlain:
		e.step = func(ctx context.Context, m []byte) ([]byte, *edge.Principal, error) { return a.plain(ctx, c, m) }
	case SHA256, SHA512:
		s := &scram{a: a, c: c, mechanism: mechanism}
		e.step, e.next = s.begin, s.finish
	case MechanismOAuthBearer:
		if a.state.Load().jwt == nil {
			return nil, fmt.Errorf("%w: %s; configure auth.jwt", ErrMechanism, mechanism)
		}
		e.step = func(ctx context.Context, m []byte) ([]byte, *edge.Principal, error) { return a.bearer(ctx, c, m, e) }
	default:
		return nil, fmt.Errorf("%w: %q; want one of %s", ErrMechanism, mechanism, strings.Join(a.Mechanisms(), ", "))
	}
	return e, nil
}

// Mechanism is the one that was begun.
func (e *Exchange) Mechanism() string { return e.mechanism }

// Step takes the client's next message. When the login is done, p is the principal, and answer, if not nil, is sent with the
// good news. While it goes on, p and err are nil. With an error, answer, if not nil, tells the client why in the mechanism's own words;
// the exchange is over. Errors: ErrDenied, ErrThrottled, ctx's.
func (e *Exchange) Step(ctx context.Context, message []byte) (answer []byte, p *edge.Principal, err error) {
	if e.ended || e.step == nil {
		return nil, nil, fmt.Errorf("%w: the exchange is over", ErrDenied)
	}
	answer, p, err = e.step(ctx, message)
	e.step, e.next = e.next, nil
	e.ended = p != nil || err != nil
	return answer, p, err
}

// bearer is RFC 7628: n,,\x01auth=Bearer TOKEN\x01\x01. A refusal is a JSON object, which the client answers with \x01 before it
// hears that it failed.
func (a *Authority) bearer(ctx context.Context, c Conn, message []byte, e *Exchange) ([]byte, *edge.Principal, error) {
	token, user, err := bearerToken(string(message))
	if err != nil {
		return nil, nil, a.failed(c, "", MechanismOAuthBearer, err.Error())
	}
	p, err := a.Token(ctx, token, c)
	if err == nil && user != "" && user != p.Name {
		p, err = nil, a.failed(c, user, MechanismOAuthBearer, "the token is another user's")
	}
	if errors.Is(err, ErrDenied) {
		refusal, _ := json.Marshal(map[string]string{"status": "invalid_token"}) // of two constants
		e.next = func(context.Context, []byte) ([]byte, *edge.Principal, error) { return nil, nil, ErrDenied }
		return refusal, nil, nil
	}
	return nil, p, err
}

// maxBearer bounds the message; tokens of identity providers are 1 to 4 KiB.
const maxBearer = 16 << 10

func bearerToken(m string) (token, user string, err error) {
	if len(m) > maxBearer {
		return "", "", errors.New("message is too long")
	}
	parts := strings.Split(m, "\x01")
	header := strings.Split(parts[0], ",")
	if len(parts) < 4 || parts[len(parts)-1] != "" || parts[len(parts)-2] != "" || len(header) != 3 || header[2] != "" {
		return "", "", errors.New("malformed message")
	}
	if header[0] != "n" && header[0] != "y" {
		return "", "", errors.New("channel binding is not supported")
	}
	if header[1] != "" {
		as, ok := strings.CutPrefix(header[1], "a=")
		if !ok {
			return "", "", errors.New("malformed message")
		}
		if user, err = saslName(as); err != nil {
			return "", "", err
		}
	}
	for _, pair := range parts[1 : len(parts)-2] {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return "", "", errors.New("malformed message")
		}
		if key != "auth" {
			continue
		}
		scheme, t, ok := strings.Cut(value, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || token != "" {
			return "", "", errors.New("malformed message")
		}
		token = strings.TrimSpace(t)
	}
	if token == "" {
		return "", "", errors.New("no token")
	}
	return token, user, nil
}
