package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/process"
)

// peer is a broker that takes part.
type peer struct {
	name  string
	start func(ctx context.Context, dir string) (*process.Process, error)
	live  bool // rivulet, with a route that logs nothing
}

// peerBench is one run of all of it.
type peerBench struct {
	binaries map[string]string
	dir      string
	rounds   int
	only     string
	load     load
	away     away
	idle     int
	limit    time.Duration // of one broker in one line
	progress io.Writer
	sync     histogram
}

// benchConfig lets ten thousand clients of one address in, and has a route that logs nothing.
const benchConfig = `mqtt: {max_connections: 50000}
limits: {connections: 60000, connections_per_address: 60000, pending: 60000, per_second: 1000000, per_second_per_address: 1000000, burst: 1000000}
routes:
  - {mqtt: "live/#", store: none}
  - {mqtt: "#", topic: mqtt}
topics:
  - {name: mqtt, partitions: 4}
`

func (b *peerBench) peers() []peer {
	rivulet := func(ctx context.Context, dir string) (*process.Process, error) {
		config := filepath.Join(dir, "rivulet.yaml")
		if err := os.WriteFile(config, []byte(benchConfig), 0o600); err != nil {
			return nil, fmt.Errorf("write configuration: %w", err)
		}
		p, err := process.Rivulet(b.binaries["rivulet"], filepath.Join(dir, "data"), "--config", config)
		if err != nil {
			return nil, err
		}
		return p, p.Await(ctx)
	}
	all := []peer{
		{name: "Rivulet", start: rivulet},
		{name: "Rivulet, store: none", start: rivulet, live: true},
		{name: "Mosquitto", start: func(ctx context.Context, dir string) (*process.Process, error) {
			return process.Mosquitto(ctx, b.binaries["mosquitto"], dir)
		}},
		{name: "NATS", start: func(ctx context.Context, dir string) (*process.Process, error) {
			return process.NATS(ctx, b.binaries["nats"], dir)
		}},
		{name: "mochi", start: func(ctx context.Context, _ string) (*process.Process, error) {
			return process.Mochi(ctx, b.binaries["mochi"])
		}},
	}
	return slices.DeleteFunc(all, func(p peer) bool { return b.binaries[strings.ToLower(strings.SplitN(p.name, ",", 2)[0])] == "" })
}

// line is one row of a table: a load, and what of its result is shown.
type line struct {
	name string
	load load
	live bool // rivulet without the log takes part
	show func(r result) string
	note func(r result) string // of the same run, in a row of its own; nil: none
	said string                // the name of that row
}

func (b *peerBench) lines() []line {
	with := func(change func(*load)) load {
		l := b.load
		l.Publishers, l.Window = 10, 100
		change(&l)
		return l
	}
	rate := func(r result) string { return thousands(r.PerSecond) }
	delivered := func(r result) string { return thousands(float64(r.Delivered) / r.Elapsed.Seconds()) }
	acked := func(r result) string { return latency{r.P50, r.P99, r.P999}.String() }
	arrived := func(r result) string { return r.Delivery.String() }
	at := func(rate float64, publishers int) load {
		return with(func(l *load) { l.QoS, l.Rate, l.Publishers = 1, rate, publishers })
	}
	toReader := func(l load) load {
		l.Reader, l.ReaderQoS = "#", 1
		return l
	}
	const goal = "fdatasync p99 of that run; is p99 at most twice that + 1 ms"
	return []line{
		{name: "QoS 0, written/s, nobody subscribed", load: with(func(*load) {}), live: true, show: rate},
		{name: "QoS 0, delivered/s to one subscriber", load: with(func(l *load) { l.Reader = "#" }), live: true, show: delivered},
		{name: "QoS 1, acknowledged/s", load: with(func(l *load) { l.QoS = 1 }), live: true, show: rate},
		{name: "QoS 2, completed/s", load: with(func(l *load) { l.QoS = 2 }), show: rate},
		{name: "1 → 100, delivered/s", load: with(func(l *load) { l.QoS, l.Publishers, l.Reader, l.Readers = 1, 1, "#", 100 }), live: true, show: delivered},
		{
			name: "100 → 100, delivered/s", live: true, show: delivered,
			load: with(func(l *load) { l.QoS, l.Publishers, l.Window, l.Reader, l.Readers = 1, 100, 10, "#", 100 }),
		},
		{name: "1,000/s to PUBACK, p50 / p99 / p99.9 ms", load: at(1000, 10), show: acked, note: commitGoal, said: goal},
		{name: "1,000/s to a subscriber at QoS 1, ms", load: toReader(at(1000, 10)), show: arrived},
		{name: "20,000/s to PUBACK, p50 / p99 / p99.9 ms", load: at(20_000, 20), show: acked},
		{name: "20,000/s to a subscriber at QoS 1, ms", load: toReader(at(20_000, 20)), show: arrived},
	}
}

