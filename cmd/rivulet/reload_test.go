package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge/auth"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// made are the certificates of `rivulet tls init`.
func made(t *testing.T, dir string, clients ...string) {
	t.Helper()
	init := tlsInit{now: time.Now, clients: clients}
	if _, err := init.run(dir); err != nil {
		t.Fatal(err)
	}
}

// configured starts a broker from a file, which reload reads again.
func configured(t *testing.T, dir, text string, log io.Writer) (s *server, rewrite func(text string)) {
	t.Helper()
	file := filepath.Join(dir, "r.yaml")
	rewrite = func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(text)
	f := serveFlags{config: file, dataDir: filepath.Join(dir, "d"), mqtt: "127.0.0.1:0", kafka: "127.0.0.1:0", http: "127.0.0.1:0"}
	load := func() (*config.Config, error) { return f.load(nil) }
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = startServer(t.Context(), c, slog.New(slog.NewJSONHandler(log, nil))); err != nil {
		t.Fatal(err)
	}
	s.readAgain(load, func(*config.Config) {})
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, rewrite
}

// Users, rules and certificates change while a connection stays; a bad file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	made(t, certs, "dev-1")
	const head = `
listeners:
  mqtts: {addr: 127.0.0.1:0, tls: {cert: certs/server.pem, key: certs/server.key, client_ca: certs/ca.pem}}
auth:
  anonymous: false
  acl:
    - {allow: publish, user: dev-1, mqtt: a/#}
`
	s, rewrite := configured(t, dir, head, io.Discard)
	tc, err := clientTLS(&config.ClientTLS{
		CA: filepath.Join(certs, "ca.pem"), Cert: filepath.Join(certs, "client-dev-1.pem"), Key: filepath.Join(certs, "client-dev-1.key"), ServerName: "localhost",
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + s.address("mqtts")).SetTLSConfig(tc).SetAutoReconnect(false).
		SetConnectTimeout(time.Minute).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	if err := await(t.Context(), c.Publish("a/b", 1, false, "1")); err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		nc, err := (&tls.Dialer{Config: tc}).DialContext(t.Context(), "tcp", s.address("mqtts"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()

	// Bad in every way that there is; each leaves everything as it was.
	for name, text := range map[string]string{
		"not YAML":       "auth: [",
		"unknown key":    head + "    - {allow: publish, user: dev-1, mqtt: b/#, colour: red}\n",
		"bad rule":       head + "    - {allow: publish, topic: b}\n",
		"no users file":  head + "  users_file: none.yaml\n",
		"no certificate": strings.Replace(head, "server.pem", "none.pem", 1),
		"no token keys":  head + "  jwt: {keys: [none.pem]}\n",
		"network":        "listeners: {ws: {addr: 0.0.0.0:0}}\n",
	} {
		rewrite(text)
		if _, err := s.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", name, err)
		}
		if serial() != first || !s.auth.Allow(s.auth.Someone("dev-1", nil, auth.Conn{}), 0, "a/b") || s.auth.Allow(s.auth.Someone("dev-1", nil, auth.Conn{}), 0, "b/b") {
			t.Errorf("%s: something has changed", name)
		}
	}

	for _, f := range []string{"server.pem", "server.key"} {
		if err := os.Remove(filepath.Join(certs, f)); err != nil {
			t.Fatal(err)
		}
	}
	made(t, certs)
	rewrite(head + "    - {allow: publish, user: dev-1, mqtt: b/#}\nstorage: {profile: small}\n")
	done, err := s.reload(t.Context())
	if err != nil || strings.Join(done.Changed, ",") != "auth,listeners.mqtts.tls" || strings.Join(done.Restart, ",") != "storage" {
		t.Fatalf("%+v, %v", done, err)
	}
	if serial() == first {
		t.Error("new connections get the old certificate")
	}
	for _, topic := range []string{"a/b", "b/b"} {
		if err := await(t.Context(), c.Publish(topic, 1, false, "2")); err != nil {
			t.Errorf("%s: %v", topic, err)
		}
	}
	select {
	case err := <-lost:
		t.Errorf("the connection was lost: %v", err)
	default:
	}
}

// A machine whose clock is before its own certificate was made takes the time from there; so clients' certificates are not too new.
func TestClockOf1970(t *testing.T) {
	certs := t.TempDir()
	made(t, certs)
	c, err := serverTLS(config.TLS{Cert: filepath.Join(certs, "server.pem"), Key: filepath.Join(certs, "server.key")})
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.Certificates[0].Leaf
	if now := c.Time(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		t.Errorf("time is %v", now)
	}
	if _, err := (&tlsInit{now: func() time.Time { return time.Unix(0, 0) }}).run(t.TempDir()); err == nil || !strings.Contains(err.Error(), "clock says 1970-01-01") {
		t.Errorf("certificates are made in 1970: %v", err)
	}
	data, err := readPEM(filepath.Join(certs, "server.pem"), "CERTIFICATE")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil || cert.VerifyHostname("localhost") != nil || cert.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("%v, %v", cert.DNSNames, err)
	}
	info, err := os.Stat(filepath.Join(certs, "server.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// Passwords, tokens, keys and credentials are in no log, dump, metric or answer, whatever goes wrong with them.
func TestSecretsStayInside(t *testing.T) {
	dir := t.TempDir()
	made(t, filepath.Join(dir, "certs"))
	const (
		password  = "correct-horse-battery"
		wrong     = "wrong-horse-battery"
		newSecret = "staple-of-another-colour"
		hmacKey   = "bm90LWEtcmVhbC1zZWNyZXQtYnV0LWxvbmctZW5vdWdo"
		token     = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLW5vdGhpbmc"
	)
	writeFile(t, dir, "jwks.json", []byte(`{"keys":[{"kty":"oct","k":"`+hmacKey+`"}]}`))
	key, err := os.ReadFile(filepath.Join(dir, "certs", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	keyLine := strings.Split(string(key), "\n")[1]
	log := &lines{}
	s, _ := configured(t, dir, `
listeners: {https: {addr: 127.0.0.1:0, tls: {cert: certs/server.pem, key: certs/server.key}}}
auth: {anonymous: false, jwt: {keys: [jwks.json]}, acl: [{allow: all, user: ann}]}
plugins: []
`, log)
	if err := s.auth.AddUser(t.Context(), auth.NewUser{Name: "ann", Password: password}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	web := func(method, path, body string, login func(*http.Request)) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address("http")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		login(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(&out, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	basic := func(p string) func(*http.Request) { return func(r *http.Request) { r.SetBasicAuth("ann", p) } }
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	web("GET", "/v1/topics", "", basic(wrong))
	web("GET", "/v1/topics", "", bearer)
	web("POST", "/v1/login", `{"user":"ann","password":"`+wrong+`"}`, func(*http.Request) {})
	web("POST", "/v1/login", `{"user":"ann","password":"`+password+`"}`, func(*http.Request) {})
	web("POST", "/v1/users", `{"name":"eve","password":"`+newSecret+`","groups":7}`, basic(password))
	web("POST", "/v1/users", `{"name":"eve","password":"`+newSecret+`"}`, basic(password))
	web("PATCH", "/v1/users/eve", `{"password":"`+newSecret+`\u0000"}`, basic(password))
	for _, path := range []string{"/v1/users", "/v1/users/eve", "/v1/acls", "/v1/broker", "/v1/session", "/metrics", "/openapi.json", "/v1/topics/_rivulet-audit/records?from=earliest&wait=1s"} {
		web("GET", path, "", basic(password))
	}
	http.DefaultClient.CloseIdleConnections()
	for _, p := range []string{password, wrong, token} {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetUsername("ann").SetPassword(p).SetAutoReconnect(false).SetConnectTimeout(time.Minute))
		if err := await(t.Context(), c.Connect()); err == nil {
			c.Disconnect(10)
		}
	}
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.address("mqtt")) // a CONNECT that is cut, and a lie
	if err != nil {
		t.Fatal(err)
	}
	_, err = nc.Write([]byte("\x10\xff\x01\x00\x04MQTT\x04\xc2" + password))
	if err = errors.Join(err, nc.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.cfg.Print(&out); err != nil {
		t.Fatal(err)
	}
	status, printed, _ := call(t, "config", "print", "--config", filepath.Join(dir, "r.yaml"))
	if status != 0 {
		t.Error(status)
	}
	secrets := map[string]string{
		"password": password, "wrong password": wrong, "new password": newSecret, "HMAC key": hmacKey, "token": token, "signature": "c2lnbmF0dXJl",
		"TLS key": keyLine, "stored key": `"stored_key":"`, "server key": `"server_key":"`,
	}
	for where, text := range map[string]string{"an answer or a dump": out.String(), "the log": log.String(), "config print": printed} {
		if len(text) < 100 {
			t.Errorf("%s is %q: nothing was looked at", where, text)
		}
		for _, name := range held(text, secrets) {
			t.Errorf("%s holds the %s", where, name)
		}
	}
	// The search finds what is there.
	if got := held("x "+password+` "stored_key":"AAAA"`, secrets); len(got) != 2 {
		t.Errorf("found %q of two that were planted", got)
	}
	if !strings.Contains(out.String(), `what\":\"login`) {
		t.Error("the audit topic was not looked at")
	}
}

// held names the secrets that a text holds.
func held(text string, secrets map[string]string) (names []string) {
	for name, secret := range secrets {
		if strings.Contains(text, secret) {
			names = append(names, name)
		}
	}
	return names
}
