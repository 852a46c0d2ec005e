package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rivulet/edge"
)

// Spaces of the store: users by name, rules by id, and what belongs to the authority itself.
const (
	spaceUsers = "users"
	spaceRules = "acls"
	spaceAuth  = "auth"

	keySecret   = "secret"
	keyRequired = "required"
)

// AnonymousName is how rules speak of who did not log in; no user may be called so, in any spelling.
const AnonymousName = "anonymous"

// User is one user with what its password is checked by.
type User struct {
	Name        string       `json:"name"`
	Groups      []string     `json:"groups,omitempty"`
	Disabled    bool         `json:"disabled,omitempty"`
	Credentials []Credential `json:"credentials,omitempty"`
	Changed     time.Time    `json:"changed,omitzero"`
	// Version changes with the credentials, and ends what was logged in by older ones.
	Version uint64 `json:"version,omitempty"`
}

func (u *User) credential(mechanism string) (Credential, bool) {
	i := slices.IndexFunc(u.Credentials, func(c Credential) bool { return c.Mechanism == mechanism })
	if i < 0 {
		return Credential{}, false
	}
	return u.Credentials[i], true
}

func (u *User) clone() *User {
	c := *u
	c.Groups, c.Credentials = slices.Clone(u.Groups), slices.Clone(u.Credentials)
	return &c
}

