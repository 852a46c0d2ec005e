package mirror

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// centreEnv makes this test binary a centre, so that what it costs is not counted as the mirror's.
const centreEnv = "RIVULET_TEST_CENTRE"

func TestMain(m *testing.M) {
	if os.Getenv(centreEnv) != "" {
		os.Exit(beCentre())
	}
	verifyMain(m)
}

// beCentre serves until standard input ends.
func beCentre() int {
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	fmt.Println(strings.Join(c.ListenAddrs(), ","))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func childCentre(b *testing.B) []string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), centreEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(line), ",")
}

// wireCounter counts what the client writes.
type wireCounter struct{ n atomic.Int64 }

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (w *wireCounter) OnBrokerWrite(_ kgo.BrokerMetadata, _ int16, n int, _, _ time.Duration, _ error) {
	w.n.Add(int64(n))
}

func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// resident reads the memory of this process that is not a mapped file's, in MiB; 0 where there is no /proc.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				return 0
			}
			return float64(n) / 1024
		}
	}
	return 0
}

// BenchmarkMirror sends a million records of 200 bytes, sealed, to a centre in another process.
func BenchmarkMirror(b *testing.B) {
	const records, partitions = 1_000_000, 4
	dir := b.TempDir()
	fill := func() {
		store, err := storage.Open(b.Context(), storage.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		tp, err := store.CreateTopic(b.Context(), "telemetry", partitions, nil)
		if err != nil {
			b.Fatal(err)
		}
		for at := 0; at < records; at += 1000 {
			p := tp.Partitions[at/1000%partitions]
			recs := make([]batch.Record, 1000)
			for i := range recs {
				recs[i] = batch.Record{Timestamp: 1700000000000 + int64(at+i), Payload: payload(p, int64(at+i), 160)}
			}
			if err := store.Do(b.Context(), &edge.Commit{Appends: []edge.Append{{Partition: p, Records: recs}}}); err != nil {
				b.Fatal(err)
			}
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
	fill()
	debug.FreeOSMemory()
	before := resident()
	var peak float64
	b.ReportAllocs()
	var cpu, wall float64
	var wire, sealed int64
	var last Status
	n := 0
	for b.Loop() {
		n++
		addrs := childCentre(b)
		h := openHere(b, dir)
		o := options(b, h, addrs, Rule{Topic: "telemetry", To: fmt.Sprintf("run%d", n)})
		o.Name = fmt.Sprintf("run%d", n)
		count := &wireCounter{}
		o.KgoOpts = []kgo.Opt{kgo.WithHooks(count)}
		c0, t0 := cpuSeconds(b), time.Now()
		u := start(b, o)
		eventually(b, "everything is mirrored", func() bool {
			peak = max(peak, resident())
			s := u.Status()
			return s.Lag == 0 && len(s.Partitions) > 0
		})
		cpu += cpuSeconds(b) - c0
		wall += time.Since(t0).Seconds()
		wire += count.n.Load()
		tp, _ := h.store.Topic("telemetry")
		for _, p := range tp.Partitions {
			_, stored := p.Size()
			sealed += stored
		}
		last = u.Status()
		u.stop()
		h.close(b)
	}
	b.ReportMetric(cpu/float64(n), "cpu-s/Mrec")
	b.ReportMetric(wall/float64(n), "s/Mrec")
	b.ReportMetric(float64(wire)/float64(sealed), "wire/sealed")
	b.ReportMetric(before, "MiB-before")
	b.ReportMetric(peak, "MiB-peak")
	b.ReportMetric(float64(last.Txns), "txns")
	b.ReportMetric(float64(last.Raw)/float64(last.Batches), "raw/batch")
	b.Logf("%d sealed bytes, %d on the wire", sealed/int64(n), wire/int64(n))
}
