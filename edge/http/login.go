package http

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// Login is the body that opens a session of the console.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// Session is who the sender of a request is.
type Session struct {
	User    string    `json:"user"` // "": anonymous, or the owner
	Method  string    `json:"method"`
	Groups  []string  `json:"groups"`
	Owner   bool      `json:"owner,omitempty"` // by the admin socket
	Expires time.Time `json:"expires,omitzero"`
}

func (s *Server) loginRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/session", does: "who you are for the broker", out: Session{}, handle: s.session},
		{method: http.MethodPost, path: "/v1/login", does: "open a session with a cookie, for the console", in: Login{}, out: Session{}, open: true, handle: s.login},
		{method: http.MethodPost, path: "/v1/logout", does: "end the cookie's session", open: true, handle: s.logout},
	}
}

// Bounds of sessions.
const (
	cookieName   = "rivulet_session"
	sessionIdle  = time.Hour
	sessionLife  = 12 * time.Hour
	maxSessions  = 1000
	cookieLength = 26
)

// sessions of the console, in memory: a restart asks for the password again. A session is kept by the hash of its cookie, so
// that neither a dump of the table nor a comparison tells one.
type sessions struct {
	now func() time.Time

	mu   sync.Mutex // guards what follows
	list map[[sha256.Size]byte]*consoleSession
}

type consoleSession struct {
	principal *edge.Principal
	opened    time.Time
	used      time.Time
}

func (l *sessions) open(p *edge.Principal) (cookie string) {
	cookie = rand.Text()
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = map[[sha256.Size]byte]*consoleSession{}
	}
	var oldest [sha256.Size]byte
	var at time.Time
	for k, s := range l.list {
		if s.over(now) {
			delete(l.list, k)
		} else if at.IsZero() || s.used.Before(at) {
			oldest, at = k, s.used
		}
	}
	if len(l.list) >= maxSessions {
		delete(l.list, oldest)
	}
	l.list[sha256.Sum256([]byte(cookie))] = &consoleSession{p, now, now}
	return cookie
}

func (s *consoleSession) over(now time.Time) bool {
	return now.Sub(s.used) > sessionIdle || now.Sub(s.opened) > sessionLife || !s.principal.Expires.IsZero() && !now.Before(s.principal.Expires)
}

// find returns whose cookie a request brings, nil when it brings none that holds.
func (l *sessions) find(r *http.Request, a *auth.Authority) *edge.Principal {
	key, ok := cookieOf(r)
	if !ok {
		return nil
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.list[key]
	if s == nil {
		return nil
	}
	if s.over(now) || a.Valid(s.principal) != nil {
		delete(l.list, key)
		return nil
	}
	s.used = now
	return a.WithAddr(s.principal, r.RemoteAddr)
}

func (l *sessions) end(r *http.Request) {
	if key, ok := cookieOf(r); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.list, key)
	}
}

func cookieOf(r *http.Request) (key [sha256.Size]byte, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) != cookieLength {
		return key, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}

// cookie is for this origin's pages alone: no script reads it, and no other site's request carries it.
func cookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: int(life.Seconds()),
	}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	var in Login
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	if s.o.Auth == nil {
		return badRequest("nobody has to log in here")
	}
	p, err := s.o.Auth.Password(r.Context(), in.User, in.Password, auth.Conn{Addr: r.RemoteAddr, Client: clientOf(r), Protocol: protocol, TLS: r.TLS})
	if err != nil {
		return s.unauthorized(w, r, err)
	}
	s.sessions.end(r)
	http.SetCookie(w, cookie(r, s.sessions.open(p), sessionLife))
	return answer(w, http.StatusOK, describeSession(p))
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	s.sessions.end(r)
	http.SetCookie(w, cookie(r, "", -time.Second))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	return answer(w, http.StatusOK, describeSession(principal(r)))
}

func describeSession(p *edge.Principal) Session {
	out := Session{User: p.Name, Method: p.Method, Groups: p.Groups, Owner: p.Super, Expires: p.Expires}
	if out.Groups == nil {
		out.Groups = []string{}
	}
	return out
}
