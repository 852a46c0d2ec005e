//go:build interop

package interop

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// A crash story: a broker on a data directory, a fleet, things that happen to it, and the comparison at the end.
type story struct {
	t           *testing.T
	ctx         context.Context
	bin, data   string
	mqtt, kafka string
	rnd         *rand.Rand
	fleet       *fleet
}

func newStory(t *testing.T, data string) *story {
	t.Helper()
	seed := fromEnv(t, "RIVULET_SEED", rand.Uint64())
	t.Logf("RIVULET_SEED=%d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	addrs := freeAddrs(t, 2)
	return &story{
		t: t, ctx: ctx, bin: binary(t), data: data, mqtt: addrs[0], kafka: addrs[1], rnd: rand.New(rand.NewPCG(seed, 0)),
		fleet: newFleet(addrs[0], addrs[1], seed),
	}
}

// start runs the broker, under strace with these injections if there are any.
func (s *story) start(inject ...string) *process.Process {
	s.t.Helper()
	args := process.ServeArgs(s.data, "--mqtt", s.mqtt, "--kafka", s.kafka)
	cmd := exec.Command(s.bin, args...)
	if len(inject) > 0 {
		// -D: strace is the grandchild, so that the process that is killed is the broker.
		trace := []string{"-D", "-f", "-qqq", "-o", "/dev/null", "--seccomp-bpf"}
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
	s.fleet.start(s.ctx)
	s.t.Cleanup(func() { s.fleet.finish() })
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
	if err := p.Stop(); err != nil {
		s.t.Error(err)
	}
	if out, err := exec.CommandContext(s.ctx, s.bin, "verify", "--data-dir", s.data).CombinedOutput(); err != nil {
		s.t.Errorf("verify: %v\n%s", err, out)
	}
}

// System calls that fail or never return, under load. What was acknowledged before, between and after must be there.
func TestFailingSystemCalls(t *testing.T) {
	for name, inject := range map[string][]string{
		"one sync fails":            {"fdatasync:error=EIO:when=20"},
		"every sync fails":          {"fdatasync:error=EIO:when=15+"},
		"killed in a sync":          {"fdatasync:signal=SIGKILL:when=30"},
		"killed in an early sync":   {"fdatasync:signal=SIGKILL:when=2"},
		"killed in a write":         {"pwrite64:signal=SIGKILL:when=70"},
		"the disk is full":          {"pwrite64:error=ENOSPC:when=60+"},
		"killed in a rename":        {"renameat,rename,renameat2:signal=SIGKILL:when=1"},
		"slow disk, then killed":    {"fdatasync:delay_enter=20000:signal=SIGKILL:when=25"},
		"the disk fails and is cut": {"fdatasync:error=EIO:when=10+", "ftruncate:error=EIO:when=1+"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t, filepath.Join(t.ArtifactDir(), "data"))
			p := s.begin()
			s.pass(p, 50*time.Millisecond, 200*time.Millisecond)
			p.Kill()
			s.fleet.crashed()
			for range 3 {
				p = s.start(inject...)
				ended := s.pass(p, time.Second, 1500*time.Millisecond)
				t.Logf("ended by itself: %v", ended)
				p.Kill()
				s.fleet.crashed()
			}
			s.end(s.start())
		})
	}
}
