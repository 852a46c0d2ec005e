package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The count is that of blocks, not of lengths.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1, 0)
	d := diskUse{dir: dir, now: func() time.Time { return now }}
	before, _, err := d.measure()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "journal"), 0o700),
		os.WriteFile(filepath.Join(dir, "journal", "000001.wal"), make([]byte, 64<<10), 0o600),
		os.WriteFile(filepath.Join(dir, "hole"), nil, 0o600),
		os.Truncate(filepath.Join(dir, "hole"), 1<<30),
	); err != nil {
		t.Fatal(err)
	}
	if got := d.recent(); got != before {
		t.Errorf("%d bytes within a second, were %d", got, before)
	}
	now = now.Add(diskFresh)
	if got := d.recent() - before; got < 64<<10 || got > 1<<20 {
		t.Errorf("%d bytes more, want about 64 KiB", got)
	}
	if _, journal, err := d.measure(); err != nil || journal < 64<<10 {
		t.Errorf("journal takes %d, %v", journal, err)
	}
}
