//go:build interop

package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/sync/compare"
)

// centre is a real Apache Kafka of a release line, on ports that it keeps.
type centre struct {
	t         *testing.T
	line, dir string
	addr      string
}

func startCentre(t *testing.T, line string) *centre {
	t.Helper()
	c := &centre{t: t, line: line, dir: filepath.Join(t.TempDir(), "kafka")}
	c.start()
	t.Cleanup(c.kill)
	return c
}

// start starts it, or starts it again.
func (c *centre) start() {
	c.t.Helper()
	c.addr = strings.TrimSpace(tool(c.t, "", "./kafka.sh", "start", c.line, c.dir))
}

func (c *centre) kill() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is over when it cleans up
	defer cancel()
	if out, err := command(ctx, "./kafka.sh", "kill", c.dir).CombinedOutput(); err != nil {
		c.t.Errorf("kill Kafka: %v\n%s", err, out)
	}
}

// uplink is a configuration file that mirrors topics, each under this name: plant-7.TOPIC.
func (c *centre) uplink(topics ...string) string {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "edge: plant-7\nsync:\n  - name: cloud\n    kafka: {brokers: [%q]}\n    up:\n", c.addr)
	for _, topic := range topics {
		fmt.Fprintf(&b, "      - {topic: %s, to: \"{edge}.%s\"}\n", topic, topic)
	}
	path := filepath.Join(c.t.TempDir(), "rivulet.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// mirrorTo makes a story's broker mirror to the centre, and compares both at the story's end: per partition no hole, no duplicate, no swap.
func mirrorTo(s *story, c *centre) {
	s.args = []string{"--config", c.uplink(deviceTopic, producerTopic)}
	s.compared = func() {
		s.t.Helper()
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
		defer cancel()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for _, topic := range []string{deviceTopic, producerTopic} {
			for partition := range int32(4) {
				for {
					report, err := compare.Logs(
						compare.Topic(ctx, topic, partition, kgo.SeedBrokers(s.kafka)),
						compare.Topic(ctx, "plant-7."+topic, partition, kgo.SeedBrokers(c.addr)),
					)
					if err == nil && report.Equal() {
						s.t.Logf("%s/%d: %d records at both ends", topic, partition, report.Target)
						break
					}
					// Holes may be what is still on its way; nothing else mends itself.
					if err == nil && report.Duplicates+report.Swaps+report.Different+report.Strangers > 0 || ctx.Err() != nil {
						s.t.Errorf("%s/%d: %v %v", topic, partition, err, report.String())
						break
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			}
		}
	}
}

// The broker and its Kafka are killed at random under load; Kafka's committed copy must equal the log.
func TestKillEdgeAndKafka(t *testing.T) {
	s := newStory(t, filepath.Join(t.ArtifactDir(), "data"), time.Hour, slow)
	c := startCentre(t, "4")
	mirrorTo(s, c)
	p := s.begin()
	for i := range fromEnv(t, "RIVULET_KILLS", 10) {
		if s.pass(p, 100*time.Millisecond, 1500*time.Millisecond) {
			t.Fatalf("the broker ended by itself:\n%s", p.Log())
		}
		if i%3 == 1 {
			c.kill()
			c.start()
			continue
		}
		p.Kill()
		s.fleet.crashed()
		p = s.start()
	}
	s.end(p)
}
