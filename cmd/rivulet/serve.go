package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
)

// drainTime bounds an orderly end; after it what is still open is cut, which costs clients a retry and nobody a record.
const drainTime = 10 * time.Second

type serveFlags struct {
	config, dataDir, mqtt, kafka, http string
	logLevel, logFormat                string
}

func (p *program) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: `Run the broker until SIGINT or SIGTERM, which let it finish what it acknowledged.

Without a configuration it listens on loopback only: MQTT 1883, Kafka 9092, HTTP and console 8080.
Port 0 takes a free one. When every listener is up, one log line with msg=ready names the addresses.
Every key of the configuration can be given in the environment: RIVULET_ and its path in capitals with _.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", `where everything is kept (default "./rivulet-data")`)
	cmd.Flags().StringVar(&f.mqtt, "mqtt", "", `address for MQTT (default "127.0.0.1:1883")`)
	cmd.Flags().StringVar(&f.kafka, "kafka", "", `address for Kafka (default "127.0.0.1:9092")`)
	cmd.Flags().StringVar(&f.http, "http", "", `address for HTTP (default "127.0.0.1:8080")`)
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "", "text or json (default: text on a terminal)")
	return cmd
}

// load is the configuration with the flags laid over it.
func (f serveFlags) load(environ []string) (*config.Config, error) {
	c, err := config.Load(f.config, environ)
	if err != nil {
		return nil, err
	}
	for _, o := range []struct {
		to   *string
		flag string
	}{
		{&c.DataDir, f.dataDir},
		{&c.Listeners.MQTT.Addr, f.mqtt},
		{&c.Listeners.Kafka.Addr, f.kafka},
		{&c.Listeners.HTTP.Addr, f.http},
	} {
		if o.flag != "" {
			*o.to = o.flag
		}
	}
	return c, c.Check()
}

func (p *program) serve(ctx context.Context, f serveFlags) error {
	level := &slog.LevelVar{}
	log, err := newLogger(p.stderr, level, f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	c, err := f.load(p.environ)
	if err := p.configErrors(err); err != nil {
		return err
	}
	setLevel := func(c *config.Config) {
		_ = level.UnmarshalText([]byte(cmp.Or(c.Log.Level, f.logLevel))) // both were checked
	}
	setLevel(c)
	limitMemory(c, p.getenv("GOMEMLIMIT"))
	// Before anything says that the broker is there: a SIGHUP that nobody waits for ends the process.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	s, err := startServer(ctx, c, log)
	if err != nil {
		return err
	}
	s.readAgain(func() (*config.Config, error) { return f.load(p.environ) }, setLevel)
	s.warnOpen()
	s.logReady()
	for wait := true; wait; {
		select {
		case <-hup:
			if _, err := s.reload(ctx); err != nil {
				log.Error("cannot reload the configuration", "err", err)
			}
		case <-ctx.Done():
			log.Info("stopping")
			wait = false
		case <-s.failed:
			wait = false
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := s.Stop(drain); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

func newLogger(w io.Writer, at *slog.LevelVar, level, format string) (*slog.Logger, error) {
	var o slog.HandlerOptions
	if err := at.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError("--log-level %s: want debug, info, warn or error", level)
	}
	o.Level = at
	if format == "" {
		format = "json"
		if isTerminal(w) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return nil, usageError("--log-format %s: want text or json", format)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// limitMemory tells the garbage collector how much there is, so that it works harder before the kernel kills. What the
// environment says counts. The limit is the process's, so only serve sets it, never startServer.
func limitMemory(c *config.Config, environment string) {
	if environment != "" {
		return
	}
	if l := c.Storage.Limits(); l.Memory > 0 {
		debug.SetMemoryLimit(l.Memory)
	} else if have := memoryOfMachine(); have > 0 {
		debug.SetMemoryLimit(min(have/10*8, math.MaxInt64))
	}
}

func (s *server) logReady() {
	var attrs []any
	for _, w := range s.ways {
		attrs = append(attrs, w.name, w.addr)
	}
	s.log.Info("ready", append(attrs, "edge", s.cfg.Edge, "data_dir", s.cfg.DataDir, "version", version(), "took", fmt.Sprint(s.took.Round(time.Millisecond)))...)
}
