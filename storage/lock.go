package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lockDir takes the data directory for this process until the file is closed. The lock is the kernel's (it ends with the
// process, however that ends); the pid in the file is for the message alone.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		owner, _ := os.ReadFile(path)
		pid := strings.TrimSpace(string(owner))
		if pid == "" {
			pid = "unknown"
		}
		return nil, errors.Join(fmt.Errorf("%w: pid %s holds %s", ErrLocked, pid, path), f.Close())
	}
	// Who holds it is only told. On a full disk it cannot be written, and the store is to be opened all the same.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}
