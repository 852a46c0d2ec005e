//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/edge/mqtt/packet"
)

// mosquitto is the peer with persistence, which can be ended and started again. It keeps everything for clients that are away.
type mosquitto struct {
	t    *testing.T
	conf string
	addr string // for whoever comes
	p    *process.Process
	said strings.Builder // by those before p
}

// newMosquitto starts it; rest is added to its configuration.
func newMosquitto(t *testing.T, rest string) *mosquitto {
	t.Helper()
	addrs, err := process.FreeAddrs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.ArtifactDir()
	m := &mosquitto{t: t, conf: filepath.Join(dir, "mosquitto.conf"), addr: addrs[0]}
	_, port := hostPort(m.addr)
	text := fmt.Sprintf("user root\nper_listener_settings true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nlog_type debug\nlog_dest stdout\nlistener %s 127.0.0.1\nallow_anonymous true\n%s", dir, port, rest)
	if err := os.WriteFile(m.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() { m.p.Kill() })
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.run()
	defer func() {
		if m.t.Failed() {
			m.t.Log(m.p.Log())
		}
	}()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	until(ctx, m.t, "Mosquitto takes connections", func() bool {
		select {
		case <-m.p.Ended: // somebody has its port, perhaps for a moment
			m.t.Log(m.p.Log())
			m.run()
		default:
		}
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.addr)
		if err != nil {
			return false
		}
		return nc.Close() == nil
	})
}

func (m *mosquitto) run() {
	m.t.Helper()
	p, err := process.Start(exec.Command("mosquitto", "-c", m.conf))
	if err != nil {
		m.t.Fatal(err)
	}
	m.p = p
}

// restart ends it in order: it saves what it has, and what it has acknowledged counts.
func (m *mosquitto) restart() {
	m.t.Helper()
	if err := m.p.Stop(); err != nil {
		m.t.Fatal(err)
	}
	m.said.WriteString(m.p.Log())
	m.start()
}

// publishedAgain counts the messages that Mosquitto sent to a client after their PUBREL, by its log.
func publishedAgain(log, client string) (n int) {
	packets := regexp.MustCompile(`(?:Sending (PUBLISH|PUBREL) to|Received (PUBCOMP) from) ` + client + ` \((?:d\d, q\d, r\d, )?(?:m|Mid: )(\d+)`)
	released := map[string]bool{}
	for line := range strings.Lines(log) {
		m := packets.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		id := m[3]
		if m[1] == "PUBLISH" && released[id] {
			n++
		}
		released[id] = m[1] == "PUBREL"
	}
	return n
}

func TestPublishedAgain(t *testing.T) {
	const log = `1: Sending PUBLISH to c (d0, q2, r0, m1, 'a', ... (1 bytes))
1: Sending PUBLISH to c (d0, q2, r0, m2, 'a', ... (1 bytes))
1: Received PUBREC from c (Mid: 1)
1: Sending PUBREL to c (m1)
1: Sending PUBREL to other (m2)
1: Sending PUBLISH to c (d1, q2, r0, m2, 'a', ... (1 bytes))
`
	for more, want := range map[string]int{
		"": 0,
		"1: Sending PUBLISH to c (d1, q2, r0, m1, 'a', ... (1 bytes))\n":                                      1,
		"1: Sending PUBREL to c (m1)\n":                                                                       0,
		"1: Received PUBCOMP from c (Mid: 1)\n1: Sending PUBLISH to c (d0, q2, r0, m1, 'a', ... (1 bytes))\n": 0,
		"1: Sending PUBREL to c (Mid: 1)\n1: Sending PUBLISH to c (d1, q2, r0, m1, 'a', ... (1 bytes))\n":     1,
	} {
		if got := publishedAgain(log+more, "c"); got != want {
			t.Errorf("%d, want %d: %s", got, want, more)
		}
	}
}

// bridgesRun reports whether all bridges of a broker are connected.
func bridgesRun(t *testing.T, p *process.Process) bool {
	t.Helper()
	out, err := try(t, "", binary(t), "sync", "status", "-o", "json", "--server", "http://"+p.HTTP)
	if err != nil {
		return false
	}
	var list []struct{ Kind, State string }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if b.Kind == "bridge" && b.State != "running" {
			return false
		}
	}
	return len(list) > 0
}

