package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"rivulet/storage"
)

func (p *program) restoreCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory from a backup",
		Long: `Make a data directory from a backup ("-": standard input). The directory must be empty or not there. A backup
that is damaged or cut off is refused and leaves nothing behind.

The restored store is a new generation: a mirror goes on at the point of the backup, or where the centre is if that is
earlier. What was written between the backup and the loss is at the centre alone.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "the directory to make")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if dir == "" {
			return usageError("say where to: --data-dir DIR")
		}
		in := io.Reader(p.stdin)
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if os.IsNotExist(err) {
				return &exitError{exitNotFound, err}
			}
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		show, end := p.progress("restore")
		m, err := storage.Restore(cmd.Context(), in, dir, storage.RestoreOptions{Progress: show})
		end()
		if err != nil {
			return err
		}
		p.note("%s holds the store of %s, %d files of %s", dir, m.Created.Local().Format("2006-01-02 15:04:05"), m.Files, bytesText(m.Bytes))
		return nil
	}
	return cmd
}
