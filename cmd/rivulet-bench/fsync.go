package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// probeSync times n writes of 4 KiB, each with its fdatasync, into a preallocated file of dir: what a journal does.
func probeSync(dir string, n int, into *histogram) (err error) {
	f, err := os.Create(filepath.Join(dir, "fsync-probe"))
	if err != nil {
		return fmt.Errorf("create probe: %w", err)
	}
	defer os.Remove(f.Name())
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4096)
	const size = 4 << 20
	for off := int64(0); off < size; off += int64(len(page)) {
		if _, err := f.WriteAt(page, off); err != nil {
			return fmt.Errorf("write probe: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync probe: %w", err)
	}
	for i := range n {
		page[0] = byte(i)
		from := time.Now()
		if _, err := f.WriteAt(page, int64(i)*int64(len(page))%size); err != nil {
			return fmt.Errorf("write probe: %w", err)
		}
		if err := datasync(f); err != nil {
			return fmt.Errorf("sync probe: %w", err)
		}
		into.add(time.Since(from))
	}
	return nil
}

func fsyncCommand() *cobra.Command {
	var dir string
	var n int
	c := &cobra.Command{
		Use:   "fsync",
		Short: "Time the disk's write of 4 KiB with fdatasync",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var h histogram
			if err := probeSync(dir, n, &h); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "fdatasync of 4 KiB, %d times: p50 %v, p99 %v, max %v\n", n, h.quantile(0.5), h.quantile(0.99), h.quantile(1))
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", ".", "folder on the disk in question")
	c.Flags().IntVar(&n, "count", 2000, "how many")
	return c
}