func ints(t *testing.T, list []string) []int {
	t.Helper()
	got := make([]int, len(list))
	for i, v := range list {
		var err error
		if got[i], err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// A broker with a bridge is killed again and again while devices publish to Mosquitto, which is ended and started meanwhile. What
// Mosquitto acknowledged to a device is here, in order: at QoS 1 at least once, since the acknowledgement of a stored message may be
// lost with the connection; at QoS 2 exactly once. Over TLS, with a password, and with topics rewritten.
//
// Mosquitto 2.0.11 does not always keep its side of QoS 2: a connection that breaks before it has repeated its PUBRELs, and a restart of
// its own with more in flight than max_inflight_messages, have it publish messages again after their PUBREL (MQTT-4.3.3-1). Nobody can
// tell them from new ones. Its log says how many those are, and there may be so many duplicates, and not one more.
func TestBridgeFromMosquittoThroughKills(t *testing.T) {
	kills := int(fromEnv(t, "RIVULET_KILLS", 10))
	t.Run("QoS 1", func(t *testing.T) { bridgeThroughKills(t, max(4, kills/3), 1, true) })
	t.Run("QoS 2", func(t *testing.T) { bridgeThroughKills(t, max(4, kills/3), 2, true) })
	t.Run("QoS 2, Mosquitto stays up", func(t *testing.T) { bridgeThroughKills(t, max(4, kills/3), 2, false) }) // and is hardly ever at fault
}

func bridgeThroughKills(t *testing.T, kills int, qos byte, restarts bool) {
	const burst = 500 // messages of a device between two kills
	seed := fromEnv(t, "RIVULET_SEED", rand.Uint64())
	t.Logf("RIVULET_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second+time.Duration(kills)*5*time.Second)
	defer cancel()
	far, near, up := bridged(t, qos)
	if err := near.Await(ctx); err != nil {
		t.Fatal(err)
	}
	tool(t, "", binary(t), "topic", "create", "mqtt", "--server", "http://"+near.HTTP)
	until(ctx, t, "the bridge has its session there", func() bool { return bridgesRun(t, near) })

	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var devices []*sessionClient
	for i := range 3 {
		d := &sessionClient{id: fmt.Sprint("device-", i), version: packet.V311, addr: far.addr, topic: fmt.Sprint("line/", i), qos: qos, window: 20, most: burst}
		devices = append(devices, d)
		wg.Go(func() { d.run(run) })
	}
	restarted := 0
	for i := range kills {
		for _, d := range devices {
			d.allow(burst)
		}
		lives(t, near, time.Duration(20+rnd.IntN(500))*time.Millisecond)
		if restarts && i%3 == 1 {
			far.restart()
			restarted++
		}
		near.Kill()
		if restarts && i%3 == 2 {
			far.restart()
			restarted++
		}
		if near = up(); i%4 > 0 { // every fourth is killed again, perhaps before it is ready
			if err := near.Await(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := near.Await(ctx); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, d := range devices {
		d.finish()
		until(ctx, t, "Mosquitto has acknowledged everything to "+d.id, d.isDone)
		total += d.count()
	}
	here := func() [][]int {
		got := kcat(t, near.Kafka, "mqtt")
		if len(got) > len(devices) {
			t.Fatalf("%d topics, want %d", len(got), len(devices))
		}
		lists := make([][]int, len(devices))
		for i := range devices {
			lists[i] = ints(t, got[fmt.Sprint("hall/", i)])
		}
		return lists
	}
	until(ctx, t, "everything is here", func() bool {
		for i, list := range here() {
			if n := devices[i].count(); len(list) < n || list[len(list)-1] < n-1 {
				return false
			}
		}
		return true
	})
	stop()
	wg.Wait()
	again := 0
	if qos == 2 {
		again = publishedAgain(far.said.String()+far.p.Log(), "rivulet-near-far")
	}
	stored := 0
	for i, list := range here() {
		d := devices[i]
		stored += len(list)
		verdict(t, d.id, d.topic, atLeastOnce(list, d.count()))
		if qos == 2 && again == 0 {
			verdict(t, d.id, d.topic, exactlyOnce(list, d.count()))
		}
		if err := d.broken(); err != nil {
			t.Errorf("%s: %v", d.id, err)
		}
	}
	if qos == 2 && stored > total+again {
		t.Errorf("%d records of %d messages, of which Mosquitto published %d again", stored, total, again)
	}
	t.Logf("%d messages, %d records, %d published again by Mosquitto after PUBREL, through %d kills and %d restarts of Mosquitto", total, stored, again, kills, restarted)
}

// bridged is Mosquitto, with a listener for a bridge that has TLS and a password, and a broker with that bridge, which up starts again.
func bridged(t *testing.T, qos byte) (far *mosquitto, near *process.Process, up func() *process.Process) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	tool(t, "", binary(t), "tls", "init", dir, "--host", "127.0.0.1")
	tool(t, "", "mosquitto_passwd", "-b", "-c", file("passwords"), "gateway", "opensesame")
	addrs, err := process.FreeAddrs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	_, port := hostPort(addrs[0])
	far = newMosquitto(t, fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\ncertfile %s\nkeyfile %s\n",
		port, file("passwords"), file("server.pem"), file("server.key")))
	config := fmt.Sprintf("edge: near\nbridges: [{name: far, broker: \"ssl://%s\", tls: {ca: ca.pem}, user: gateway, password_file: password, subscribe: [\"line/#\"], qos: %d, strip: \"line/\", prefix: \"hall/\"}]\n",
		addrs[0], qos)
	for name, text := range map[string]string{"near.yaml": config, "password": "opensesame\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.ArtifactDir(), "near")
	up = func() *process.Process {
		t.Helper()
		p, err := process.Rivulet(binary(t), data, "--config", file("near.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	return far, up(), up
}

// Mosquitto bridges the same topics out and in: what it brings is not sent back to it (protocol version 0x84), and it keeps the retain flag.
func TestMosquittoBridgesHere(t *testing.T) {
	near := started(t)
	far := newMosquitto(t, fmt.Sprintf("connection here\naddress %s\ntopic x/# both 1\nbridge_protocol_version mqttv311\nrestart_timeout 1\nnotifications false\n", near.MQTT))
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	launch := func(c *sessionClient) *sessionClient {
		c.version, c.got = packet.V311, map[string][]int{}
		wg.Go(func() { c.run(run) })
		until(ctx, t, c.id+" is ready", c.isReady)
		return c
	}
	there := launch(&sessionClient{id: "there", addr: far.addr, filter: "x/#", granted: 1})
	here := launch(&sessionClient{id: "here", addr: near.MQTT, filter: "x/#", granted: 1})
	host, port := hostPort(near.MQTT)
	until(ctx, t, "Mosquitto is connected", func() bool {
		tool(t, "", "mosquitto_pub", "-h", host, "-p", port, "-t", "x/probe", "-q", "1", "-m", "0")
		return len(there.of("x/probe")) > 0
	})
	const n = 500
	for i, addr := range []string{near.MQTT, far.addr} {
		topic := fmt.Sprint("x/", i)
		d := launch(&sessionClient{id: "device-" + strconv.Itoa(i), addr: addr, topic: topic, qos: 1, window: 20, most: n})
		until(ctx, t, "all is acknowledged to "+d.id, func() bool { d.finishAt(n); return d.isDone() })
		for _, c := range []*sessionClient{here, there} {
			until(ctx, t, c.id+" has all of "+topic, func() bool { return c.last(topic) == n-1 })
			until(ctx, t, c.id+" is quiet", c.isQuiet)
			verdict(t, c.id, topic, exactlyOnce(c.of(topic), n)) // an echo would be another one
		}
	}
	tool(t, "", "mosquitto_pub", "-h", host, "-p", port, "-t", "x/kept", "-q", "1", "-r", "-m", "1")
	until(ctx, t, "the retained message is there", func() bool { return len(there.of("x/kept")) > 0 })
	host, port = hostPort(far.addr)
	if got := tool(t, "", "mosquitto_sub", "-h", host, "-p", port, "-t", "x/kept", "--retained-only", "-C", "1", "-W", "10", "-F", "%r %p"); got != "1 1\n" {
		t.Errorf("retained there: %q", got)
	}
}