// CheckUserName refuses what would be taken for something else in a rule, a log or a SASL message.
func CheckUserName(name string) error {
	switch {
	case name == "" || len(name) > 255 || !utf8.ValidString(name):
		return fmt.Errorf("%w user name %q: want 1 to 255 bytes of UTF-8", ErrInvalid, name)
	case strings.HasPrefix(name, "@"):
		return fmt.Errorf("%w user name %q: @ is for groups", ErrInvalid, name)
	case strings.ContainsAny(name, "*{}"):
		return fmt.Errorf("%w user name %q: *, { and } have a meaning in rules", ErrInvalid, name)
	case strings.EqualFold(name, AnonymousName):
		return fmt.Errorf("%w user name %q: it stands for who did not log in", ErrInvalid, name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w user name %q: control characters", ErrInvalid, name)
	}
	return nil
}

// CheckGroup refuses a group that no rule could name.
func CheckGroup(name string) error {
	if err := CheckUserName(name); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	return nil
}

// Check refuses a user that could not log in or could not be named.
func (u *User) Check() error {
	if err := CheckUserName(u.Name); err != nil {
		return err
	}
	for _, g := range u.Groups {
		if err := CheckGroup(g); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	for i, c := range u.Credentials {
		if err := c.check(); err != nil {
			return fmt.Errorf("user %s: %w", u.Name, err)
		}
		if slices.ContainsFunc(u.Credentials[:i], func(o Credential) bool { return o.Mechanism == c.Mechanism }) {
			return fmt.Errorf("user %s: %w: two credentials for %s", u.Name, ErrInvalid, c.Mechanism)
		}
	}
	return nil
}

// usersNow are the file's users, or the store's. a.mu is held.
func (a *Authority) usersNow(c *Config) (map[string]*User, error) {
	if c.Users == nil {
		return maps.Clone(a.stored), nil
	}
	users := make(map[string]*User, len(c.Users))
	for i := range c.Users {
		u := c.Users[i].clone()
		if err := u.Check(); err != nil {
			return nil, err
		}
		if users[u.Name] != nil {
			return nil, fmt.Errorf("%w: user %s is there twice", ErrInvalid, u.Name)
		}
		u.Version = u.fingerprint()
		users[u.Name] = u
	}
	return users, nil
}

// fingerprint stands for a version where the file has none.
func (u *User) fingerprint() uint64 {
	v := uint64(14695981039346656037) // FNV-1a: to tell a change, not to resist anybody
	for _, c := range u.Credentials {
		for _, b := range c.StoredKey {
			v = (v ^ uint64(b)) * 1099511628211
		}
	}
	return v
}

func (a *Authority) load() error {
	err := a.o.Store.Scan(spaceUsers, "", func(name string, value []byte) bool {
		var u User
		if err := json.Unmarshal(value, &u); err != nil || u.Check() != nil || u.Name != name {
			a.log.Error("a user in the store cannot be read and cannot log in", "user", name)
			return true
		}
		a.stored[name] = &u
		return true
	})
	if err != nil {
		return fmt.Errorf("load users: %w", err)
	}
	var bad error
	err = a.o.Store.Scan(spaceRules, "", func(id string, value []byte) bool {
		r, err := decodeRule(value)
		if err != nil { // one that denies must not be lost in silence
			bad = fmt.Errorf("load rule %s: %w", id, err)
			return false
		}
		a.rules[id] = r
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("load rules: %w", err)
	}
	err = a.o.Store.Scan(spaceAuth, "", func(key string, value []byte) bool {
		switch key {
		case keySecret:
			a.secret = value
		case keyRequired:
			a.required = true
		}
		return true
	})
	if err == nil && len(a.secret) == 0 {
		a.secret = make([]byte, 32)
		if _, err = io.ReadFull(a.o.Rand, a.secret); err == nil {
			err = a.o.Store.Do(context.Background(), &edge.Commit{Urgent: true, Puts: []edge.Put{{Space: spaceAuth, Key: keySecret, Value: a.secret}}})
		}
	}
	if err != nil {
		return fmt.Errorf("load authority: %w", err)
	}
	return nil
}

// Users lists all by name, without credentials' secrets.
func (a *Authority) Users() []User {
	st := a.state.Load()
	list := make([]User, 0, len(st.users))
	for _, name := range sortedKeys(st.users) {
		u := st.users[name].clone()
		for i := range u.Credentials {
			c := &u.Credentials[i]
			c.Salt, c.StoredKey, c.ServerKey = nil, nil, nil
		}
		list = append(list, *u)
	}
	return list
}

// User is one of Users.
func (a *Authority) User(name string) (User, error) {
	for _, u := range a.Users() {
		if u.Name == name {
			return u, nil
		}
	}
	return User{}, fmt.Errorf("%w: %s", ErrNoUser, name)
}

// NewUser is a user to be made, or what is to be changed of one.
type NewUser struct {
	Name     string
	Password string // "": without one, or, of a user that is there, unchanged
	Groups   []string
	Disabled bool
}

// AddUser makes a user. ErrExists, ErrInvalid, ErrReadOnly.
func (a *Authority) AddUser(ctx context.Context, in NewUser) error {
	u := &User{Name: in.Name, Groups: slices.Clone(in.Groups), Disabled: in.Disabled}
	if err := a.setPassword(u, in.Password); err != nil {
		return err
	}
	return a.change(ctx, func(users map[string]*User) ([]*User, error) {
		if users[u.Name] != nil {
			return nil, fmt.Errorf("%w: %s", ErrExists, u.Name)
		}
		return []*User{u}, nil
	})
}

// SetPassword changes a user's password and ends what is logged in with the old one. ErrNoUser, ErrInvalid, ErrReadOnly.
func (a *Authority) SetPassword(ctx context.Context, name, password string) error {
	if password == "" {
		return fmt.Errorf("%w: the password is empty", ErrInvalid)
	}
	fresh := &User{Name: name}
	if err := a.setPassword(fresh, password); err != nil {
		return err
	}
	return a.UpdateUser(ctx, name, func(u *User) error {
		u.Credentials = fresh.Credentials
		return nil
	})
}

func (a *Authority) setPassword(u *User, password string) error {
	if password == "" {
		return nil
	}
	if err := CheckPassword(password); err != nil {
		return err
	}
	iterations := a.state.Load().iterations
	for _, m := range [...]string{SHA256, SHA512} {
		c, err := NewCredential(m, password, iterations, a.o.Rand)
		if err != nil {
			return err
		}
		u.Credentials = append(u.Credentials, c)
	}
	return nil
}

// CheckPassword refuses what the protocols cannot carry. Passwords are taken as they are, as Kafka does it: SASLprep, which
// RFC 5802 wants for what is not ASCII, is not applied.
func CheckPassword(password string) error {
	switch {
	case password == "" || len(password) > MaxPassword:
		return fmt.Errorf("%w password: want 1 to %d bytes", ErrInvalid, MaxPassword)
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return fmt.Errorf("%w password: want UTF-8 without NUL", ErrInvalid)
	}
	return nil
}

// UpdateUser changes one user. ErrNoUser, ErrInvalid, ErrReadOnly.
func (a *Authority) UpdateUser(ctx context.Context, name string, fn func(*User) error) error {
	return a.change(ctx, func(users map[string]*User) ([]*User, error) {
		old := users[name]
		if old == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoUser, name)
		}
		u := old.clone()
		if err := fn(u); err != nil {
			return nil, err
		}
		u.Name = name
		return []*User{u}, nil
	})
}

// CredentialChange is one line of Kafka's AlterUserScramCredentials (KIP-554): a credential to be set, or a mechanism to be dropped.
type CredentialChange struct {
	User       string
	Credential Credential
	Drop       string // mechanism
}

// ErrNoCredential: the user has none for that mechanism.
var ErrNoCredential = errors.New("no such credential")

// PutCredentials applies all of the changes in one commit, or none. It makes users that are not there, and deletes those that have
// no credential and no group left, but for disabled ones: their certificates and tokens shall stay out. An error names the first change that does not go; its index is returned, -1 if it is about all.
func (a *Authority) PutCredentials(ctx context.Context, changes []CredentialChange) (failed int, err error) {
	failed = -1
	err = a.change(ctx, func(users map[string]*User) ([]*User, error) {
		changed := map[string]*User{}
		for i, c := range changes {
			u := changed[c.User]
			if u == nil {
				u = &User{Name: c.User}
				if old := users[c.User]; old != nil {
					u = old.clone()
				}
				changed[c.User] = u
			}
			mechanism := c.Drop
			if mechanism == "" {
				mechanism = c.Credential.Mechanism
			}
			at := slices.IndexFunc(u.Credentials, func(o Credential) bool { return o.Mechanism == mechanism })
			switch {
			case c.Drop != "" && at < 0:
				failed = i
				return nil, fmt.Errorf("%w: %s of %s", ErrNoCredential, mechanism, c.User)
			case c.Drop != "":
				u.Credentials = slices.Delete(u.Credentials, at, at+1)
			case at >= 0:
				u.Credentials[at] = c.Credential
			default:
				u.Credentials = append(u.Credentials, c.Credential)
			}
			if err := u.Check(); err != nil {
				failed = i
				return nil, err
			}
			slices.SortFunc(u.Credentials, func(x, y Credential) int { return strings.Compare(x.Mechanism, y.Mechanism) })
		}
		var list []*User
		for _, name := range sortedKeys(changed) {
			u := changed[name]
			if len(u.Credentials) == 0 && len(u.Groups) == 0 && !u.Disabled {
				u = &User{Name: name, Version: gone}
			}
			list = append(list, u)
		}
		return list, nil
	})
	return failed, err
}

// gone is the version of a user that is to be deleted.
const gone = ^uint64(0)

// DeleteUser deletes a user and ends its connections. Rules that name it stay. ErrNoUser, ErrReadOnly.
func (a *Authority) DeleteUser(ctx context.Context, name string) error {
	return a.change(ctx, func(users map[string]*User) ([]*User, error) {
		if users[name] == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoUser, name)
		}
		return []*User{{Name: name, Version: gone}}, nil
	})
}