// commitGoal is what an acknowledgement costs beside the commit that it waits for, and perhaps the one before.
func commitGoal(r result) string {
	if r.Commit == 0 {
		return "–"
	}
	answer := "no"
	if r.P99 <= 2*r.Commit+time.Millisecond {
		answer = "yes"
	}
	return fmt.Sprintf("%.2f ms: %s", r.Commit.Seconds()*1e3, answer)
}

// one starts a broker on an empty folder and has f measure it, for a bounded time.
func (b *peerBench) one(ctx context.Context, p peer, f func(ctx context.Context, p *process.Process) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "rivulet-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	s, err := p.start(ctx, dir)
	if err != nil {
		return err
	}
	defer s.Kill() // brokers differ in how they end, and nothing of it is kept
	return f(ctx, s)
}

// run makes the tables.
func (b *peerBench) run(ctx context.Context) (string, error) {
	peers := b.peers()
	var out strings.Builder
	head := func(first string) {
		fmt.Fprintf(&out, "\n| %s |", first)
		for _, p := range peers {
			fmt.Fprintf(&out, " %s |", p.name)
		}
		out.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(peers)) + "\n")
	}
	head("200 bytes, 10 publishers × 100 in flight")
	for _, l := range b.lines() {
		if b.only != "" && !strings.Contains(l.name, b.only) {
			continue
		}
		runs := map[string][]result{}
		failed := map[string]string{}
		for round := range b.rounds {
			for _, p := range peers {
				if p.live && !l.live || failed[p.name] != "" {
					continue
				}
				put := l.load
				if p.live {
					put.Prefix = "live"
				}
				var r result
				err := b.one(ctx, p, func(ctx context.Context, s *process.Process) (err error) {
					r, err = put.put(ctx, targetOf(s))
					return err
				})
				if ctx.Err() != nil {
					return "", ctx.Err()
				}
				if err != nil {
					failed[p.name] = err.Error()
					fmt.Fprintf(b.progress, "%s, round %d: %s: %v\n", l.name, round+1, p.name, err)
					continue
				}
				runs[p.name] = append(runs[p.name], r)
				fmt.Fprintf(b.progress, "%s, round %d: %s %s\n", l.name, round+1, p.name, l.show(r))
			}
			if err := probeSync(b.dir, 200, &b.sync); err != nil {
				return "", err
			}
		}
		row := func(name string, show func(r result) string) {
			fmt.Fprintf(&out, "| %s |", name)
			for _, p := range peers {
				cell := "–"
				if rs := runs[p.name]; len(rs) > 0 {
					cell = show(medianBy(rs, l.load.Rate > 0))
				} else if failed[p.name] != "" {
					cell = "failed"
				}
				fmt.Fprintf(&out, " %s |", cell)
			}
			out.WriteString("\n")
		}
		row(l.name, l.show)
		if l.note != nil {
			row(l.said, l.note)
		}
	}
	peers = slices.DeleteFunc(peers, func(p peer) bool { return p.live })
	head("memory of its own (RssAnon)")
	if err := b.idleLines(ctx, peers, &out); err != nil {
		return "", err
	}
	head(fmt.Sprintf("%d sessions away through %d messages, %d come back", b.away.sessions, b.away.messages, b.away.back))
	if err := b.awayLines(ctx, peers, &out); err != nil {
		return "", err
	}
	return out.String(), nil
}

