package storage

import (
	"errors"
	"io/fs"
	"os"
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

	heldMu sync.Mutex            // guards held; taken behind mu
	held   map[*backupPoint]bool // backups under way, which hold files open that may have no name any more

	mu      sync.Mutex // guards what follows; held during a walk, so that there is one at a time
	total   int64
	journal int64 // of which the journal's files
	unnamed int64 // and files without a name
	at      time.Time
}

// diskFresh is how old a count may be that nobody decides anything by.
const diskFresh = time.Second

// measure counts now: all, and of it what the journal takes, and files without a name. Files that come and go meanwhile may be counted or
// not.
func (d *diskUse) measure() (total, journal, unnamed int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.count()
	return d.total, d.journal, d.unnamed, err
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
	d.unnamed = d.nameless()
	d.total, d.journal, d.at = total+d.unnamed, journal, d.now()
	return nil
}

// hold says that a backup's files are open, or no longer.
func (d *diskUse) hold(p *backupPoint, open bool) {
	d.heldMu.Lock()
	defer d.heldMu.Unlock()
	if !open {
		delete(d.held, p)
		return
	}
	if d.held == nil {
		d.held = make(map[*backupPoint]bool)
	}
	d.held[p] = true
}

// nameless counts the files that were unlinked while a backup reads them: their blocks come back when it is through with them.
func (d *diskUse) nameless() int64 {
	d.heldMu.Lock()
	defer d.heldMu.Unlock()
	n, _ := d.countNameless()
	return n
}

// countNameless also lists the backups that hold such files. heldMu is held.
func (d *diskUse) countNameless() (n int64, holders []*backupPoint) {
	seen := make(map[fileID]bool) // by two backups perhaps
	for p := range d.held {
		holds := false
		for _, f := range p.files {
			file, ok := f.file.(*os.File)
			if !ok {
				continue
			}
			info, err := file.Stat()
			if err != nil { // it was sent, and closed
				continue
			}
			if id, ok := unlinked(info); ok {
				holds = true
				if !seen[id] {
					seen[id] = true
					n += allocated(info)
				}
			}
		}
		if holds {
			holders = append(holders, p)
		}
	}
	return n, holders
}

// breakOff ends the backups that hold files without a name, when those take more than bound bytes, and reports whether there were any.
// While they are held, dropping records gives nothing back, and all of them would go.
func (d *diskUse) breakOff(bound int64) bool {
	d.heldMu.Lock()
	defer d.heldMu.Unlock()
	n, holders := d.countNameless()
	if n <= bound {
		return false
	}
	for _, p := range holders {
		p.gaveUp.Store(true)
		for _, f := range p.files {
			_ = f.file.Close() // whoever reads it meets that
		}
	}
	return true
}

// fileID tells files apart that have no name.
type fileID struct{ device, inode uint64 }
