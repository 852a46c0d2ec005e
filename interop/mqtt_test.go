//go:build interop

package interop

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"rivulet/cmd/rivulet-bench/process"
)

// publish50 has 50 mosquitto_pub at a time publish their lines with QoS 1, each to a topic of its own; it returns what the log must
// hold by key.
func publish50(t *testing.T, p *process.Process, from, n int) map[string][]string {
	t.Helper()
	host, port := hostPort(p.MQTT)
	want := map[string][]string{}
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 50 {
		topic := fmt.Sprintf("site/line-%d", i)
		values := numbered(fmt.Sprint(i), from, n)
		want[topic] = values
		g.Go(func() error {
			cmd := exec.CommandContext(ctx, "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", topic, "-l")
			cmd.Stdin = strings.NewReader(lines(values))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("mosquitto_pub %s: %w\n%s", topic, err, out)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestMosquittoPubThenKcat(t *testing.T) {
	p := started(t)
	want := publish50(t, p, 0, 100)
	if diff := cmp.Diff(want, kcat(t, p.Kafka, "mqtt")); diff != "" {
		t.Errorf("kcat read something else (-published +read):\n%s", diff)
	}
}

// subscribing is a mosquitto_sub that prints line by line, into a pipe too.
func subscribing(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)
}

func TestMosquittoSub(t *testing.T) {
	p := started(t)
	host, port := hostPort(p.MQTT)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1"} {
			t.Run(version+" QoS "+qos, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				topic := "live/" + version + qos
				// -d prints SUBACK: from then on nothing may be missed.
				sub := subscribing(ctx, "-h", host, "-p", port, "-V", version, "-q", qos, "-t", topic+"/+", "-C", "100", "-d", "-v")
				stdout, err := sub.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := sub.Start(); err != nil {
					t.Fatal(err)
				}
				out := newLineReader(stdout)
				if !out.until("Subscribed") {
					t.Fatalf("no SUBACK:\n%s", out.all())
				}
				values := numbered("x", 0, 100)
				tool(t, lines(values), "mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", qos, "-t", topic+"/a", "-l")
				out.until("")
				if err := sub.Wait(); err != nil {
					t.Fatalf("mosquitto_sub: %v\n%s", err, out.all())
				}
				var got []string
				for _, line := range out.lines {
					if v, ok := strings.CutPrefix(line, topic+"/a "); ok {
						got = append(got, v)
					}
				}
				if diff := cmp.Diff(values, got); diff != "" {
					t.Errorf("(-published +received):\n%s", diff)
				}
			})
		}
	}
}

func TestMosquittoRetainedAndWill(t *testing.T) {
	p := started(t)
	host, port := hostPort(p.MQTT)
	tool(t, "", "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-r", "-t", "state/door", "-m", "open")
	if got := tool(t, "", "mosquitto_sub", "-h", host, "-p", port, "-t", "state/#", "-C", "1", "-W", "10", "-F", "%t %p %r"); got != "state/door open 1\n" {
		t.Errorf("retained: %q", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dying := subscribing(ctx, "-h", host, "-p", port, "-t", "nothing", "-d", "--will-topic", "state/will", "--will-payload", "gone", "--will-qos", "1")
	stdout, err := dying.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	out := newLineReader(stdout)
	if !out.until("Subscribed") {
		t.Fatalf("no SUBACK:\n%s", out.all())
	}
	heir := subscribing(ctx, "-h", host, "-p", port, "-t", "state/will", "-C", "1", "-W", "20", "-d", "-F", "got %p")
	heirOut, err := heir.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := heir.Start(); err != nil {
		t.Fatal(err)
	}
	heard := newLineReader(heirOut)
	if !heard.until("Subscribed") {
		t.Fatalf("no SUBACK:\n%s", heard.all())
	}
	if err := dying.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !heard.until("got gone") {
		t.Errorf("the will did not come:\n%s", heard.all())
	}
	if err := dying.Wait(); err == nil {
		t.Error("the client that was killed ended well")
	}
	if err := heir.Wait(); err != nil {
		t.Error(err)
	}
}
