package storage

import (
	"errors"
	"os"
	"path/filepath"
)

// ballast is a file that only takes space. A checkpoint that meets a full disk gives it up: the checkpoint lets journal
// files be used again, and deleting keys needs pages, too.
type ballast struct {
	path string
	kept bool
}

const ballastBytes = 256 << 10

// release unlinks the ballast; false when there was none.
func (b *ballast) release() bool {
	b.kept = false
	return os.Remove(b.path) == nil
}

// restore makes the ballast if it is not there. It is written, not truncated to its size: a hole takes no space.
func (b *ballast) restore() error {
	if b.kept {
		return nil
	}
	if info, err := os.Stat(b.path); err == nil && info.Size() == ballastBytes {
		b.kept = true
		return nil
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, ballastBytes))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(b.path)
		return err
	}
	b.kept = true
	return syncDir(filepath.Dir(b.path))
}
