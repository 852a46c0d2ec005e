//go:build interop

package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/sync/compare"
)

// edgeProcess is the built program with an uplink, always at one address.
type edgeProcess struct {
	*process.Process
	binary, data, config, kafka string
}

func newEdgeProcess(t *testing.T, centre string) *edgeProcess {
	t.Helper()
	dir := t.TempDir()
	e := &edgeProcess{binary: os.Getenv("RIVULET_BINARY"), data: filepath.Join(dir, "data"), config: filepath.Join(dir, "rivulet.yaml")}
	if e.binary == "" {
		e.binary = filepath.Join(dir, "rivulet")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", e.binary, "rivulet/cmd/rivulet")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	addrs, err := process.FreeAddrs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e.kafka = addrs[0]
	yaml := fmt.Sprintf(`edge: plant-7
topics:
  - {name: telemetry, partitions: 3}
sync:
  - name: cloud
    kafka: {brokers: [%q]}
    up: [{topic: telemetry, to: "{edge}.telemetry"}]
    age: 20ms
    size: 64KiB
`, centre)
	if err := os.WriteFile(e.config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	e.run(t)
	t.Cleanup(func() { e.Kill() })
	return e
}

func (e *edgeProcess) run(t *testing.T) {
	t.Helper()
	cmd := exec.Command(e.binary, process.ServeArgs(e.data, "--config", e.config, "--kafka", e.kafka)...)
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	e.Process = p
}

// feed produces numbered records until ctx ends, through every crash of the edge.
func feed(t *testing.T, ctx context.Context, edge, name string) int {
	cl, err := kgo.NewClient(kgo.SeedBrokers(edge), kgo.DefaultProduceTopic("telemetry"), kgo.MaxBufferedRecords(500),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.AlwaysRetryEOF())
	if err != nil {
		t.Error(err)
		return 0
	}
	defer cl.Close()
	var mu sync.Mutex
	acked := 0
	for i := 0; ctx.Err() == nil; i++ {
		r := &kgo.Record{Key: fmt.Appendf(nil, "%s-%d", name, i), Value: fmt.Appendf(nil, `{"seq":%d,"temperature":%d}`, i, i%40)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err == nil {
				mu.Lock()
				acked++
				mu.Unlock()
			}
		})
		if i%20 == 19 {
			_ = sleep(ctx, 5*time.Millisecond) // a pace, not a wait
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return acked
}

// The built program and Kafka are killed -9 at random under load, one, the other or both. Kafka's committed copy must equal the
// edge's log, per partition: no hole, no duplicate, no swap.
func TestKilledProcesses(t *testing.T) {
	rounds := 10
	if s := os.Getenv("RIVULET_KILLS"); s != "" {
		if _, err := fmt.Sscan(s, &rounds); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"4", "3.9"} {
		t.Run(line, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			rnd := rand.New(rand.NewPCG(seed, 1))
			k := startKafka(t, line)
			t.Logf("Kafka %s, seed %d", kafkaScript(t, "version", line), seed)
			e := newEdgeProcess(t, k.addr)
			ctx, cancel := context.WithCancel(t.Context())
			var load sync.WaitGroup
			for i := range 3 {
				load.Go(func() {
					if n := feed(t, ctx, e.kafka, fmt.Sprint("p", i)); n == 0 {
						t.Error("a producer got no record through")
					}
				})
			}
			kills := [2]int{}
			for range rounds {
				_ = sleep(ctx, time.Duration(300+rnd.IntN(1500))*time.Millisecond) // the moment of the crash is what varies
				which := rnd.IntN(3)                                               // 0: edge, 1: Kafka, 2: both
				if which != 1 {
					e.Kill()
					kills[0]++
				}
				if which != 0 {
					k.kill(t)
					kills[1]++
				}
				if which != 0 {
					k.again(t)
				}
				if which != 1 {
					e.run(t)
				}
			}
			_ = sleep(ctx, time.Second) // some load without a crash at the end
			cancel()
			load.Wait()

			var total compare.Report
			deadline := time.Now().Add(2 * time.Minute)
			for {
				total = compare.Report{}
				for p := range int32(3) {
					r, err := compare.Logs(
						compare.Topic(t.Context(), "telemetry", p, kgo.SeedBrokers(e.kafka)),
						compare.Topic(t.Context(), "plant-7.telemetry", p, kgo.SeedBrokers(k.addr)))
					if err != nil {
						t.Fatal(err)
					}
					total.Add(r)
				}
				if total.Equal() || time.Now().After(deadline) {
					break
				}
				_ = sleep(t.Context(), 200*time.Millisecond) // between two looks
			}
			t.Logf("edge killed %d times, Kafka %d times; %s", kills[0], kills[1], total.String())
			if !total.Equal() || total.Source < 1000 {
				t.Errorf("%s\n%s", total.String(), e.Log())
			}
		})
	}
}
