package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
)

// leaks lists which secrets stand in a text, as they are or encoded.
func leaks(text string, secrets map[string]string) (found []string) {
	for name, s := range secrets {
		for _, form := range []string{
			s, base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)), hex.EncodeToString([]byte(s)), url.QueryEscape(s),
		} {
			if strings.Contains(text, form) {
				found = append(found, name)
				break
			}
		}
	}
	return found
}

// TestNoRouteTellsSecrets: a broker is used with each kind of secret, the right ones and wrong ones; none of them stands in its log at
// the finest level, in what /v1 and /metrics tell an administrator, or in the printed configuration.
func TestNoRouteTellsSecrets(t *testing.T) {
	secrets := map[string]string{
		"password": "cauliflower-Pa55", "wrong password": "turnip-Pa55", "new password": "leek-Pa55", "token": authtest.Token("ann", time.Hour),
		"forged token": authtest.Token("ann", 2*time.Hour) + "forged", "uplink's password": "uplink-Pa55", "bridge's password": "bridge-Pa55",
	}
	dir := t.TempDir()
	var keys struct{ Keys []struct{ K string } }
	if err := json.Unmarshal(authtest.KeySet(), &keys); err != nil {
		t.Fatal(err)
	}
	secrets["token key"] = keys.Keys[0].K
	writeFile(t, dir, "keys.json", authtest.KeySet())
	writeFile(t, dir, "uplink.password", []byte(secrets["uplink's password"]+"\n"))
	writeFile(t, dir, "bridge.password", []byte(secrets["bridge's password"]+"\n"))
	cfg, err := config.Load(writeFile(t, dir, "rivulet.yaml", []byte(`
edge: test
data_dir: `+filepath.Join(dir, "data")+`
listeners: {mqtt: {addr: 127.0.0.1:0}, kafka: {addr: 127.0.0.1:0}, http: {addr: 127.0.0.1:0}}
auth:
  anonymous: false
  jwt: {keys: [keys.json]}
  acl: [{allow: all, user: ann}]
sync:
  - name: cloud
    kafka: {brokers: ["127.0.0.1:1"], sasl: {mechanism: PLAIN, user: edge, password_file: uplink.password}}
    up: [{topic: mqtt}]
bridges:
  - {name: line, broker: "tcp://127.0.0.1:1", subscribe: ["x/#"], user: edge, password_file: bridge.password}
`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	s, err := startServer(t.Context(), cfg, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 4})))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			if err := s.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	if err := s.auth.AddUser(t.Context(), auth.NewUser{Name: "ann", Password: secrets["password"]}); err != nil {
		t.Fatal(err)
	}
	secrets["stored key"], secrets["server key"] = storedKeys(t, s, "ann")
	useSecrets(t, s, secrets)
	useThings(t, s)

	told := map[string]string{}
	var printed bytes.Buffer
	if err := cfg.Print(&printed); err != nil {
		t.Fatal(err)
	}
	told["config print"] = printed.String()
	maps.Copy(told, everyVerb(t, s, dir, secrets))
	// A password that is changed, and one that is refused.
	for _, body := range []string{`{"password":"` + secrets["new password"] + `"}`, `{"password":["` + secrets["new password"] + `"]}`} {
		_, answer := asAnn(t, s, http.MethodPatch, "/v1/users/bob", body, secrets["password"])
		told["PATCH /v1/users/bob "+answer] = answer
	}
	for _, r := range everyRoute(t, s) {
		// What is not understood must not be quoted.
		body := `{"nonsense":"` + secrets["new password"] + `","password":7}`
		if r.method == http.MethodGet {
			body = ""
		}
		status, answer := asAnn(t, s, r.method, r.path, body, secrets["password"])
		if r.method == http.MethodGet && status != http.StatusOK {
			t.Errorf("GET %s: %d", r.path, status)
		}
		told[r.method+" "+r.path] = answer
	}
	stop()
	told["log"] = log.String()
	if !strings.Contains(told["log"], "wrong password") || len(told) < 100 {
		t.Fatalf("nothing to look into: %d texts", len(told))
	}
	for where, text := range told {
		for _, name := range leaks(text, secrets) {
			if where == "GET /v1/backup" && (name == "stored key" || name == "server key") {
				continue // a backup holds the users' records; SECURITY.md says what who has it can do
			}
			t.Errorf("%s tells the %s", where, name)
		}
	}
	// The search is able to find.
	for name, secret := range secrets {
		for _, text := range []string{"x" + secret + "y", base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
			if len(leaks(text, secrets)) == 0 {
				t.Errorf("%s is not found", name)
			}
		}
	}
}

// storedKeys are what the store keeps of a user's password.
func storedKeys(t *testing.T, s *server, user string) (stored, server string) {
	t.Helper()
	err := s.store.Scan("users", user, func(key string, value []byte) bool {
		var u auth.User
		if err := json.Unmarshal(value, &u); err != nil || len(u.Credentials) == 0 {
			t.Fatalf("record of %s: %v", key, err)
		}
		stored, server = string(u.Credentials[0].StoredKey), string(u.Credentials[0].ServerKey)
		return true
	})
	if err != nil || len(stored) < 32 || len(server) < 32 {
		t.Fatalf("keys of %d and %d bytes, %v", len(stored), len(server), err)
	}
	return stored, server
}

// useSecrets logs in by each protocol with what is right and what is wrong.
func useSecrets(t *testing.T, s *server, secrets map[string]string) {
	t.Helper()
	for _, password := range []string{"password", "wrong password", "token", "forged token"} {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetUsername("ann").SetPassword(secrets[password]).
			SetConnectRetry(false).SetAutoReconnect(false))
		c.Connect().WaitTimeout(time.Minute)
		c.Disconnect(100)
	}
	for _, m := range []sasl.Mechanism{
		plain.Auth{User: "ann", Pass: secrets["password"]}.AsMechanism(), plain.Auth{User: "ann", Pass: secrets["wrong password"]}.AsMechanism(),
		scram.Auth{User: "ann", Pass: secrets["password"]}.AsSha512Mechanism(), scram.Auth{User: "ann", Pass: secrets["wrong password"]}.AsSha256Mechanism(),
		oauth.Auth{Token: secrets["token"]}.AsMechanism(), oauth.Auth{Token: secrets["forged token"]}.AsMechanism(),
	} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.address("kafka")), kgo.SASL(m), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_ = cl.Ping(ctx) // half of them fail, and are to
		cancel()
		cl.Close()
	}
	for _, password := range []string{"wrong password", "password"} {
		asAnn(t, s, http.MethodGet, "/v1/broker", "", secrets[password])
		asAnn(t, s, http.MethodPost, "/v1/login", `{"user":"ann","password":"`+secrets[password]+`"}`, "")
	}
	asAnn(t, s, http.MethodPost, "/v1/users", `{"name":"bob","password":"`+secrets["new password"]+`"}`, secrets["password"])
	for _, token := range []string{"token", "forged token"} {
		asAnn(t, s, http.MethodGet, "/v1/topics?bearer", "", secrets[token])
	}
}

// asAnn asks with a password, with a token as bearer where the path says so, or without anything.
func asAnn(t *testing.T, s *server, method, path, body, secret string) (int, string) {
	t.Helper()
	patience := 20 * time.Second
	endless := path == "/v1/live" || strings.HasSuffix(path, "/tail")
	if endless {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address("http")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(path, "?bearer"):
		req.Header.Set("Authorization", "Bearer "+secret)
	case secret != "":
		req.SetBasicAuth("ann", secret)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !endless {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}
