//go:build interop

package interop

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet-bench/process"
)

// A plugin that drops every odd number is attached while 50 clients publish. From then on the log holds the other half, in order; before,
// everything; and a real Kafka gets the same.
func TestPluginDropsHalf(t *testing.T) {
	for _, c := range []struct{ guest, kafka string }{
		{"wat", "4"},
		{"rust", "3.9"},
		{"c", ""},
		{"go", ""},
	} {
		t.Run(c.guest, func(t *testing.T) {
			var args []string
			var k *centre
			if c.kafka != "" {
				k = startCentre(t, c.kafka)
				args = []string{"--config", k.uplink("mqtt")}
			}
			p := started(t, args...)
			server := "http://" + p.HTTP
			tool(t, "", binary(t), "plugin", "push", "drop", filepath.Join(given(t, "RIVULET_GUESTS"), c.guest+".wasm"), "--server", server)

			const before, during, after = 100, 100, 100
			pubs := publishers50(t, p)
			pubs.feed(0, before)
			untilStored(t, p.Kafka, "mqtt", 50*before)
			attached := make(chan error, 1)
			go func() {
				_, err := try(t, "", binary(t), "plugin", "attach", "drop", "--topic", "mqtt", "--server", server)
				attached <- err
			}()
			pubs.feed(before, during)
			if err := <-attached; err != nil {
				t.Fatal(err)
			}
			pubs.feed(before+during, after)
			pubs.finish()

			got := kcat(t, p.Kafka, "mqtt")
			if len(got) != 50 {
				t.Errorf("%d keys, want 50", len(got))
			}
			total := 0
			for key, values := range got {
				total += len(values)
				if wrong := halved(key, values, before, before+during, before+during+after); wrong != "" {
					t.Error(wrong)
				}
			}
			t.Logf("%d of %d messages kept", total, 50*(before+during+after))

			if k != nil {
				untilStored(t, k.addr, "plant-7.mqtt", total)
				out := apache(t, "", c.kafka, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", k.addr, "--topic", "plant-7.mqtt",
					"--from-beginning", "--timeout-ms", "5000", "--isolation-level", "read_committed",
					formatterProperty(c.kafka), "print.key=true", formatterProperty(c.kafka), "key.separator= ")
				mirrored := map[string][]string{}
				for line := range strings.Lines(out) {
					key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
					mirrored[key] = append(mirrored[key], value)
				}
				if diff := cmp.Diff(got, mirrored); diff != "" {
					t.Errorf("Apache Kafka %s holds something else (-edge +centre):\n%s", c.kafka, diff)
				}
			}
		})
	}
}

// halved says what is wrong with the numbers of a key: up to some number between low and high all of them must be there, behind it
// the even ones, up to end.
func halved(key string, values []string, low, high, end int) string {
	numbers := make([]int, len(values))
	for i, v := range values {
		_, digits, _ := strings.Cut(v, ":")
		n, err := strconv.Atoi(digits)
		if err != nil {
			return fmt.Sprintf("%s: value %q", key, v)
		}
		numbers[i] = n
	}
	for turn := low; turn <= high; turn++ {
		want := make([]int, 0, end)
		for n := range end {
			if n < turn || n%2 == 0 {
				want = append(want, n)
			}
		}
		if slices.Equal(numbers, want) {
			return ""
		}
	}
	return fmt.Sprintf("%s: not all numbers and then the even ones: %v", key, numbers)
}

func TestHalved(t *testing.T) {
	values := func(ns ...int) (vs []string) {
		for _, n := range ns {
			vs = append(vs, fmt.Sprintf("x:%06d", n))
		}
		return vs
	}
	if wrong := halved("k", values(0, 1, 2, 3, 4, 6, 8), 2, 6, 10); wrong != "" {
		t.Error(wrong)
	}
	for _, bad := range [][]string{
		values(0, 2, 4, 6, 8), values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), values(0, 1, 2, 3, 6, 8), values(0, 1, 2, 4, 3, 6, 8), values(0, 1, 2, 3, 4, 4, 6, 8), values(0, 1, 2, 3, 4, 6),
	} {
		if halved("k", bad, 2, 6, 10) == "" {
			t.Errorf("%v passed", bad)
		}
	}
}

// publishers are 50 mosquitto_pub that publish the lines they are fed with QoS 1.
type publishers struct {
	t    *testing.T
	cmds []*exec.Cmd
	in   []io.WriteCloser
	out  []*strings.Builder
}

func publishers50(t *testing.T, p *process.Process) *publishers {
	t.Helper()
	host, port := hostPort(p.MQTT)
	ps := &publishers{t: t}
	for i := range 50 {
		cmd := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", fmt.Sprintf("site/line-%d", i), "-l")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := new(strings.Builder)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ps.cmds, ps.in, ps.out = append(ps.cmds, cmd), append(ps.in, in), append(ps.out, out)
	}
	return ps
}

func (ps *publishers) feed(from, n int) {
	ps.t.Helper()
	for i, in := range ps.in {
		if _, err := io.WriteString(in, lines(numbered(fmt.Sprint(i), from, n))); err != nil {
			ps.t.Fatalf("mosquitto_pub %d: %v\n%s", i, err, ps.out[i])
		}
	}
}

func (ps *publishers) finish() {
	ps.t.Helper()
	for i, in := range ps.in {
		in.Close()
		if err := ps.cmds[i].Wait(); err != nil {
			ps.t.Fatalf("mosquitto_pub %d: %v\n%s", i, err, ps.out[i])
		}
	}
}

// untilStored waits until a topic holds n committed records.
func untilStored(t *testing.T, addr, topic string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// A real Kafka's transaction markers take offsets, too: it is the records that count, and a topic may not be there yet.
		stored := 0
		ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
		if err == nil && ends.Error() == nil {
			ends.Each(func(o kadm.ListedOffset) { stored += int(o.Offset) })
		}
		if stored >= n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s holds %d records, not %d (%v, %v)", topic, stored, n, err, ends.Error())
		}
	}
}
