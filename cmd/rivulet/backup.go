package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rivulet/storage"
)

func (p *program) backupCommand() *cobra.Command {
	var dir string
	var yes bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the whole store to FILE, from a broker that goes on meanwhile, or from a stopped one",
		Long: `Write the whole store as it is after one commit to FILE ("-": standard output).

A running broker is asked at --server and goes on at full speed. With --data-dir, the store in that directory is read
directly if no broker runs there; else that broker is asked by its admin.sock. The file is checked as it comes and has
its name only when it is whole.`,
		Args: cobra.ExactArgs(1),
	}
	r := p.remote(cmd)
	cmd.Flags().StringVar(&dir, "data-dir", "", "the data directory of a broker on this machine")
	cmd.Flags().BoolVar(&yes, "yes", false, "overwrite FILE without asking")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fetch := func(ctx context.Context, w io.Writer, show storage.Progress) (storage.Manifest, error) {
			return r.backup(ctx, w, show)
		}
		if dir != "" {
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				return noDir(dir)
			}
			fetch = func(ctx context.Context, w io.Writer, show storage.Progress) (storage.Manifest, error) {
				m, err := storage.BackupClosed(ctx, dir, w, show)
				if errors.Is(err, storage.ErrLocked) { // before anything was written
					r.server = "unix:" + filepath.Join(dir, "admin.sock")
					return r.backup(ctx, w, show)
				}
				if errors.Is(err, storage.ErrNoStore) {
					return m, noStore(dir)
				}
				return m, err
			}
		}
		m, err := p.backUp(cmd.Context(), args[0], yes, fetch)
		if err != nil {
			return err
		}
		as := fmt.Sprintf("as of commit %d", m.Seq)
		if m.Seq == 0 {
			as = "all that the stopped store holds"
		}
		p.note("%d files of %s, %s, are in %s", m.Files, bytesText(m.Bytes), as, args[0])
		return nil
	}
	return cmd
}

// noDir and noStore say that a data directory is none.
func noDir(dir string) error {
	return &exitError{exitNotFound, fmt.Errorf("no data directory %s; say --data-dir", dir)}
}

func noStore(dir string) error {
	return &exitError{exitNotFound, fmt.Errorf("no store in %s; say --data-dir", dir)}
}

// backUp writes a backup to a file, which has its name when it is whole and on disk.
func (p *program) backUp(ctx context.Context, file string, yes bool,
	fetch func(ctx context.Context, w io.Writer, show storage.Progress) (storage.Manifest, error),
) (m storage.Manifest, err error) {
	show, end := p.progress("backup")
	defer end()
	if file == "-" {
		return fetch(ctx, p.stdout, show)
	}
	if _, err := os.Stat(file); err == nil {
		if err := p.confirm(yes, "%s exists. Overwrite it?", file); err != nil {
			return m, err
		}
	}
	tmp := file + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // it holds credentials
	if err != nil {
		return m, fmt.Errorf("write backup: %w", err)
	}
	m, err = fetch(ctx, f, show)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		_ = os.Remove(tmp) // it is not whole
		return m, err
	}
	return m, nil
}

// backup asks a running broker, and reads along to see that what comes is whole.
func (r *remote) backup(ctx context.Context, w io.Writer, show storage.Progress) (storage.Manifest, error) {
	resp, err := r.do(ctx, http.MethodGet, "/v1/backup", "", nil)
	if err != nil {
		return storage.Manifest{}, err
	}
	defer resp.Body.Close()
	m, err := storage.VerifyBackup(io.TeeReader(resp.Body, w), show)
	if err != nil {
		return m, fmt.Errorf("fetch backup: %w; see the broker's log", err)
	}
	return m, nil
}
