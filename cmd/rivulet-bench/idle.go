package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/process"
)

// idle is what the program takes before anybody uses it.
type idle struct {
	binary int64
	ready  time.Duration // median of the starts on an empty store
	worst  time.Duration
	rss    int64         // after resting
	cpu    time.Duration // while resting
}

func measureIdle(ctx context.Context, binary, dir string, starts int, rest time.Duration) (m idle, err error) {
	st, err := os.Stat(binary)
	if err != nil {
		return m, fmt.Errorf("find rivulet (make build): %w", err)
	}
	m.binary = st.Size()
	var readies []time.Duration
	for i := range starts {
		if err := func() error {
			dir, err := os.MkdirTemp(dir, "rivulet-bench-")
			if err != nil {
				return fmt.Errorf("make folder: %w", err)
			}
			defer os.RemoveAll(dir)
			p, err := process.Rivulet(binary, filepath.Join(dir, "data"))
			if err != nil {
				return err
			}
			if err := p.Await(ctx); err != nil {
				return err
			}
			readies = append(readies, p.Took)
			if i == starts-1 {
				before, _ := p.Usage()
				if err := wait(ctx, rest); err != nil {
					p.Kill()
					return err
				}
				m.cpu, m.rss = p.Usage()
				m.cpu -= before
			}
			return p.Stop()
		}(); err != nil {
			return m, err
		}
	}
	slices.Sort(readies)
	m.ready, m.worst = readies[len(readies)/2], readies[len(readies)-1]
	return m, nil
}

func idleCommand() *cobra.Command {
	var binary, dir, markdown string
	var starts int
	var rest time.Duration
	c := &cobra.Command{
		Use:   "idle",
		Short: "What rivulet takes before anybody uses it: binary, time to ready, memory, CPU",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := measureIdle(c.Context(), binary, dir, starts, rest)
			if err != nil {
				return err
			}
			table := fmt.Sprintf("| | |\n| --- | ---: |\n| binary, static, stripped | %.1f MiB |\n| ready on an empty store, median and worst of %d | %.0f ms, %.0f ms |\n| resident after %v of rest | %.1f MiB |\n| CPU while resting | %.2f %% |\n",
				float64(m.binary)/(1<<20), starts, m.ready.Seconds()*1e3, m.worst.Seconds()*1e3, rest, float64(m.rss)/(1<<20), 100*m.cpu.Seconds()/rest.Seconds())
			if markdown != "" {
				return replaceBlock(markdown, "idle", table)
			}
			fmt.Fprint(c.OutOrStdout(), table)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&binary, "rivulet", "bin/rivulet", "the binary")
	f.StringVar(&dir, "dir", ".", "folder on the disk in question")
	f.StringVar(&markdown, "markdown", "", "put the table into this file, between <!-- bench idle --> and <!-- /bench -->")
	f.IntVar(&starts, "starts", 11, "how often to start")
	f.DurationVar(&rest, "rest", 10*time.Second, "how long to leave it alone")
	return c
}
