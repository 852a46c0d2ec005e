package http

import (
	"fmt"
	"net/http"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// User is one user. What its password is checked by is never shown.
type User struct {
	Name       string    `json:"name"`
	Groups     []string  `json:"groups"`
	Disabled   bool      `json:"disabled,omitempty"`
	Mechanisms []string  `json:"mechanisms"` // SCRAM mechanisms that it has a credential for; none: it cannot log in by password
	Changed    time.Time `json:"changed,omitzero"`
	ReadOnly   bool      `json:"read_only,omitempty"` // declared in a file
}

// NewUser is the body that makes a user.
type NewUser struct {
	Name     string   `json:"name"`
	Password string   `json:"password,omitempty"` // without one it logs in by token or certificate alone
	Groups   []string `json:"groups,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Admin    bool     `json:"admin,omitempty"` // with a rule that allows it everything
}

// UserChange is the body that changes a user; what is left out stays.
type UserChange struct {
	Password *string   `json:"password,omitempty"`
	Groups   *[]string `json:"groups,omitempty"`
	Disabled *bool     `json:"disabled,omitempty"`
}

func (s *Server) userRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/users", does: "all users by name", out: []User{}, handle: s.listUsers},
		{method: http.MethodPost, path: "/v1/users", does: "make a user", in: NewUser{}, out: User{}, handle: s.createUser},
		{method: http.MethodGet, path: "/v1/users/{user}", does: "one user", out: User{}, handle: s.getUser},
		{method: http.MethodPatch, path: "/v1/users/{user}", does: "change a user; its own password a user may change itself", in: UserChange{}, out: User{}, handle: s.alterUser},
		{method: http.MethodDelete, path: "/v1/users/{user}", does: "delete a user and end its connections", handle: s.deleteUser},
	}
}

// authority is there whenever the program runs; tests may do without.
func (s *Server) authority() (*auth.Authority, error) {
	if s.o.Auth == nil {
		return nil, notFound("this broker keeps no users and rules")
	}
	return s.o.Auth, nil
}

func (s *Server) administer(r *http.Request, resource string) (*auth.Authority, error) {
	if err := s.allow(r, edge.OpAdmin, resource); err != nil {
		return nil, err
	}
	return s.authority()
}

func describeUser(a *auth.Authority, u auth.User) User {
	out := User{Name: u.Name, Groups: u.Groups, Disabled: u.Disabled, Changed: u.Changed, Mechanisms: []string{}, ReadOnly: a.UsersReadOnly()}
	for _, c := range u.Credentials {
		out.Mechanisms = append(out.Mechanisms, c.Mechanism)
	}
	if out.Groups == nil {
		out.Groups = []string{}
	}
	return out
}

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "users")
	if err != nil {
		return err
	}
	list := []User{}
	for _, u := range a.Users() {
		list = append(list, describeUser(a, u))
	}
	return answer(w, http.StatusOK, list)
}

func (s *Server) getUser(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "users")
	if err != nil {
		return err
	}
	return s.answerUser(w, http.StatusOK, a, r.PathValue("user"))
}

func (s *Server) answerUser(w http.ResponseWriter, status int, a *auth.Authority, name string) error {
	u, err := a.User(name)
	if err != nil {
		return err
	}
	return answer(w, status, describeUser(a, u))
}

func (s *Server) createUser(w http.ResponseWriter, r *http.Request) error {
	var in NewUser
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	a, err := s.administer(r, "user "+in.Name)
	if err != nil {
		return err
	}
	if err := a.AddUser(r.Context(), auth.NewUser{Name: in.Name, Password: in.Password, Groups: in.Groups, Disabled: in.Disabled}); err != nil {
		return err
	}
	if in.Admin {
		if err := a.AddRules(r.Context(), auth.Rule{Actions: auth.All, User: in.Name}); err != nil {
			return fmt.Errorf("user %s is made, but is no administrator: %w", in.Name, err)
		}
	}
	return s.answerUser(w, http.StatusCreated, a, in.Name)
}

func (s *Server) alterUser(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("user")
	var in UserChange
	if err := read(w, r, maxBody, &in); err != nil {
		return err
	}
	a, err := s.authority()
	if err != nil {
		return err
	}
	// One's own password one may change when it was just given; a cookie or a token that was found is not enough.
	p := principal(r)
	own := p.Name == name && p.Method == auth.MethodPassword && r.Header.Get("Authorization") != "" && in.Groups == nil && in.Disabled == nil
	if !own {
		if a, err = s.administer(r, "user "+name); err != nil {
			return err
		}
	}
	if in.Password != nil {
		if err := a.SetPassword(r.Context(), name, *in.Password); err != nil {
			return err
		}
		if own {
			a.Record(auth.Event{Who: name, From: p.Addr, Protocol: protocol, What: "password", Resource: name, Allowed: true})
		}
	}
	if in.Groups != nil || in.Disabled != nil {
		err := a.UpdateUser(r.Context(), name, func(u *auth.User) error {
			if in.Groups != nil {
				u.Groups = *in.Groups
			}
			if in.Disabled != nil {
				u.Disabled = *in.Disabled
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.answerUser(w, http.StatusOK, a, name)
}

func (s *Server) deleteUser(w http.ResponseWriter, r *http.Request) error {
	a, err := s.administer(r, "user "+r.PathValue("user"))
	if err != nil {
		return err
	}
	if err := a.DeleteUser(r.Context(), r.PathValue("user")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