// change commits what fn makes of the stored users, and then lets it hold.
func (a *Authority) change(ctx context.Context, fn func(users map[string]*User) ([]*User, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.config.Users != nil {
		return fmt.Errorf("change users: %w: auth.users_file", ErrReadOnly)
	}
	list, err := fn(a.stored)
	if err != nil {
		return err
	}
	var commit edge.Commit
	for _, u := range list {
		put := edge.Put{Space: spaceUsers, Key: u.Name}
		if u.Version != gone {
			if err := u.Check(); err != nil {
				return err
			}
			u.Changed = a.now().UTC().Truncate(time.Second)
			u.Version = 1
			if old := a.stored[u.Name]; old != nil {
				u.Version = old.Version
				if !slices.EqualFunc(old.Credentials, u.Credentials, sameCredential) {
					u.Version++
				}
			}
			if u.Version == 1 && a.stored[u.Name] == nil {
				u.Version = uint64(a.now().UnixNano()) // a user of that name that was deleted must not be this one
			}
			if put.Value, err = json.Marshal(u); err != nil {
				return fmt.Errorf("encode user: %w", err)
			}
		}
		commit.Puts = append(commit.Puts, put)
	}
	if err := a.commit(ctx, &commit); err != nil {
		return fmt.Errorf("store user: %w", err)
	}
	for _, u := range list {
		if u.Version == gone {
			delete(a.stored, u.Name)
		} else {
			a.stored[u.Name] = u
		}
	}
	return a.publish()
}

func sameCredential(x, y Credential) bool {
	return x.Mechanism == y.Mechanism && x.Iterations == y.Iterations && slices.Equal(x.StoredKey, y.StoredKey)
}

// commit is durable on return. The first change marks the store: from then on who comes has to log in, even when the last user
// is deleted again. a.mu is held.
func (a *Authority) commit(ctx context.Context, c *edge.Commit) error {
	c.Urgent = true
	if !a.required {
		c.Puts = append(c.Puts, edge.Put{Space: spaceAuth, Key: keyRequired, Value: []byte{1}})
	}
	if err := a.o.Store.Do(ctx, c); err != nil {
		return err
	}
	a.required = true
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// UsersReadOnly reports whether users come from a file, where they are changed.
func (a *Authority) UsersReadOnly() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config.Users != nil
}
