package http

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// allow asks whether the request's sender may do op on a resource. What administrators did is in the audit log.
func (s *Server) allow(r *http.Request, op edge.Op, resource string) error {
	p := principal(r)
	if !s.broker.Allow(p, op, resource) {
		return fmt.Errorf("%s %s as %s: %w", auth.OpName(op), resource, auth.Who(p), edge.ErrNotAuthorized)
	}
	if s.o.Auth != nil && changes[op] && r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.o.Auth.Record(auth.Event{
			Who: auth.Who(p), From: p.Addr, Protocol: protocol, What: auth.OpName(op), Resource: resource, Allowed: true, Detail: r.Method + " " + r.URL.Path,
		})
	}
	return nil
}

// changes are the operations that the audit log has one line for each time, not for refusals alone.
var changes = [edge.OpCount]bool{
	edge.OpCreate: true, edge.OpDelete: true, edge.OpAlter: true, edge.OpAdmin: true, edge.OpAlterConfigs: true, edge.OpGroupDelete: true,
	edge.OpClusterAlterConfigs: true, edge.OpPluginPush: true, edge.OpPluginAttach: true, edge.OpSyncControl: true,
}

// protocol names the front end in the audit log.
const protocol = "http"

type principalKey struct{}

// principal is who sent the request; wrap has put it there.
func principal(r *http.Request) *edge.Principal {
	if p, ok := r.Context().Value(principalKey{}).(*edge.Principal); ok {
		return p
	}
	return &edge.Principal{Addr: r.RemoteAddr} // of routes that are open to all
}

// valid reports whether the login of a long request still holds.
func (s *Server) valid(r *http.Request) bool {
	return s.o.Auth == nil || s.o.Auth.Valid(principal(r)) == nil
}

// authenticate finds out who sends a request: the owner by the admin socket, else what the request says, else the console's session,
// else the client certificate, else nobody.
func (s *Server) authenticate(r *http.Request) (*edge.Principal, error) {
	a := s.o.Auth
	if a == nil {
		return &edge.Principal{Addr: r.RemoteAddr}, nil
	}
	c := auth.Conn{Addr: r.RemoteAddr, Client: clientOf(r), Protocol: protocol, TLS: r.TLS}
	if r.Context().Value(ownerKey{}) != nil {
		return a.Owner(c), nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		if user, password, ok := r.BasicAuth(); ok {
			return a.Password(r.Context(), user, password, c)
		}
		scheme, token, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return a.Token(r.Context(), strings.TrimSpace(token), c)
		}
		return nil, fmt.Errorf("%w: want Authorization: Basic or Bearer", auth.ErrMechanism)
	}
	if p := s.sessions.find(r, a); p != nil {
		return p, nil
	}
	p, err := a.Login(r.Context(), "", "", c)
	if err == nil && p.Method == auth.MethodAnonymous && a.OpenUnsaid() && rebound(r) {
		return nil, errRebound
	}
	return p, err
}

var errRebound = errors.New("this broker is open on its own machine alone, and was asked for by another name; use localhost, or configure auth")

// rebound reports whether a request came to a loopback address by a name that is not this machine's: a page of another site whose name
// was made to point here looks to the browser as if it were ours (DNS rebinding), and no login would stop it.
func rebound(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil {
		return false
	}
	own, err := os.Hostname()
	return err != nil || host != strings.ToLower(own)
}

func clientOf(r *http.Request) string {
	name, _, _ := strings.Cut(r.UserAgent(), " ")
	return name
}

// unauthorized says how to log in. Pages are not asked by the browser's own dialogue: the console has a form.
func (s *Server) unauthorized(w http.ResponseWriter, r *http.Request, err error) error {
	if throttled, ok := errors.AsType[*auth.ThrottledError](err); ok {
		w.Header().Set("Retry-After", fmt.Sprint(int(throttled.RetryAfter.Seconds())+1))
		return &requestError{http.StatusTooManyRequests, err}
	}
	switch {
	case errors.Is(err, errRebound):
		return &requestError{http.StatusMisdirectedRequest, err}
	case errors.Is(err, auth.ErrAnonymous), errors.Is(err, auth.ErrDenied), errors.Is(err, auth.ErrMechanism):
	default: // the check did not come to an end
		return &requestError{http.StatusServiceUnavailable, err}
	}
	if r.Header.Get("Sec-Fetch-Mode") == "" {
		w.Header().Add("WWW-Authenticate", `Basic realm="rivulet", charset="UTF-8"`)
	}
	w.Header().Add("WWW-Authenticate", `Bearer realm="rivulet"`)
	return &requestError{http.StatusUnauthorized, err}
}

type ownerKey struct{}

// ownerListener marks what comes by the admin socket.
type ownerListener struct{ net.Listener }

type ownerConn struct{ net.Conn }

func (l ownerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return ownerConn{c}, nil
}

// ServeOwner is Serve for a listener that only the data directory's owner can reach: who comes by it may do everything.
func (s *Server) ServeOwner(ctx context.Context, l net.Listener) error {
	return s.Serve(ctx, ownerListener{l})
}

// connKey is the connection of a request's context: its gate is told when a request has come whole.
type connKey struct{}

func markOwner(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, connKey{}, c)
	if _, ok := c.(ownerConn); ok {
		return context.WithValue(ctx, ownerKey{}, true)
	}
	return ctx
}
