package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet/config"
	"rivulet/examples/plugins/builtin"
)

// ready is the log line that packagers and tests wait for.
type ready struct{ Msg, MQTT, Kafka, HTTP, Took string }

// served is a process of its own.
type served struct {
	cmd   *exec.Cmd
	at    ready
	after time.Duration // from its start to ready
	log   chan string   // what it logged behind ready, when it has ended
}

func serveProcess(t *testing.T, dataDir string) *served {
	t.Helper()
	s := &served{log: make(chan string, 1)}
	s.cmd = exec.Command("rivulet", "serve", "--data-dir", dataDir, "--log-format", "json",
		"--mqtt", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // has ended, unless the test failed
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("no line says ready: %v", err)
		}
		if json.Unmarshal(line, &s.at) == nil && s.at.Msg == "ready" {
			break
		}
	}
	s.after = time.Since(from)
	go func() {
		rest, _ := io.ReadAll(lines)
		s.log <- string(rest)
	}()
	return s
}

// SIGTERM lets what was acknowledged be kept, and ends with status 0; the next start finds it.
func TestServe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for round, want := range []string{"", "hello\n"} {
		s := serveProcess(t, dir)
		t.Logf("ready after %v, of which the start took %s", s.after, s.at.Took)
		for name, addr := range map[string]string{"mqtt": s.at.MQTT, "kafka": s.at.Kafka, "http": s.at.HTTP} {
			if host, port, err := net.SplitHostPort(addr); err != nil || host != "127.0.0.1" || port == "0" {
				t.Errorf("%s is at %q", name, addr)
			}
		}
		if round > 0 {
			if status, out, errs := call(t, "consume", "mqtt", "--server", s.at.HTTP); status != 0 || out != want {
				t.Errorf("round %d: %d, %q, %s", round, status, out, errs)
			}
		}
		if status, _, errs := call(t, "pub", "a", "-m", "hello", "--mqtt", s.at.MQTT); status != 0 {
			t.Error(errs)
		}
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if status, _, errs := call(t, "topic", "list", "--server", s.at.HTTP); status != 0 { // it lives
			t.Error(errs)
		}
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		log := <-s.log
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
		// Whether the reload came before the end is the scheduler's choice; TestReload looks at it.
		for _, want := range []string{"stopping", "stopped"} {
			if !strings.Contains(log, want) {
				t.Errorf("nothing says %q in\n%s", want, log)
			}
		}
	}
	if status, _, errs := call(t, "verify", "--data-dir", dir); status != 0 {
		t.Error(errs)
	}
}

// A port that is taken, or an uplink whose password is missing, leaves nothing behind: the next start works.
func TestStartFailsWhole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	status, _, errs := call(t, "serve", "--data-dir", dir, "--mqtt", "127.0.0.1:0", "--kafka", l.Addr().String(), "--http", "127.0.0.1:0")
	if status != exitFailed || !strings.Contains(errs, "open listener kafka") || !strings.Contains(errs, "choose another address (listeners.kafka.addr)") {
		t.Errorf("%d: %s", status, errs)
	}
	file := writeFile(t, t.TempDir(), "r.yaml", []byte(`
sync: [{name: a, kafka: {brokers: ["b:1"], sasl: {mechanism: PLAIN, user: u, password_file: none.txt}}, up: [{topic: t}]}]
`))
	status, _, errs = call(t, "serve", "--config", file, "--data-dir", dir, "--mqtt", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if status != exitFailed || !strings.Contains(errs, "uplink a: read password") {
		t.Errorf("%d: %s", status, errs)
	}
	testServer(t, func(c *config.Config) { c.DataDir = dir })
}

func TestDeclaredPluginsFollowTheFile(t *testing.T) {
	dir := t.TempDir()
	wasm := writeFile(t, dir, "a.wasm", builtin.Identity())
	attached := func(change func(*config.Config)) (list []string) {
		c := demoConfig(dir, "data")
		change(c)
		s, err := startServer(t.Context(), c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range s.broker.Attachments() {
			list = append(list, a.Plugin+" on "+a.Topic)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		return list
	}
	plugin := func(topic string) config.Plugin { return config.Plugin{Name: "p", File: wasm, Topic: topic} }
	for i, step := range []struct {
		declared []config.Plugin
		want     string
	}{
		{[]config.Plugin{plugin("a"), plugin("b")}, "p on a, p on b"},
		{[]config.Plugin{plugin("b")}, "p on b"},
		{nil, ""},
	} {
		if got := strings.Join(attached(func(c *config.Config) { c.Plugins = step.declared }), ", "); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

// certificate makes one for 127.0.0.1, signed by itself, and returns its files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rivulet test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return writeFile(t, dir, "c.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		writeFile(t, dir, "k.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// Every protocol behind TLS, MQTT with certificates of clients.
func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	s := testServer(t, func(c *config.Config) {
		l := config.Listener{Addr: "127.0.0.1:0", TLS: &config.TLS{Cert: cert, Key: key}}
		c.Listeners.Kafkas, c.Listeners.HTTPS = l, l
		c.Listeners.MQTTS = config.Listener{Addr: "127.0.0.1:0", TLS: &config.TLS{Cert: cert, Key: key, ClientCA: cert}}
		c.Listeners.MQTT.Addr, c.Listeners.Kafka.Addr, c.Listeners.HTTP.Addr = config.Off, config.Off, config.Off
	})
	for _, name := range []string{"mqtt", "kafka", "http"} {
		if addr := s.address(name); addr != "" {
			t.Errorf("%s is open at %s", name, addr)
		}
	}
	tc, err := clientTLS(&config.ClientTLS{CA: cert, Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	without, err := clientTLS(&config.ClientTLS{CA: cert})
	if err != nil {
		t.Fatal(err)
	}

	connect := func(tc *tls.Config) error {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + s.address("mqtts")).SetTLSConfig(tc).SetAutoReconnect(false).SetConnectTimeout(time.Minute))
		if err := await(t.Context(), c.Connect()); err != nil {
			return err
		}
		defer c.Disconnect(100)
		return await(t.Context(), c.Publish("a", 1, false, "hello"))
	}
	if err := connect(tc); err != nil {
		t.Error(err)
	}
	if connect(without) == nil {
		t.Error("a client without a certificate got in")
	}

	cl, err := kgo.NewClient(kgo.SeedBrokers(s.address("kafkas")), kgo.DialTLSConfig(without), kgo.ConsumeTopics("mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	fetches := cl.PollRecords(ctx, 1)
	if records := fetches.Records(); len(records) != 1 || string(records[0].Value) != "hello" {
		t.Errorf("%v, %v", records, fetches.Err())
	}

	transport := &http.Transport{TLSClientConfig: without}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + s.address("https") + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
