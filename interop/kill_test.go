package interop

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// fromEnv is a number that a longer or a repeated run sets.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// The built program is killed at random moments, while it starts included, under 20 devices and 4 producers, and started again on
// the same data. Then everything that it ever acknowledged must be in its log, in order, once.
func TestKill9(t *testing.T) {
	kills := int(fromEnv(t, "RIVULET_KILLS", 10))
	seed := fromEnv(t, "RIVULET_SEED", rand.Uint64())
	t.Logf("RIVULET_KILLS=%d RIVULET_SEED=%d", kills, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(kills)*5*time.Second)
	defer cancel()

	bin, data := binary(t), filepath.Join(t.ArtifactDir(), "data")
	addrs := freeAddrs(t, 2)
	mqtt, kafka := addrs[0], addrs[1]
	start := func() *process.Process {
		t.Helper()
		p, err := process.Rivulet(bin, data, "--mqtt", mqtt, "--kafka", kafka)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	await := func(p *process.Process) {
		t.Helper()
		if err := p.Await(ctx); err != nil {
			t.Fatal(err)
		}
	}

	p := start()
	await(p)
	if err := createTopic(ctx, kafka, producerTopic, 4); err != nil {
		t.Fatal(err)
	}
	f := newFleet(mqtt, kafka, seed)
	f.start(ctx)
	defer f.finish()
	unready := 0
	for i := range kills {
		select {
		case <-time.After(time.Duration(20+rnd.IntN(880)) * time.Millisecond):
		case <-p.Ended:
			t.Fatalf("the broker ended by itself:\n%s", p.Log())
		}
		select {
		case <-p.Ready:
		default:
			unready++
		}
		p.Kill()
		f.crashed()
		if i%10 == 9 {
			sent, acked := f.counts()
			t.Logf("after %d kills, %d of them before ready: %d readings sent, %d acknowledged", i+1, unready, sent, acked)
		}
		p = start()
	}
	await(p)
	if err := f.finish(); err != nil {
		t.Fatalf("%v\nlast log of the broker:\n%s", err, p.Log())
	}
	sent, acked := f.counts()
	if acked < 100*kills {
		t.Errorf("only %d of %d readings were acknowledged: that was no load", acked, sent)
	}

	entries, err := readBack(ctx, kafka, deviceTopic, producerTopic)
	if err != nil {
		t.Fatalf("%v\nlog of the broker:\n%s", err, p.Log())
	}
	t.Logf("%d readings sent, %d acknowledged, %d in the log", sent, acked, len(entries))
	report(t, check(f.ledgers(), entries))

	// A clean stop and start changes nothing, and every checksum on disk holds.
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, bin, "verify", "--data-dir", data).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	p = start()
	await(p)
	again, err := readBack(ctx, kafka, deviceTopic, producerTopic)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(sorted(again), sorted(entries)) {
		t.Errorf("a clean restart changed the log: %d records, were %d", len(again), len(entries))
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func sorted(es []entry) []entry {
	slices.SortFunc(es, func(a, b entry) int {
		switch {
		case a.topic != b.topic:
			return strings.Compare(a.topic, b.topic)
		case a.partition != b.partition:
			return int(a.partition - b.partition)
		}
		return int(a.offset - b.offset)
	})
	return es
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for i, p := range problems {
		if i == 20 {
			t.Errorf("… and %d more", len(problems)-i)
			break
		}
		t.Error(p)
	}
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := process.FreeAddrs(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}
