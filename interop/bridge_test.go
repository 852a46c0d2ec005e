//go:build interop

package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/cmd/rivulet-bench/process"
)

// numbers publishes numbers with QoS 2, one after the other, and remembers which were acknowledged. A number whose acknowledgement was
// lost with its broker may be there or not.
type numbers struct {
	addr  string
	acked map[int]bool
	next  int
}

func (n *numbers) publish(t *testing.T, count int) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + n.addr).SetAutoReconnect(false).SetConnectTimeout(10 * time.Second))
	if token := c.Connect(); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(100)
	for range count {
		token := c.Publish("line/x", 2, false, strconv.Itoa(n.next))
		if token.WaitTimeout(10*time.Second) && token.Error() == nil {
			n.acked[n.next] = true
		}
		n.next++
	}
}

// Either side is killed again and again: what the other broker acknowledged is here, once, since publisher and bridge have QoS 2.
func TestBridgeThroughKills(t *testing.T) {
	dir := t.ArtifactDir()
	addrs, err := process.FreeAddrs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "near.yaml")
	text := fmt.Sprintf("bridges: [{name: line, broker: \"tcp://%s\", subscribe: [\"line/#\"], qos: 2}]\n", addrs[0])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	up := func(name string, args ...string) *process.Process {
		t.Helper()
		p, err := process.Rivulet(binary(t), filepath.Join(dir, name), args...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := p.Await(ctx); err != nil {
			t.Fatal(err)
		}
		return p
	}
	far := up("far", "--mqtt", addrs[0])
	near := up("near", "--config", config)
	defer func() { far.Kill(); near.Kill() }()
	n := &numbers{addr: addrs[0], acked: map[int]bool{}}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	arrived := func() map[int]int {
		got := map[int]int{}
		for _, v := range kcat(t, near.Kafka, "mqtt")["line/x"] {
			i, err := strconv.Atoi(v)
			if err != nil {
				t.Fatal(err)
			}
			got[i]++
		}
		return got
	}
	tool(t, "", binary(t), "topic", "create", "mqtt", "--server", "http://"+near.HTTP)
	until(ctx, t, "the bridge has its session there", func() bool {
		n.publish(t, 1)
		return len(arrived()) > 0
	})
	first := n.next
	for round := range 6 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.publish(t, 200)
		}()
		<-time.After(time.Duration(50+40*round) * time.Millisecond) // somewhere in the middle
		if round%2 == 0 {
			near.Kill()
			<-done
			near = up("near", "--config", config)
			continue
		}
		<-done // a publisher that loses its broker would wait for each of the rest
		far.Kill()
		far = up("far", "--mqtt", addrs[0])
	}
	n.publish(t, 10)
	t.Logf("%d published, %d acknowledged", n.next, len(n.acked))
	until(ctx, t, "the last message is here", func() bool { return arrived()[n.next-1] > 0 })
	got := arrived()
	for i := first; i < n.next; i++ {
		if n.acked[i] && got[i] != 1 || got[i] > 1 {
			t.Errorf("number %d: acknowledged %v, here %d times", i, n.acked[i], got[i])
		}
	}
}
