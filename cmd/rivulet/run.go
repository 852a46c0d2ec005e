package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitNotFound
	exitUnhealthy
)

// exitError is a failure with its exit status.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// reported is a failure that the verb has told itself.
type reported struct{ status int }

func (r reported) Error() string { return "" }

// program is what verbs share: the streams, and the environment, which tests replace.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

func (p *program) getenv(name string) string {
	for _, e := range p.environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: os.Environ()}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return p.exit(root.ExecuteContext(ctx))
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "rivulet",
		Short:         "A broker for the edge: MQTT and Kafka in, a log on disk, exactly once to the centre",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		p.serveCommand(), p.demoCommand(), p.configCommand(), p.topicCommand(), p.produceCommand(), p.consumeCommand(), p.pubCommand(), p.subCommand(),
		p.groupCommand(), p.pluginCommand(), p.syncCommand(), p.sessionCommand(), p.backupCommand(), p.restoreCommand(), p.verifyCommand(), p.upgradeCommand(), p.doctorCommand(), p.reloadCommand(), p.userCommand(), p.aclCommand(), p.tlsCommand(), p.versionCommand(),
	)
	strict(root)
	return root
}

// strict turns cobra's own complaints about arguments into wrong usage, and makes a noun without a verb one, too.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError("%w; see %s --help", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
	if cmd.HasParent() && cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return usageError("say what to do; see %s --help", cmd.CommandPath())
		}
	}
}

// exit tells a failure in one line and chooses the exit status.
func (p *program) exit(err error) int {
	if err == nil {
		return exitDone
	}
	if r, ok := errors.AsType[reported](err); ok {
		return r.status
	}
	fmt.Fprintln(p.stderr, "rivulet:", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.status
	}
	if strings.HasPrefix(err.Error(), "unknown command") { // cobra gives no type to tell it by
		return exitUsage
	}
	return exitFailed
}
