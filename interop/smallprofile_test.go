//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/examples/plugins/builtin"
)

// smallMost is what the small profile takes of memory that cannot be written back to a file, in bytes (docs/ARCHITECTURE.md, Bounds).
const smallMost = 56 << 20

// rssAnon is a process's anonymous memory, in bytes.
func rssAnon(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d tells no RssAnon", pid)
}

// watchMemory samples a process until stop, which returns the most.
func watchMemory(p *process.Process) (stop func() int64) {
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n, err := rssAnon(p.PID()); err == nil {
					most = max(most, n)
				}
			case <-done:
				result <- most
				return
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}

// The small profile's memory is bounded under everything at once: MQTT and Kafka producers, a plugin on each topic, an uplink to another
// Rivulet, and consumers that read everything from its beginning, which is sealed by then.
func TestSmallProfile(t *testing.T) {
	s := newStory(t, filepath.Join(t.TempDir(), "data"), 3*time.Minute, fast)
	addr := freeAddrs(t, 1)[0]
	centre, err := process.Rivulet(s.bin, filepath.Join(t.TempDir(), "centre"), "--kafka", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(centre.Kill)
	s.await(centre)
	wasm := filepath.Join(t.TempDir(), "identity.wasm")
	if err := os.WriteFile(wasm, builtin.Identity(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"--config", writeConfig(t, fmt.Sprintf(`
storage: {profile: small}
topics: [{name: %[3]s, partitions: 4}]
plugins:
  - {name: identity, file: %[1]s, topic: %[2]s}
  - {name: identity, file: %[1]s, topic: %[3]s}
sync:
  - name: centre
    kafka: {brokers: [%[4]q]}
    up: [{topic: %[2]s}, {topic: %[3]s}]
`, wasm, deviceTopic, producerTopic, addr))}
	p := s.begin()
	stop := watchMemory(p)
	work := time.After(time.Duration(fromEnv(t, "RIVULET_SMALL_SECONDS", 12)) * time.Second)
	read := 0
	var readers sync.WaitGroup
	for more := true; more; {
		for range 2 {
			readers.Go(func() {
				if _, err := readBack(s.ctx, s.kafka, deviceTopic, producerTopic); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		read++
		select {
		case <-work:
			more = false
		case <-p.Ended:
			t.Fatalf("the broker ended by itself:\n%s", p.Log())
		default:
		}
	}
	most := stop()
	sent, acked := s.fleet.counts()
	t.Logf("at most %.1f MiB of anonymous memory; %d readings sent, %d acknowledged, all of them read %d times", float64(most)/(1<<20), sent, acked, 2*read)
	if most > smallMost {
		t.Errorf("%d bytes of anonymous memory, the bound is %d", most, int64(smallMost))
	}
	s.end(p)
}
