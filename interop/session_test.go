package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/edge/mqtt/packet"
)

// The built program is killed at random moments under persistent publishers and subscribers that keep their part of the protocol's
// state. Then QoS 1 has delivered everything, in order; QoS 2 has delivered everything exactly once, in order, and so has a shared
// subscription over its members.
func TestSessionsThroughKill9(t *testing.T) {
	kills := int(fromEnv(t, "RIVULET_KILLS", 10))
	seed := fromEnv(t, "RIVULET_SEED", rand.Uint64())
	t.Logf("RIVULET_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second+time.Duration(kills)*4*time.Second)
	defer cancel()
	data, addr := filepath.Join(t.ArtifactDir(), "data"), freeAddrs(t, 1)[0]
	start := func() *process.Process {
		p, err := process.Start(exec.Command(binary(t), process.ServeArgs(data, "--mqtt", addr)...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}

	var clients []*sessionClient
	client := func(id string, v packet.Version) *sessionClient {
		c := &sessionClient{id: id, version: v, addr: addr, got: map[string][]int{}}
		clients = append(clients, c)
		return c
	}
	versions := []packet.Version{packet.V311, packet.V5}
	published := map[string]*sessionClient{} // by topic
	for i, v := range versions {
		for qos := byte(1); qos <= 2; qos++ {
			topic := fmt.Sprintf("s/q%d/%d", qos, i)
			c := client(fmt.Sprintf("pub-%d-%d", qos, i), v)
			c.topic, c.qos, c.window = topic, qos, 20
			published[topic] = c
		}
	}
	var one, two, members []*sessionClient
	for i, v := range versions {
		a, b, m := client(fmt.Sprint("sub-1-", i), v), client(fmt.Sprint("sub-2-", i), v), client(fmt.Sprint("member-", i), v)
		a.filter, b.filter, m.filter = "s/q1/#", "s/q2/#", "$share/g/s/q2/#"
		a.granted, b.granted, m.granted = 1, 2, 2
		one, two, members = append(one, a), append(two, b), append(members, m)
	}

	p := start()
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	launch := func(list ...*sessionClient) {
		for _, c := range list {
			wg.Go(func() { c.run(run) })
		}
		for _, c := range list { // nothing is published before everybody listens
			until(ctx, t, c.id+" is ready", c.isReady)
		}
	}
	launch(slices.Concat(one, two, members)...)
	for _, c := range published {
		launch(c)
	}
	for i := range kills {
		lives(t, p, time.Duration(20+rnd.IntN(1200))*time.Millisecond)
		p.Kill()
		if p = start(); i%4 > 0 { // every fourth is killed again, perhaps before it is ready
			if err := p.Await(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	total := 0
	for topic, c := range published {
		c.finish()
		until(ctx, t, "everything is acknowledged to "+c.id, c.isDone)
		total += c.count()
		if c.count() == 0 {
			t.Errorf("nothing was published to %s", topic)
		}
	}
	t.Logf("%d messages through %d kills", total, kills)
	for topic, pub := range published {
		n := pub.count()
		for _, c := range slices.Concat(one, two) {
			if strings.HasPrefix(topic, strings.TrimSuffix(c.filter, "#")) {
				until(ctx, t, fmt.Sprintf("%s has all %d of %s", c.id, n, topic), func() bool { return c.last(topic) == n-1 })
			}
		}
		if strings.HasPrefix(topic, "s/q2/") {
			until(ctx, t, "the members have all of "+topic, func() bool { return len(members[0].of(topic))+len(members[1].of(topic)) >= n })
		}
	}
	for _, c := range clients { // what should not come would come now
		until(ctx, t, c.id+" is quiet", c.isQuiet)
	}
	stop()
	wg.Wait()
	for topic, pub := range published {
		n := pub.count()
		for _, c := range one {
			if strings.HasPrefix(topic, "s/q1/") {
				verdict(t, c.id, topic, atLeastOnce(c.of(topic), n))
			}
		}
		if !strings.HasPrefix(topic, "s/q2/") {
			continue
		}
		for _, c := range two {
			verdict(t, c.id, topic, exactlyOnce(c.of(topic), n))
		}
		all := slices.Concat(members[0].of(topic), members[1].of(topic))
		slices.Sort(all)
		verdict(t, "the members", topic, exactlyOnce(all, n))
	}
	for _, c := range clients {
		if err := c.broken(); err != nil {
			t.Errorf("%s: %v", c.id, err)
		}
	}
	p.Kill()
}

// lives waits for d, in which a broker must not end by itself.
func lives(t *testing.T, p *process.Process, d time.Duration) {
	t.Helper()
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-p.Ended:
		t.Fatalf("the broker ended by itself:\n%s", p.Log())
	}
}

func verdict(t *testing.T, who, topic string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s, %s: %v", who, topic, err)
	}
}

// atLeastOnce holds that 0 to n-1 came, each for the first time in order.
func atLeastOnce(got []int, n int) error {
	next := 0
	for i, v := range got {
		switch {
		case v > next:
			return fmt.Errorf("at %d: %d came before %d, which came %d times", i, v, next, count(got, next))
		case v == next:
			next++
		}
	}
	if next != n {
		return fmt.Errorf("%d of %d came", next, n)
	}
	return nil
}

func count(list []int, v int) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// exactlyOnce holds that 0 to n-1 came, in order, and nothing else.
func exactlyOnce(got []int, n int) error {
	for i, v := range got {
		if v != i {
			return fmt.Errorf("at %d came %d", i, v)
		}
	}
	if len(got) != n {
		return fmt.Errorf("%d of %d came", len(got), n)
	}
	return nil
}

// The checkers see a hole, a duplicate and a swap.
func TestSessionChecks(t *testing.T) {
	for name, c := range map[string]struct {
		got       []int
		one, once bool
	}{
		"good":                 {[]int{0, 1, 2, 3}, true, true},
		"sent again":           {[]int{0, 1, 0, 1, 2, 3}, true, false},
		"hole":                 {[]int{0, 2, 3}, false, false},
		"hole at the end":      {[]int{0, 1, 2}, false, false},
		"duplicate":            {[]int{0, 1, 1, 2, 3}, true, false},
		"duplicate at the end": {[]int{0, 1, 2, 3, 3}, true, false},
		"swap":                 {[]int{0, 2, 1, 3}, false, false},
		"nothing":              {nil, false, false},
	} {
		if err := atLeastOnce(c.got, 4); (err == nil) != c.one {
			t.Errorf("%s: at least once: %v", name, err)
		}
		if err := exactlyOnce(c.got, 4); (err == nil) != c.once {
			t.Errorf("%s: exactly once: %v", name, err)
		}
	}
}

// until polls: the clients are watched from outside.
func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("timed out: %s", what)
		}
	}
}
