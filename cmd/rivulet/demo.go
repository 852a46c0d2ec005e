package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
)

// The demo's names and sizes.
const (
	demoTopic      = "telemetry"
	demoPartitions = 4
	demoDevices    = 8
	demoRate       = 500 // messages a second of each device
	demoPlugin     = "drop-cold"
	demoThreshold  = 20
	demoUplink     = "central"
	demoSettle     = 30 * time.Second // for the mirror to catch up at the end
)

// demo is two brokers over real sockets: devices publish to the edge, a filter drops what is cold, the rest is stored and
// mirrored to the centre. At the end both logs are compared.
type demo struct {
	p      *program
	length time.Duration // 0: until an interrupt
	every  time.Duration // a row of the table
	seed   uint64

	central, edge *server
	devices       *devices
	copy          copyReader // of the centre's partitions, for the verdict
}

func (p *program) demoCommand() *cobra.Command {
	d := &demo{p: p, every: time.Second, copy: readCentral}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all in one process: devices, a filter, a log, a mirror, and a comparison at the end",
		Long: `Run a central broker, an edge broker, simulated devices that publish over MQTT, an uploaded filter, and a mirror: all
in this process, over sockets on free loopback ports, in a temporary folder.

At the end (--for, or an interrupt) the centre's copy is read over the Kafka protocol and compared with the edge's log.
Exit status 0 only if they are equal.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().DurationVar(&d.length, "for", 0, "end after this long (default: at an interrupt)")
	cmd.Flags().Uint64Var(&d.seed, "seed", 1, "of the devices' figures")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) }
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.length < 0 {
		return usageError("--for %v: want a duration such as 20s", d.length)
	}
	dir, err := os.MkdirTemp("", "rivulet-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// What follows ends in order, also after an interrupt.
	whole := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, d.stop(whole)) }()
	if err := d.start(ctx, dir); err != nil {
		return err
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	return d.conclude(whole)
}

func (d *demo) start(ctx context.Context, dir string) (err error) {
	log := slog.New(slog.NewTextHandler(d.p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if d.central, err = startServer(ctx, demoConfig(dir, "central"), log.With("broker", "central")); err != nil {
		return err
	}
	c := demoConfig(dir, "edge")
	c.Topics = []config.Topic{{Name: demoTopic, Partitions: demoPartitions}}
	c.Routes = []config.Route{{MQTT: "factory/+/telemetry", Topic: demoTopic, Key: "{1}"}}
	c.Sync = []config.Uplink{{
		Name:  demoUplink,
		Kafka: config.Kafka{Brokers: []string{d.central.address("kafka")}},
		Up:    []config.Up{{Topic: demoTopic, To: "{edge}.{topic}"}},
		Age:   config.Duration(300 * time.Millisecond),
	}}
	if err := c.Check(); err != nil {
		return fmt.Errorf("demo configuration: %w", err)
	}
	if d.edge, err = startServer(ctx, c, log.With("broker", "edge")); err != nil {
		return err
	}
	if err := d.upload(ctx); err != nil {
		return err
	}
	d.devices, err = startDevices(ctx, d.edge.address("mqtt"), d.seed)
	return err
}

// demoConfig is a broker on free ports. Small files, so that what is stored is seen to be sealed within seconds.
func demoConfig(dir, name string) *config.Config {
	c := config.Default()
	c.Edge, c.DataDir = name, filepath.Join(dir, name)
	c.Listeners.MQTT.Addr, c.Listeners.Kafka.Addr, c.Listeners.HTTP.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Storage.Profile, c.Storage.TailBytes = "small", 2<<20
	return c
}

// stop ends what was started, devices first, so that nothing is sent to a broker that is gone.
func (d *demo) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	var errs []error
	if d.devices != nil {
		d.devices.stop()
	}
	if d.edge != nil {
		errs = append(errs, d.edge.Stop(ctx))
	}
	if d.central != nil {
		errs = append(errs, d.central.Stop(ctx))
	}
	return errors.Join(errs...)
}
