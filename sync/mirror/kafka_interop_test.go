//go:build interop

package mirror

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/sync/compare"
)

// apache is a real Apache Kafka, handled by interop/kafka.sh.
type apache struct {
	line, dir string
	addr      string
}

func kafkaScript(t testing.TB, args ...string) string {
	t.Helper()
	script, err := filepath.Abs("../../interop/kafka.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kafka.sh %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

func startKafka(t testing.TB, line string, config ...string) *apache {
	t.Helper()
	k := &apache{line: line, dir: t.TempDir()}
	k.addr = kafkaScript(t, append([]string{"start", line, k.dir}, config...)...)
	t.Cleanup(func() { kafkaScript(t, "kill", k.dir) })
	return k
}

// told runs wait, and shows what both sides say when it fails: Kafka itself may not have come back.
func (k *apache) told(t testing.TB, u *running, wait func()) {
	done := false
	defer func() {
		if done {
			return
		}
		log, err := os.ReadFile(filepath.Join(k.dir, "broker.log"))
		t.Logf("uplink %+v\n%s", u.Status(), goroutines())
		t.Logf("Kafka's log, %v:\n%s", err, log[max(0, len(log)-4000):])
	}()
	wait()
	done = true
}

func goroutines() []byte {
	buf := make([]byte, 256<<10)
	return buf[:runtime.Stack(buf, true)]
}

func (k *apache) kill(t testing.TB)  { kafkaScript(t, "kill", k.dir) }
func (k *apache) again(t testing.TB) { kafkaScript(t, "start", k.line, k.dir) }

// Kafka is killed and the uplink cut off in turn under load, with each transaction protocol; Kafka's committed copy must equal
// the edge's log.
func TestRealKafka(t *testing.T) {
	const rounds = 2
	for _, c := range []struct{ name, line, tv, mode string }{
		{"4", "4", "", "TV2"},
		{"4 with the old transaction protocol", "4", "TV=1", "TV1"},
		{"3.9", "3.9", "", "TV1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var config []string
			if c.tv != "" {
				config = append(config, c.tv)
			}
			k := startKafka(t, c.line, config...)
			t.Logf("Kafka %s at %s", kafkaScript(t, "version", c.line), k.addr)
			rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
			dir := t.TempDir()
			up := []Rule{{Topic: "telemetry", To: "{edge}.telemetry"}, {Topic: "alarm.*", Priority: 9}}
			var aborted uint64
			for round := range rounds {
				h := openHere(t, dir)
				tp := h.topic(t, "telemetry", 3)
				alarm := h.topic(t, "alarm.fire", 1)
				s := newSaboteur(uint64(round), 0)
				o := options(t, h, []string{k.addr}, up...)
				o.KgoOpts = []kgo.Opt{kgo.Dialer(s.dial)}
				o.Size = 16 << 10
				u := start(t, o)
				ctx, cancel := context.WithCancel(t.Context())
				loaded := make(chan struct{})
				go func() {
					defer close(loaded)
					tick := time.NewTicker(time.Millisecond)
					defer tick.Stop()
					for i := 0; ctx.Err() == nil; i++ {
						p := tp.Partitions[i%3]
						if i%10 == 0 {
							p = alarm.Partitions[0]
						}
						if err := h.tryAppend(t.Context(), p, 20, 150); err != nil {
							t.Error(err)
							return
						}
						<-tick.C
					}
				}()
				txns := u.Status().Txns
				want := txns + 3 + rnd.Uint64N(40)
				eventually(t, "transactions go through", func() bool { return u.Status().Txns >= want })
				if round%2 == 0 {
					k.kill(t)
					k.again(t)
					want = u.Status().Txns + 3
					k.told(t, u, func() { eventually(t, "the link is back", func() bool { return u.Status().Txns >= want }) })
				}
				s.kill() // the edge
				cancel()
				<-loaded
				u.stop()
				aborted += u.Status().Aborted
				if c.mode != u.Status().TxnMode {
					t.Errorf("transaction protocol %s, want %s", u.Status().TxnMode, c.mode)
				}
				dir = copyDir(t, dir)
				h.close(t)
			}
			h := openHere(t, dir)
			u := start(t, options(t, h, []string{k.addr}, up...))
			u.mirrored(t)
			equal(t, h, "telemetry", []string{k.addr}, "e1.telemetry")
			equal(t, h, "alarm.fire", []string{k.addr}, "alarm.fire")
			tp, _ := h.store.Topic("telemetry")
			_, _, high := tp.Partitions[0].Offsets()
			if a := u.Status().Alarms; len(a) != 0 {
				t.Errorf("alarms %v", a)
			}
			t.Logf("%d records a partition, %d transactions failed on the way", high, aborted)
		})
	}
}

// What Kafka itself refuses is dead-lettered, and what it would refuse as it lies on disk arrives.
func TestRealKafkaIsPicky(t *testing.T) {
	k := startKafka(t, "4")
	h := openHere(t, t.TempDir())
	p := h.topic(t, "telemetry", 1).Partitions[0]
	h.append(t, p, 100, 100)
	future := time.Now().Add(48 * time.Hour).UnixMilli()
	h.appendAt(t, p, 3, future)
	h.append(t, p, 100, 100)
	u := start(t, options(t, h, []string{k.addr}, Rule{Topic: "telemetry"}))
	u.mirrored(t)
	if s := u.Status(); s.DeadLettered != 3 {
		t.Errorf("%d dead letters; alarms %v", s.DeadLettered, s.Alarms)
	}
	dlq, _ := h.store.Topic("telemetry.dlq")
	var where []string
	for r := range compare.Partition(dlq.Partitions[0]) {
		for _, kv := range r.Headers {
			if kv.Key == "rivulet.source" {
				where = append(where, string(kv.Value))
			}
		}
	}
	if got := strings.Join(where, " "); got != "telemetry/0/100 telemetry/0/101 telemetry/0/102" {
		t.Errorf("dead letters of %s", got)
	}
	if n := count(t, []string{k.addr}, "telemetry"); n != 200 {
		t.Errorf("%d records at Kafka, want 200", n)
	}
}

// Kafka takes the timeout of the last InitProducerID, so that a transaction may get more time than the one before it.
func TestRealKafkaOverASlowLink(t *testing.T) {
	takesLong(t, []string{startKafka(t, "4").addr})
}
