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
	Rivulet result   `json:"rivulet"`
	Peer    result   `json:"mosquitto"`
	Runs    []result `json:"runs"` // A B A B …
}

func (r row) ratio() float64 { return r.Rivulet.PerSecond / r.Peer.PerSecond }

type comparer struct {
	rivulet, mosquitto string
	dir                string
	config             string
	rounds             int
	progress           io.Writer
}

// shapes are publishers × in flight. The first is the one where an fsync per message shows.
var shapes = [][2]int{{1, 1}, {1, 20}, {10, 100}, {100, 100}}

func (c comparer) compare(ctx context.Context, loads []load) (*comparison, error) {
	out := &comparison{Rounds: c.rounds, Sync: new(histogram)}
	var err error
	if out.Machine, err = describeMachine(ctx, c.rivulet, c.mosquitto, c.dir); err != nil {
		return nil, err
	}
	for _, l := range loads {
		var ours, peers []result
		r := row{Load: l}
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
func (c comparer) one(ctx context.Context, l load, rivulet bool) (r result, err error) {
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
	return l.put(ctx, s.MQTT, s.Usage)
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
			var loads []load
			for _, reader := range []string{"", "#"} {
				for _, s := range shapes {
					l := l
					l.Publishers, l.Window, l.Reader = s[0], s[1], reader
					if err := l.check(); err != nil {
						return err
					}
					loads = append(loads, l)
				}
			}
			out, err := c.compare(cmd.Context(), loads)
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
	f.StringVar(&c.dir, "dir", ".", "folder on the disk in question; a temporary one is made in it for every run")
	f.IntVar(&c.rounds, "rounds", 5, "runs of each broker and load; an odd number")
	f.StringVarP(&format, "output", "o", "table", "table (Markdown) or json")
	f.StringVar(&markdown, "markdown", "", "put the tables into this file, between <!-- bench mqtt --> and <!-- /bench -->")
	loadFlags(cmd, &l)
	return cmd
}

// table is the comparison in Markdown.
func (c *comparison) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nMedians of %d runs of each, in turn. fdatasync of 4 KiB between the runs: **p50 %s, p99 %s**.\n", c.Machine, c.Rounds, c.SyncP50, c.SyncP99)
	for _, reader := range []string{"", "#"} {
		if reader == "" {
			b.WriteString("\nNobody subscribed:\n\n")
		} else {
			b.WriteString("\nWith a live reader, an MQTT subscriber of everything:\n\n")
		}
		b.WriteString("| publishers × in flight | Rivulet, on disk, acks/s | p50 / p99 | delivered/s | CPU µs/msg | RSS MiB | Mosquitto, in memory, acks/s | p50 / p99 | delivered/s | CPU µs/msg | RSS MiB | ratio |\n")
		b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, r := range c.Rows {
			if r.Load.Reader == reader {
				fmt.Fprintf(&b, "| %v |%s%s %.2f |\n", r.Load, r.Rivulet.cells(), r.Peer.cells(), r.ratio())
			}
		}
	}
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
