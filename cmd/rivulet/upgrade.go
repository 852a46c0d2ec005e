package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rivulet/storage"
)

func (p *program) upgradeCommand() *cobra.Command {
	var dir, file string
	var none bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring the store of a stopped broker to this program's format, after a backup",
		Long: `Bring the store of a stopped broker to this program's format, after a backup. ` + "`serve`" + ` does the same at its start,
without the backup; what the older format holds is read as it is, so neither takes long. An older program refuses the
store from then on; restore the backup with it to go back.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "data-dir", "./rivulet-data", "the broker's data directory")
	cmd.Flags().StringVar(&file, "backup", "", "where to (default: beside the data directory, named after it and the old format)")
	cmd.Flags().BoolVar(&none, "no-backup", false, "make none")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return p.upgrade(cmd, dir, file, none) }
	return cmd
}

func (p *program) upgrade(cmd *cobra.Command, dir, file string, none bool) error {
	version, current, err := storage.Format(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return noStore(dir)
	case err != nil:
		return err
	case version == current:
		p.note("%s is of format %d already", dir, current)
		return nil
	}
	if !none {
		if file == "" {
			file = fmt.Sprintf("%s.format-%d.backup", filepath.Clean(dir), version)
		}
		fetch := func(ctx context.Context, w io.Writer, show storage.Progress) (storage.Manifest, error) {
			return storage.BackupClosed(ctx, dir, w, show)
		}
		m, err := p.backUp(cmd.Context(), file, false, fetch)
		if errors.Is(err, storage.ErrLocked) {
			return fmt.Errorf("%w; stop the broker first", err)
		}
		if err != nil {
			return err
		}
		p.note("%d files of %s are in %s", m.Files, bytesText(m.Bytes), file)
	}
	err = storage.Upgrade(cmd.Context(), storage.Options{Dir: dir})
	if errors.Is(err, storage.ErrLocked) {
		return fmt.Errorf("%w; stop the broker first", err)
	}
	if err != nil {
		return err
	}
	p.note("%s was of format %d and is of format %d", dir, version, current)
	return nil
}