// medianBy is the run in the middle: by latency, or by what was acknowledged and delivered.
func medianBy(rs []result, slow bool) result {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(x, y result) int {
		if slow {
			return cmp.Compare(x.P99, y.P99)
		}
		return cmp.Compare(x.PerSecond+float64(x.Delivered)/x.Elapsed.Seconds(), y.PerSecond+float64(y.Delivered)/y.Elapsed.Seconds())
	})
	return rs[len(rs)/2]
}

// idleLines measures connections that do nothing; the client is a process of its own.
func (b *peerBench) idleLines(ctx context.Context, peers []peer, out *strings.Builder) error {
	if b.only != "" && b.only != "idle" {
		return nil
	}
	steps := []int{0, 1000, b.idle}
	got := map[string][]int64{}
	for _, p := range peers {
		err := b.one(ctx, p, func(ctx context.Context, s *process.Process) error {
			for _, n := range steps {
				m, err := b.idleAt(ctx, s, n)
				if err != nil {
					return err
				}
				got[p.name] = append(got[p.name], m)
				fmt.Fprintf(b.progress, "%s: %d idle connections, %.1f MiB\n", p.name, n, float64(m)/(1<<20))
			}
			return nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(b.progress, "idle: %s: %v\n", p.name, err)
		}
	}
	for i, n := range steps {
		fmt.Fprintf(out, "| %d idle connections, MiB |", n)
		for _, p := range peers {
			cell := "–"
			if len(got[p.name]) > i {
				cell = fmt.Sprintf("%.1f", float64(got[p.name][i])/(1<<20))
			}
			fmt.Fprintf(out, " %s |", cell)
		}
		out.WriteString("\n")
	}
	fmt.Fprintf(out, "| each beyond the first thousand, KiB |")
	for _, p := range peers {
		cell := "–"
		if m := got[p.name]; len(m) == len(steps) && b.idle > 1000 {
			cell = fmt.Sprintf("%.1f", float64(m[2]-m[1])/1024/float64(b.idle-1000))
		}
		fmt.Fprintf(out, " %s |", cell)
	}
	out.WriteString("\n")
	return nil
}

// idleAt holds n connections for some seconds and returns the broker's memory then.
func (b *peerBench) idleAt(ctx context.Context, s *process.Process, n int) (int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	if n > 0 {
		cmd := exec.CommandContext(ctx, self, "hold", "--addr", s.MQTT, "--connections", fmt.Sprint(n))
		in, err := cmd.StdinPipe()
		if err != nil {
			return 0, fmt.Errorf("make pipe: %w", err)
		}
		h, err := process.Start(cmd)
		if err != nil {
			return 0, err
		}
		defer func() {
			in.Close()
			h.Kill()
		}()
		if err := h.Await(ctx); err != nil {
			return 0, err
		}
	}
	if err := wait(ctx, settle); err != nil { // what connecting left behind is collected
		return 0, err
	}
	return s.Anonymous(), nil
}

const settle = 5 * time.Second

func (b *peerBench) awayLines(ctx context.Context, peers []peer, out *strings.Builder) error {
	if b.only != "" && b.only != "away" {
		return nil
	}
	got := map[string]awayResult{}
	for _, p := range peers {
		err := b.one(ctx, p, func(ctx context.Context, s *process.Process) error {
			r, err := b.away.run(ctx, s)
			if err == nil {
				got[p.name] = r
			}
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(b.progress, "sessions away: %s %+v %v\n", p.name, got[p.name], err)
	}
	for _, row := range []struct {
		name string
		show func(awayResult) string
	}{
		{"all subscribe and leave, s", func(r awayResult) string { return fmt.Sprintf("%.1f", r.Subscribe.Seconds()) }},
		{"messages/s meanwhile, QoS 1", func(r awayResult) string { return thousands(float64(b.away.messages) / r.Publish.Seconds()) }},
		{"memory taken, MiB", func(r awayResult) string { return fmt.Sprintf("%.1f", float64(r.Memory)/(1<<20)) }},
		{"until those that return have all, s", func(r awayResult) string { return fmt.Sprintf("%.2f", r.Return.Seconds()) }},
		{"messages that they did not get", func(r awayResult) string { return fmt.Sprint(r.Missing) }},
	} {
		fmt.Fprintf(out, "| %s |", row.name)
		for _, p := range peers {
			cell := fmt.Sprintf("not within %v", b.limit)
			if r, ok := got[p.name]; ok {
				cell = row.show(r)
			}
			fmt.Fprintf(out, " %s |", cell)
		}
		out.WriteString("\n")
	}
	return nil
}

func peersCommand() *cobra.Command {
	b := &peerBench{binaries: map[string]string{}}
	paths := map[string]*string{}
	var markdown string
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Rivulet, Mosquitto, NATS and mochi in turn: QoS 0 to 2, fan-out, latency, idle connections, sessions that were away",
		Long: "Starts each broker on a free port and an empty folder for every run, in turn, and takes the median. What Rivulet acknowledges is on " +
			"disk, but for `store: none`; Mosquitto and mochi keep everything in memory; NATS has its defaults and syncs every two minutes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, path := range paths {
				if *path == "" {
					continue
				}
				found, err := exec.LookPath(*path)
				if err != nil {
					return fmt.Errorf("find %s (make bench-peers builds it; leave it out with --%s ''): %w", name, name, err)
				}
				b.binaries[name] = found
			}
			if b.binaries["rivulet"] == "" {
				return errors.Join(errUsage, errors.New("--rivulet is needed"))
			}
			b.progress = cmd.ErrOrStderr()
			m, err := describeMachine(cmd.Context(), b.binaries["rivulet"], cmp.Or(b.binaries["mosquitto"], "mosquitto"), b.dir)
			if err != nil {
				return err
			}
			tables, err := b.run(cmd.Context())
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s\n\nMedians of %d runs of each, in turn. fdatasync of 4 KiB between the runs: **p50 %s, p99 %s**.\n%s", m, b.rounds,
				b.sync.quantile(0.5), b.sync.quantile(0.99), tables)
			if markdown != "" {
				return replaceBlock(markdown, "peers", text)
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
	f := cmd.Flags()
	for name, path := range map[string]string{"rivulet": "bin/rivulet", "mosquitto": "mosquitto", "nats": "bin/peers/nats-server", "mochi": "bin/peers/mochi"} {
		paths[name] = f.String(name, path, "the binary; '' leaves it out")
	}
	f.StringVar(&b.dir, "dir", ".", "folder on the disk in question; a temporary one is made in it for every run")
	f.IntVar(&b.rounds, "rounds", 3, "runs of each broker and line; an odd number")
	f.StringVar(&b.only, "only", "", "lines whose name holds this; or idle, or away")
	f.IntVar(&b.idle, "idle", 10_000, "idle connections")
	f.IntVar(&b.away.sessions, "sessions", 10_000, "sessions that are away")
	f.IntVar(&b.away.messages, "messages", 1_000_000, "messages for them")
	f.IntVar(&b.away.back, "back", 100, "sessions that come back")
	f.DurationVar(&b.limit, "limit", time.Minute, "what one broker may take for one line")
	f.StringVar(&markdown, "markdown", "", "put the tables into this file, between <!-- bench peers --> and <!-- /bench -->")
	loadFlags(cmd, &b.load)
	b.load.Duration = 2500 * time.Millisecond
	return cmd
}
