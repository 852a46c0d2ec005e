package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/examples/plugins/builtin"
)

// comparison is all runs of one table.
type comparison struct {
	Machine machine    `json:"machine"`
	Rounds  int        `json:"rounds"`
	Rows    []row      `json:"rows"`
	Sync    *histogram `json:"-"`
	SyncP50 string     `json:"fdatasync_p50"`
	SyncP99 string     `json:"fdatasync_p99"`
}

// row is one load on both brokers: the run with the median rate of each.
type row struct {
	Load    load     `json:"load"`
	Plugin  string   `json:"plugin,omitempty"` // attached to rivulet's topic; the peer has none
	Rivulet result   `json:"rivulet"`
	Peer    result   `json:"mosquitto"`
	Runs    []result `json:"runs"` // A B A B …
}

func (r row) ratio() float64 { return r.Rivulet.PerSecond / r.Peer.PerSecond }

// setup is a load, and the plugin that rivulet runs it through.
type setup struct {
	load
	plugin, wasm string
}

func (s setup) name() string {
	name := fmt.Sprintf("%dx%d", s.Publishers, s.Window)
	if s.Reader != "" {
		name += " reader"
	}
	if s.plugin != "" {
		name += " plugin " + s.plugin
	}
	return name
}

type comparer struct {
	rivulet, mosquitto string
	dir                string
	config             string
	rounds             int
	progress           io.Writer
}

// shapes are publishers × in flight. The first is the one where an fsync per message shows.
var shapes = [][2]int{{1, 1}, {1, 20}, {10, 100}, {100, 100}}

func (c comparer) compare(ctx context.Context, setups []setup) (*comparison, error) {
	out := &comparison{Rounds: c.rounds, Sync: new(histogram)}
	var err error
	if out.Machine, err = describeMachine(ctx, c.rivulet, c.mosquitto, c.dir); err != nil {
		return nil, err
	}
	for _, l := range setups {
		var ours, peers []result
		r := row{Load: l.load, Plugin: l.plugin}
		for round := range c.rounds {
			a, err := c.one(ctx, l, true)
			if err != nil {
				return nil, fmt.Errorf("rivulet, %v: %w", l, err)
			}
			if err := probeSync(c.dir, 200, out.Sync); err != nil {
				return nil, err
			}
			b, err := c.one(ctx, l, false)
			if err != nil {
				return nil, fmt.Errorf("mosquitto, %v: %w", l, err)
			}
			ours, peers, r.Runs = append(ours, a), append(peers, b), append(r.Runs, a, b)
			fmt.Fprintf(c.progress, "%v round %d: rivulet %.0f/s, mosquitto %.0f/s\n", l, round+1, a.PerSecond, b.PerSecond)
		}
		r.Rivulet, r.Peer = median(ours), median(peers)
		out.Rows = append(out.Rows, r)
	}
	out.SyncP50, out.SyncP99 = out.Sync.quantile(0.5).String(), out.Sync.quantile(0.99).String()
	return out, nil
}

// one starts a broker on an empty folder, runs the load and ends the broker.
func (c comparer) one(ctx context.Context, l setup, rivulet bool) (r result, err error) {
	dir, err := os.MkdirTemp(c.dir, "rivulet-bench-")
	if err != nil {
		return result{}, fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	s, err := c.start(ctx, dir, rivulet)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if rivulet && l.wasm != "" {
		for _, verb := range [][]string{{"push", "bench", l.wasm}, {"attach", "bench", "--topic", "mqtt"}} {
			args := append(append([]string{"plugin"}, verb...), "--server", "http://"+s.HTTP)
			if out, err := exec.CommandContext(ctx, c.rivulet, args...).CombinedOutput(); err != nil {
				return result{}, fmt.Errorf("plugin %s: %w\n%s", verb[0], err, out)
			}
		}
	}
	return l.put(ctx, targetOf(s))
}

func (c comparer) start(ctx context.Context, dir string, rivulet bool) (*process.Process, error) {
	if !rivulet {
		return process.Mosquitto(ctx, c.mosquitto, dir)
	}
	var args []string
	if c.config != "" {
		args = []string{"--config", c.config}
	}
	s, err := process.Rivulet(c.rivulet, filepath.Join(dir, "data"), args...)
	if err != nil {
		return nil, err
	}
	return s, s.Await(ctx)
}

func median(rs []result) result {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b result) int {
		if a.PerSecond < b.PerSecond {
			return -1
		}
		return 1
	})
	return rs[len(rs)/2]
}

