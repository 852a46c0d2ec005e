package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rivulet/cmd/rivulet-bench/wire"
)

// holdCommand is the client side of idle connections, in a process of its own, so that its memory is not the broker's.
func holdCommand() *cobra.Command {
	var addr string
	var n int
	c := &cobra.Command{
		Use:   "hold",
		Short: "Open connections and do nothing with them until standard input ends",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conns, err := hold(c.Context(), addr, n)
			defer func() {
				for _, nc := range conns {
					nc.Close()
				}
			}()
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), `{"msg":"ready"}`)
			_, err = io.Copy(io.Discard, c.InOrStdin())
			return err
		},
	}
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:1883", "the broker")
	c.Flags().IntVar(&n, "connections", 1000, "how many")
	return c
}

// hold opens connections, some at a time.
func hold(ctx context.Context, addr string, n int) ([]net.Conn, error) {
	var conns []net.Conn
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range n {
		g.Go(func() error {
			nc, err := wire.Dial(ctx, addr, fmt.Sprintf("idle-%d", i))
			if err != nil {
				return err
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			return nil
		})
	}
	err := g.Wait()
	return conns, err
}
