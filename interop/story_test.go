package interop

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// story is that of a crash test: a broker on a data directory, a fleet, things that happen to it, and the comparison at the end.
type story struct {
	t           *testing.T
	ctx         context.Context
	bin, data   string
	mqtt, kafka string
	rnd         *rand.Rand
	fleet       *fleet

	args     []string // more for serve
	unread   bool     // reads failed: a file that has a copy may have been set aside, as it is for a bad sector
	compared func()   // also at the end, while the broker runs
}

func newStory(t *testing.T, data string, patience, pace time.Duration) *story {
	t.Helper()
	seed := fromEnv(t, "RIVULET_SEED", rand.Uint64())
	t.Logf("RIVULET_SEED=%d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	addrs := freeAddrs(t, 2)
	return &story{
		t: t, ctx: ctx, bin: binary(t), data: data, mqtt: addrs[0], kafka: addrs[1], rnd: rand.New(rand.NewPCG(seed, 0)),
		fleet: newFleet(addrs[0], addrs[1], seed, pace),
	}
}

// start runs the broker, under strace with these injections if there are any.
func (s *story) start(inject ...string) *process.Process {
	s.t.Helper()
	args := process.ServeArgs(s.data, append(s.args, "--mqtt", s.mqtt, "--kafka", s.kafka)...)
	cmd := exec.Command(s.bin, args...)
	if len(inject) > 0 {
		// -D: strace is the grandchild, so that the process that is killed is the broker.
		trace := []string{"-D", "-f", "-qqq", "-o", "/dev/null"}
		calls := []string{}
		for _, i := range inject {
			call, _, _ := strings.Cut(i, ":")
			calls = append(calls, call)
			trace = append(trace, "-e", "inject="+i)
		}
		trace = append(trace, "-e", "trace="+strings.Join(calls, ","), s.bin)
		cmd = exec.Command("strace", append(trace, args...)...)
	}
	p, err := process.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Kill) // when the story broke off
	return p
}

func (s *story) await(p *process.Process) {
	s.t.Helper()
	if err := p.Await(s.ctx); err != nil {
		s.t.Fatal(err)
	}
}

// begin starts a sound broker, makes the topic, and sets the fleet to work.
func (s *story) begin() *process.Process {
	s.t.Helper()
	p := s.start()
	s.await(p)
	if err := createTopic(s.ctx, s.kafka, producerTopic, 4); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.fleet.finish() })
	starting, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	if err := s.fleet.start(s.ctx, starting); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// pass lets the load run for between low and high, or until the broker ends by itself; it reports whether it did.
func (s *story) pass(p *process.Process, low, high time.Duration) (ended bool) {
	select {
	case <-time.After(low + time.Duration(s.rnd.Int64N(int64(high-low)))):
		return false
	case <-p.Ended:
		return true
	}
}

// end starts a sound broker, lets the fleet finish and compares. The data directory must verify.
func (s *story) end(p *process.Process) {
	s.t.Helper()
	s.await(p)
	if err := s.fleet.finish(); err != nil {
		s.t.Fatalf("%v\nlog of the broker:\n%s", err, p.Log())
	}
	entries, err := readBack(s.ctx, s.kafka, deviceTopic, producerTopic)
	if err != nil {
		s.t.Fatalf("%v\nlog of the broker:\n%s", err, p.Log())
	}
	sent, acked := s.fleet.counts()
	s.t.Logf("%d readings sent, %d acknowledged, %d in the log", sent, acked, len(entries))
	if acked < 1000 {
		s.t.Errorf("that was no load")
	}
	report(s.t, check(s.fleet.ledgers(), entries))
	if s.compared != nil {
		s.compared()
	}

	// A clean stop and start changes nothing, and every checksum on disk holds.
	if err := p.Stop(); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.CommandContext(s.ctx, s.bin, "verify", "--data-dir", s.data).CombinedOutput(); err != nil && !(s.unread && onlySetAside(string(out))) {
		s.t.Errorf("verify: %v\n%s", err, out)
	}
	p = s.start()
	s.await(p)
	again, err := readBack(s.ctx, s.kafka, deviceTopic, producerTopic)
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(inOrder(again), inOrder(entries)) {
		s.t.Errorf("a clean restart changed the log: %d records, were %d", len(again), len(entries))
	}
	if err := p.Stop(); err != nil {
		s.t.Error(err)
	}
}

func inOrder(es []entry) []entry {
	slices.SortFunc(es, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
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

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := process.FreeAddrs(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// onlySetAside reports whether all that verify names are files that an earlier start has set aside.
func onlySetAside(out string) bool {
	said := 0
	for line := range strings.Lines(out) {
		switch {
		case strings.Contains(line, "was set aside by an earlier start"):
			said++
		case !strings.HasPrefix(line, "FILE ") && !strings.HasPrefix(line, "rivulet: "):
			return false
		}
	}
	return said > 0
}

func TestOnlySetAside(t *testing.T) {
	const head, aside = "FILE  TOPIC  WHERE  DETAIL\n", "/data/meta.db.quarantined  -  file  was set aside by an earlier start\n"
	const damaged, end = "/data/log/x  t  offsets 1 to 2  checksum\n", "rivulet: 1 places of /data are damaged\n"
	for out, want := range map[string]bool{head + aside + end: true, head + aside + damaged + end: false, head + damaged + end: false, end: false} {
		if onlySetAside(out) != want {
			t.Errorf("%q: %v", out, !want)
		}
	}
}
