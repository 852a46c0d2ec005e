package config

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rivulet/edge/auth"
)

func entry(t testing.TB, name string) (auth.User, string) {
	t.Helper()
	u := auth.User{Name: name, Groups: []string{"ops"}}
	for _, m := range []string{auth.SHA256, auth.SHA512} {
		c, err := auth.NewCredential(m, "hunter22", auth.DefaultIterations, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		u.Credentials = append(u.Credentials, c)
	}
	text, err := PrintUser(u)
	if err != nil {
		t.Fatal(err)
	}
	return u, string(text)
}

// What `rivulet user hash` prints is what a users file takes.
func TestUsersFile(t *testing.T) {
	want, text := entry(t, "ann")
	list, err := ParseUsers("users.yaml", []byte("users:\n"+text+"- {name: dev-1, disabled: true}\n"))
	if err != nil || len(list) != 2 || !list[1].Disabled {
		t.Fatalf("%v, %v", list, err)
	}
	got := list[0]
	if got.Name != want.Name || !slices.Equal(got.Groups, want.Groups) || len(got.Credentials) != 2 || got.Credentials[1].String() != want.Credentials[1].String() {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string]struct{ text, want string }{
		"password":    {"users: [{name: ann, password: hunter22}]", `users.yaml:1:21: unknown key "password" in users[0]`},
		"credential":  {"users: [{name: ann, scram: [hunter22]}]", "users.yaml:1:29: users[0].scram[0]: invalid credential: want MECHANISM$ITERATIONS:SALT$STORED_KEY:SERVER_KEY, as `rivulet user hash` prints it"},
		"twice":       {"users: [{name: ann}, {name: ann}]", "users.yaml:1:29: users[1].name: user ann is there twice"},
		"name":        {"users: [{name: \"a*\"}]", "users.yaml:1:9: users[0]: invalid user name \"a*\": *, { and } have a meaning in rules"},
		"two records": {"users:\n" + text + "  # again\n" + strings.Replace(text, "ann", "ann", 1), "is there twice"},
		"not YAML":    {"users: [", "not YAML"},
		"documents":   {"users: []\n---\nusers: []\n", "one document"},
	} {
		_, err := ParseUsers("users.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	if list, err := ParseUsers("users.yaml", nil); err != nil || list == nil {
		t.Errorf("an empty file is no users, not no file: %v, %v", list, err)
	}
}

func TestAuthority(t *testing.T) {
	dir := t.TempDir()
	_, text := entry(t, "ann")
	for name, text := range map[string]string{"users.yaml": "users:\n" + text, "keys.json": `{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(text string) (auth.Config, error) {
		file := filepath.Join(dir, "r.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, nil)
		if err == nil {
			err = c.Check()
		}
		if err != nil {
			return auth.Config{}, err
		}
		return c.Authority()
	}
	c, err := load(`
auth:
  users_file: users.yaml
  default: allow
  jwt: {keys: [keys.json], audience: [rivulet], leeway: 5s, groups_claim: roles}
  certificates: [{from: dns}]
  acl:
    - {allow: "publish, subscribe", user: "dev-*", mqtt: "a/{client}/#", host: 10.0.0.0/8}
    - {deny: all, cluster: true}
`)
	if err != nil || len(c.Users) != 1 || c.Anonymous != auth.AnonymousUnset || c.Default != auth.DefaultAllow || c.JWT.Groups != "roles" || len(c.Certificates) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if r := c.Rules[0]; r.String() != "allow publish,subscribe user dev-* host 10.0.0.0/8 mqtt a/{client}/#" || !strings.HasSuffix(r.Source, "r.yaml:8") {
		t.Errorf("%s (%s)", r, r.Source)
	}
	if _, err := auth.New(auth.Options{Store: nothing{}, Config: c}); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"auth: {acl: [{user: a}]}": "auth.acl[0]: say either allow or deny", "auth: {acl: [{allow: read, topic: a, group: b}]}": "a rule is about one resource",
		"auth: {acl: [{allow: publish}]}": "publish on what?", "auth: {acl: [{allow: publish, mqtt: \"a/#/b\"}]}": "# stands alone and last",
		"auth: {jwt: {issuer: x}}": "keys are missing", "auth: {iterations: 100}": "100 is not between 4096 and 16384",
		"auth: {certificates: [{from: cn, match: \"(\"}]}": "missing closing )", "auth: {users_file: none.yaml}": "read users", "auth: {jwt: {keys: [users.yaml]}}": "read keys of tokens",
		"auth: {default: perhaps}": "is not one of deny, allow", "auth: {acl: [{allow: all, user: a, topic: \"{device}\"}]}": "want {user}, {client} or {edge}",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// From the environment, too.
	for value, want := range map[string]auth.Anonymous{"true": auth.AnonymousYes, "false": auth.AnonymousNo} {
		e, err := Load("", []string{"RIVULET_AUTH_ANONYMOUS=" + value})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := e.Authority(); err != nil || c.Anonymous != want {
			t.Errorf("%s: %v, %v", value, c.Anonymous, err)
		}
	}
}

func FuzzUsers(f *testing.F) {
	_, text := entry(f, "ann")
	f.Add([]byte("users:\n" + text))
	f.Add([]byte("users: [{name: a, groups: [b], disabled: true}, {name: a}]"))
	f.Add([]byte("users: {a: [}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseUsers("u", data)
		if err != nil {
			return
		}
		if _, err := auth.New(auth.Options{Store: nothing{}, Config: auth.Config{Users: list}}); err != nil {
			t.Fatalf("%q is taken, and then refused: %v", data, err)
		}
	})
}
