package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rivulet/cmd/rivulet/config"
)

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check or print a configuration"}
	cmd.AddCommand(p.configCheckCommand(), p.configPrintCommand())
	return cmd
}

func (p *program) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration file, with file:line:column",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0], nil)
			if err == nil {
				err = c.Check()
			}
			if err := p.configErrors(err); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s is good\n", args[0])
			return err
		},
	}
}

func (p *program) configPrintCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "print [--config FILE]",
		Short: "Print the effective configuration: defaults, file, environment; secrets masked",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := config.Load(file, p.environ)
			if err == nil {
				err = c.Check()
			}
			if err := p.configErrors(err); err != nil {
				return err
			}
			return c.Print(p.stdout)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file")
	return cmd
}

// configErrors tells every error of a configuration on a line of its own, as compilers do.
func (p *program) configErrors(err error) error {
	if list, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(p.stderr, list.Error())
		return reported{exitFailed}
	}
	return err
}
