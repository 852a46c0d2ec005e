package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"rivulet/storage"
)

func (p *program) verifyCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "verify", Short: "Check every batch's checksum, every index and the journal of a stopped broker", Args: cobra.NoArgs}
	o := p.output(cmd)
	cmd.Flags().StringVar(&dir, "data-dir", "./rivulet-data", "the broker's data directory")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return noDir(dir)
		}
		problems, err := storage.Verify(cmd.Context(), dir)
		if errors.Is(err, storage.ErrLocked) {
			return fmt.Errorf("%w; stop the broker first", err)
		}
		if errors.Is(err, storage.ErrNoStore) {
			return noStore(dir)
		}
		if err != nil {
			return err
		}
		if problems == nil {
			problems = []storage.Problem{}
		}
		if len(problems) == 0 {
			p.note("%s is sound", dir)
			if o.format == "table" {
				return nil
			}
			return o.show(problems, nil)
		}
		rows := []string{"FILE\tTOPIC\tWHERE\tDETAIL"}
		for _, x := range problems {
			rows = append(rows, row(x.File, x.Topic, x.Where, x.Detail))
		}
		if err := o.show(problems, rows); err != nil {
			return err
		}
		return fmt.Errorf("%d places of %s are damaged; start the broker, which sets them aside and goes on, or restore a copy", len(problems), dir)
	}
	return cmd
}
