package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "rivulet-bench",
		Short:         "Load generator and comparisons for MQTT and Kafka brokers",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(mqttCommand(), compareCommand(), kafkaCommand(), idleCommand(), fsyncCommand(), peersCommand(), holdCommand(), stormCommand(), rushCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errors.Join(errUsage, err) })
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "rivulet-bench:", err)
		if errors.Is(err, errUsage) {
			return 2
		}
		return 1
	}
	return 0
}