func compareCommand() *cobra.Command {
	var l load
	c := comparer{}
	var format, markdown string
	var plugins []string
	only := ""
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Rivulet and Mosquitto in turn on the same machine: QoS 1 acknowledgements a second",
		Long: "Starts each broker on a free port and an empty folder for every run, A B A B, and takes the median run of each. Mosquitto " +
			"runs without persistence. One table is measured with nobody subscribed, one with a subscriber of everything.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if c.mosquitto, err = exec.LookPath(c.mosquitto); err != nil {
				return fmt.Errorf("find mosquitto (Debian: apt-get install mosquitto): %w", err)
			}
			c.progress = cmd.ErrOrStderr()
			l.QoS = 1
			var setups []setup
			for _, reader := range []string{"", "#"} {
				for _, s := range shapes {
					l := l
					l.Publishers, l.Window, l.Reader = s[0], s[1], reader
					if err := l.check(); err != nil {
						return err
					}
					setups = append(setups, setup{load: l})
				}
			}
			identity := filepath.Join(c.dir, "bench-identity.wasm")
			if err := os.WriteFile(identity, builtin.Identity(), 0o600); err != nil {
				return fmt.Errorf("write plugin: %w", err)
			}
			defer os.Remove(identity)
			for _, p := range append([]string{"without an SDK=" + identity}, plugins...) {
				name, file, ok := strings.Cut(p, "=")
				if !ok {
					return errors.Join(errUsage, fmt.Errorf("--plugin %s: want NAME=FILE.wasm", p))
				}
				l := l
				l.Publishers, l.Window = 10, 100
				setups = append(setups, setup{l, name, file})
			}
			if only != "" {
				setups = slices.DeleteFunc(setups, func(s setup) bool { return s.name() != only })
			}
			if len(setups) == 0 {
				return errors.Join(errUsage, fmt.Errorf("--only %q names no line", only))
			}
			out, err := c.compare(cmd.Context(), setups)
			if err != nil {
				return err
			}
			if markdown != "" {
				return replaceBlock(markdown, "mqtt", out.table())
			}
			if format == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			fmt.Fprint(cmd.OutOrStdout(), out.table())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.rivulet, "rivulet", "bin/rivulet", "the binary")
	f.StringVar(&c.mosquitto, "mosquitto", "mosquitto", "the peer")
	f.StringVar(&c.config, "config", "", "rivulet's configuration file")
	f.StringVar(&only, "only", "", "one line: 10x100, \"10x100 reader\", \"10x100 plugin NAME\"")
	f.StringVar(&c.dir, "dir", ".", "folder on the disk in question; a temporary one is made in it for every run")
	f.IntVar(&c.rounds, "rounds", 5, "runs of each broker and load; an odd number")
	f.StringArrayVar(&plugins, "plugin", nil, "NAME=FILE.wasm: 10 × 100 once more with this plugin attached; may be repeated")
	f.StringVarP(&format, "output", "o", "table", "table (Markdown) or json")
	f.StringVar(&markdown, "markdown", "", "put the tables into this file, between <!-- bench mqtt --> and <!-- /bench -->")
	loadFlags(cmd, &l)
	return cmd
}

// table is the comparison in Markdown.
func (c *comparison) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nMedians of %d runs of each, in turn. fdatasync of 4 KiB between the runs: **p50 %s, p99 %s**.\n", c.Machine, c.Rounds, c.SyncP50, c.SyncP99)
	section := func(title, first string, name func(row) (string, bool)) {
		head := false
		for _, r := range c.Rows {
			label, ok := name(r)
			if !ok {
				continue
			}
			if !head {
				head = true
				fmt.Fprintf(&b, "\n%s:\n\n| %s | Rivulet, on disk, acks/s | p50 / p99 | delivered/s | CPU µs/msg | RSS MiB | Mosquitto, in memory, acks/s | p50 / p99 | delivered/s | CPU µs/msg | RSS MiB | ratio |\n", title, first)
				b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
			}
			fmt.Fprintf(&b, "| %s |%s%s %.2f |\n", label, r.Rivulet.cells(), r.Peer.cells(), r.ratio())
		}
	}
	section("Nobody subscribed", "publishers × in flight", func(r row) (string, bool) { return r.Load.String(), r.Load.Reader == "" && r.Plugin == "" })
	section("With a live reader, an MQTT subscriber of everything", "publishers × in flight", func(r row) (string, bool) { return r.Load.String(), r.Load.Reader != "" })
	section("Every message through an identity plugin, at 10 × 100; Mosquitto without a plugin", "plugin", func(r row) (string, bool) { return r.Plugin, r.Plugin != "" })
	return b.String()
}

func (r result) cells() string {
	delivered := "–"
	if r.Load.Reader != "" {
		delivered = thousands(float64(r.Delivered) / r.Elapsed.Seconds())
	}
	return fmt.Sprintf(" %s | %.2f / %.2f ms | %s | %.2f | %.0f |", thousands(r.PerSecond), r.P50.Seconds()*1e3, r.P99.Seconds()*1e3, delivered,
		r.CPU.Seconds()*1e6/float64(r.Acked), float64(r.RSS)/(1<<20))
}

func thousands(n float64) string {
	if n < 10_000 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.0f k", n/1000)
}
