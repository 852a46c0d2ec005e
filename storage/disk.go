package storage

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// diskUse counts what the files under the data directory take on the disk: allocated blocks, so that holes cost nothing and a
// file's last block counts whole. It walks the folders, which takes about 2 µs a file, of which there are a few hundred.
type diskUse struct {
	dir string
	now func() time.Time

	mu      sync.Mutex // guards what follows; held during a walk, so that there is one at a time
	total   int64
	journal int64 // of which the journal's files
	at      time.Time
}

// diskFresh is how old a count may be that nobody decides anything by.
const diskFresh = time.Second

// measure counts now: all, and the journal's part of it. Files that come and go meanwhile may be counted or not.
func (d *diskUse) measure() (total, journal int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.count()
	return d.total, d.journal, err
}

// recent is a count of the last second, or a new one. When that fails it is the last one.
func (d *diskUse) recent() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if age := d.now().Sub(d.at); age < 0 || age >= diskFresh {
		_ = d.count() // whoever decides something by it asks measure, which says why it failed
	}
	return d.total
}

// count walks the folders. mu is held.
func (d *diskUse) count() error {
	total, journal := int64(0), int64(0)
	within := filepath.Join(d.dir, "journal")
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		n := allocated(info)
		total += n
		if strings.HasPrefix(path, within) {
			journal += n
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.total, d.journal, d.at = total, journal, d.now()
	return nil
}
