//go:build interop

package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/cmd/rivulet-bench/wire"
)

// cutBroker is one broker of the power-cut table, as its own documentation has it for messages that must not be lost.
type cutBroker struct {
	name, settings string
	start          func(t *testing.T, dir, addr string) *exec.Cmd
}

func cutBrokers(t *testing.T) []cutBroker {
	return []cutBroker{
		{"Rivulet", "defaults", func(t *testing.T, dir, addr string) *exec.Cmd {
			return exec.Command(binary(t), "serve", "--data-dir", filepath.Join(dir, "data"), "--log-format", "json",
				"--mqtt", addr, "--kafka", "off", "--http", "off")
		}},
		{"Mosquitto " + mosquittoVersion(t), "`persistence true`, else defaults", func(t *testing.T, dir, addr string) *exec.Cmd {
			_, port, _ := net.SplitHostPort(addr)
			conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location " + dir +
				"/\nmax_queued_messages 0\nlog_type error\n"
			return exec.Command("mosquitto", "-c", writeConf(t, conf))
		}},
		{"NATS Server " + given(t, "RIVULET_NATS_VERSION"), "JetStream on files, MQTT, else defaults", func(t *testing.T, dir, addr string) *exec.Cmd {
			conf := fmt.Sprintf("server_name: cut\nlisten: 127.0.0.1:-1\njetstream { store_dir: %q }\nmqtt { listen: %q }\n", dir, addr)
			return exec.Command(given(t, "RIVULET_NATS"), "-c", writeConf(t, conf))
		}},
	}
}

func writeConf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mosquittoVersion(t *testing.T) string {
	out, _ := exec.Command("mosquitto", "-h").CombinedOutput() // it ends with 3
	_, rest, ok := strings.Cut(string(out), "version ")
	if !ok {
		t.Fatalf("mosquitto says no version: %s", out)
	}
	return strings.Fields(rest)[0]
}

// run starts a broker and waits for its MQTT.
func (b cutBroker) run(t *testing.T, dir, addr string) *process.Process {
	t.Helper()
	p, err := process.Start(b.start(t, dir, addr))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := wire.Dial(ctx, addr, "ready-probe"); err == nil {
			conn.Close()
			return p
		}
		select {
		case <-tick.C:
		case <-p.Ended:
			t.Fatalf("%s ended:\n%s", b.name, p.Log())
		case <-ctx.Done():
			t.Fatalf("%s does not answer:\n%s", b.name, p.Log())
		}
	}
}

// keeper is a subscriber with a persistent session that is offline while the devices publish: what is acknowledged to them is the
// broker's to keep for it.
type keeper struct {
	addr string

	mu   sync.Mutex
	got  map[string]map[int]bool // by source
	last time.Time
}

// visit connects, subscribes, and stays until done, or until nothing came for a while.
func (k *keeper) visit(t *testing.T, done func() bool) {
	t.Helper()
	take := func(_ mqtt.Client, m mqtt.Message) {
		source, number, err := parse(m.Payload())
		if err != nil {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.got[source] == nil {
			k.got[source] = map[int]bool{}
		}
		k.got[source][number] = true
		k.last = time.Now()
	}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + k.addr).SetClientID("keeper").SetCleanSession(false).
		SetAutoReconnect(false).SetDefaultPublishHandler(take).SetOrderMatters(true)
	c := mqtt.NewClient(o)
	for _, step := range []func() mqtt.Token{c.Connect, func() mqtt.Token { return c.Subscribe("site/#", 1, take) }} {
		if token := step(); !token.WaitTimeout(30*time.Second) || token.Error() != nil {
			t.Fatalf("keeper: %v", token.Error())
		}
	}
	defer c.Disconnect(1000)
	k.mu.Lock()
	k.last = time.Now()
	k.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		<-tick.C
		k.mu.Lock()
		quiet := time.Since(k.last) > 2*time.Second
		k.mu.Unlock()
		if quiet {
			return
		}
	}
}

// lost counts the acknowledged readings that did not come.
func (k *keeper) lost(ledgers []*ledger) (acked, lost int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range ledgers {
		l.mu.Lock()
		for n, ok := range l.acked {
			if !ok {
				continue
			}
			acked++
			if !k.got[l.source][n] {
				lost++
			}
		}
		l.mu.Unlock()
	}
	return acked, lost
}

// Power cuts under the same load, one broker after the other: 10 devices publish with QoS 1 to a subscriber that is offline. Nothing
// that Rivulet acknowledged may be missing; of the others it is written down. RIVULET_PROVEN names a file whose section is replaced.
func TestPowerCutPeers(t *testing.T) {
	cuts := int(fromEnv(t, "RIVULET_PEER_CUTS", 2))
	rows := []string{"| broker | settings | cuts | acknowledged | lost |", "| --- | --- | --- | --- | --- |"}
	for _, b := range cutBrokers(t) {
		from := time.Now()
		acked, lost := cutPower(t, b, cuts)
		t.Logf("%s: %d acknowledged, %d lost, %s", b.name, acked, lost, time.Since(from).Round(time.Second))
		rows = append(rows, fmt.Sprintf("| %s | %s | %d | %d | %d |", b.name, b.settings, cuts, acked, lost))
		if b.name == "Rivulet" && lost > 0 {
			t.Errorf("%d of %d acknowledged messages are lost", lost, acked)
		}
	}
	if file := os.Getenv("RIVULET_PROVEN"); file != "" {
		replaceSection(t, file, "power-cuts", strings.Join(rows, "\n"))
	}
}

func cutPower(t *testing.T, b cutBroker, cuts int) (acked, lost int) {
	t.Helper()
	d := newDisk(t)
	addrs, err := process.FreeAddrs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := b.run(t, d.dir, addrs[0])
	defer func() { p.Kill() }()
	for cut := range cuts + 1 {
		k := &keeper{addr: addrs[0], got: map[string]map[int]bool{}}
		k.visit(t, func() bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var ledgers []*ledger
		for i := range 10 {
			dev := &device{
				ledger: &ledger{source: fmt.Sprintf("cut-%d-%d", cut, i)}, addr: addrs[0], pace: 20 * time.Millisecond,
				rnd: rand.New(rand.NewPCG(uint64(cut), uint64(i))),
			}
			ledgers = append(ledgers, dev.ledger)
			wg.Go(func() { _ = dev.run(ctx, ctx) }) // it ends when it is told to, with an error
		}
		<-time.After(700*time.Millisecond + time.Duration(rand.IntN(600))*time.Millisecond)
		if cut == 0 { // the first is an orderly end: what the check finds missing then is the check's fault
			cancel()
			wg.Wait()
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
		} else {
			d.cut()
			p.Kill()
			cancel()
			wg.Wait()
			d.unmount()
			d.mount()
		}
		p = b.run(t, d.dir, addrs[0])
		k.visit(t, func() bool { _, lost := k.lost(ledgers); return lost == 0 })
		a, l := k.lost(ledgers)
		if a == 0 {
			t.Fatalf("%s acknowledged nothing:\n%s", b.name, p.Log())
		}
		if cut == 0 {
			if l > 0 {
				t.Fatalf("%s: %d of %d are missing after an orderly end", b.name, l, a)
			}
			continue
		}
		acked, lost = acked+a, lost+l
	}
	p.Kill()
	d.unmount()
	return acked, lost
}

// replaceSection puts text between the marks of a section in a Markdown file.
func replaceSection(t *testing.T, file, name, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->", "<!-- end of "+name+" -->"
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no section %s", file, name)
	}
	if err := os.WriteFile(file, []byte(head+begin+"\n\n"+text+"\n\n"+end+tail), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}
