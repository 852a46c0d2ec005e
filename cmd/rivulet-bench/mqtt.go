package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet-bench/wire"
)

// loadFlags binds what mqtt and compare share.
func loadFlags(c *cobra.Command, l *load) {
	f := c.Flags()
	f.IntVar(&l.Size, "size", 200, "payload bytes")
	f.DurationVar(&l.WarmUp, "warm-up", time.Second, "before counting starts")
	f.DurationVar(&l.Duration, "duration", 3*time.Second, "counted time of a run")
	f.Uint8Var(&l.ReaderQoS, "reader-qos", 0, "the reader's QoS")
}

func (l load) check() error {
	switch {
	case l.Publishers < 1 || l.Window < 1 || l.Window > wire.MaxPacketIDs:
		return errors.Join(errUsage, fmt.Errorf("publishers and in-flight begin at 1, in-flight ends at %d", wire.MaxPacketIDs))
	case l.QoS > 2 || l.ReaderQoS > 1:
		return errors.Join(errUsage, errors.New("QoS is 0, 1 or 2, the reader's 0 or 1"))
	case l.Size < 16 || l.Size > 1<<20:
		return errors.Join(errUsage, errors.New("size is from 16 bytes to 1 MiB"))
	}
	return nil
}

func mqttCommand() *cobra.Command {
	var l load
	var addr, http, format string
	c := &cobra.Command{
		Use:   "mqtt",
		Short: "Publish to one broker as fast as it acknowledges",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			r, err := l.put(c.Context(), target{addr: addr, http: http})
			if err != nil {
				return err
			}
			if format == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			fmt.Fprintf(c.OutOrStdout(), "%v, QoS %d, %d bytes: %.0f/s acknowledged, p50 %v, p99 %v", l, l.QoS, l.Size, r.PerSecond, r.P50, r.P99)
			if l.Rate > 0 {
				fmt.Fprintf(c.OutOrStdout(), ", p99.9 %v", r.P999)
			}
			if l.Reader != "" {
				fmt.Fprintf(c.OutOrStdout(), ", %.0f/s delivered", float64(r.Delivered)/r.Elapsed.Seconds())
			}
			if l.Reader != "" && l.Rate > 0 {
				fmt.Fprintf(c.OutOrStdout(), " after p50 %v, p99 %v, p99.9 %v", r.Delivery.P50, r.Delivery.P99, r.Delivery.P999)
			}
			if r.Commit > 0 {
				fmt.Fprintf(c.OutOrStdout(), "; the broker's fdatasync p99 %v", r.Commit)
			}
			fmt.Fprintln(c.OutOrStdout())
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:1883", "the broker")
	f.IntVar(&l.Publishers, "publishers", 10, "connections that publish")
	f.IntVar(&l.Window, "in-flight", 100, "unacknowledged messages of each")
	f.Uint8Var(&l.QoS, "qos", 1, "0, 1 or 2; with 0, messages count when they are written")
	f.Float64Var(&l.Rate, "rate", 0, "messages a second in all, each sent when it is due; 0: as many as go")
	f.StringVar(&http, "http", "", "the broker's HTTP listener, if it is rivulet: how long its commits took is told, too")
	f.StringVar(&l.Reader, "reader", "", "a subscriber of this filter runs along")
	f.StringVarP(&format, "output", "o", "table", "table or json")
	loadFlags(c, &l)
	return c
}
