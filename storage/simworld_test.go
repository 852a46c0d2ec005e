package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Rows of the crash table that the simulator must meet, and what happens to a store beside crashes. That a file is unlinked before the
// log start was journaled cannot happen: starts are committed first.
const (
	rowDurable    = "frame durable, not acknowledged"
	rowTorn       = "torn or half-written last frame"
	rowSealed     = "seal written, before checkpoint"
	rowApplied    = "checkpoint, before journal recycling"
	rowCreated    = "log file created"
	rowReborn     = "topic deleted and created again"
	rowCorrupt    = "corrupt frame in the middle of the journal"
	rowSyncOnce   = "failed journal sync"
	rowSyncTwice  = "failed journal sync, twice"
	rowFull       = "disk full"
	rowInRecovery = "crash in recovery"
	rowRecycle    = "crash while a journal file is recycled"
	rowForward    = "copy-forward written, old file still there"
	rowTrimmed    = "a log start moved"
	rowRetained   = "retention dropped records"
	rowRestored   = "a backup restored"

	rowCompacted      = "compaction removed records"
	rowClean          = "a compaction to its end left nothing behind"
	rowCompactBetween = "crash between two steps of a compaction"
	rowCompactBefore  = "crash before a compacted file is written"
	rowCompactWritten = "crash behind a compacted file, before its rename"
	rowCompactRenamed = "compacted file renamed, old file still there"
	rowCompactUnlink  = "crash while what was compacted is unlinked"
	rowTombstone      = "a tombstone's time was over"
	rowUnstable       = "compaction met an open transaction"

	rowStepped  = "the wall clock stepped"
	rowDropped  = "the budget dropped records"
	rowMirrored = "an uplink moved on, and a full store went on"
	rowRefused  = "the budget refused records, and took them again"
	rowUnlinked = "a log start moved, crash before what was past is unlinked"
)

var simRows = []string{
	rowDurable, rowTorn, rowSealed, rowApplied, rowCreated, rowReborn, rowCorrupt, rowSyncOnce, rowSyncTwice, rowFull, rowInRecovery, rowRecycle, rowForward,
	rowTrimmed, rowRetained, rowRestored,
	rowCompacted, rowClean, rowCompactBetween, rowCompactBefore, rowCompactWritten, rowCompactRenamed, rowCompactUnlink, rowTombstone, rowUnstable,
	rowStepped, rowDropped, rowMirrored, rowRefused, rowUnlinked,
}

var (
	errOff = errors.New("the machine is off")
	errEIO = &os.PathError{Op: "sync", Err: syscall.EIO}
)

// simWorld is one machine: a disk, on it a store, and the moment at which it loses power. The journal is simulated; meta.db
// and the log files are real, so that a crash is a copy of them, taken while no commit of bbolt's is under way.
type simWorld struct {
	dir  string
	fs   *simFS
	s    *Store
	o    Options
	rows map[string]int
	hold HoldFunc // told to every store that is opened; nil: none is

	gate sync.Mutex // held while bbolt commits

	mu     sync.Mutex // guards what follows; taken behind gate and the file system's
	rng    *rand.Rand // of the crash
	crash  crashPlan
	syncs  int // syncs of the journal that are to fail
	full   bool
	image  *simImage
	off    bool
	images int

	compacting bool          // the sealer is at it
	wallOff    time.Duration // of the wall clock, from the time of the bubble
}

// crashPlan is when to crash: at the count-th operation of that name, before or behind it.
type crashPlan struct {
	op     string // of the file system, or a point; "": not at all
	behind bool
	count  int
	kill   bool // only the process ends
}

// simImage is what the next start finds.
type simImage struct {
	dir   string
	fs    *simFS
	plan  crashPlan
	files error

	compacting bool
}

func newSimWorld(root string, seed uint64, o Options) *simWorld {
	w := &simWorld{dir: filepath.Join(root, "0"), fs: newSimFS(), o: o, rows: map[string]int{}, rng: rand.New(rand.NewPCG(seed, 99))}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		panic(err)
	}
	return w
}

// open starts the store on the disk as it is. After a crash in the middle of it, w.image is set.
func (w *simWorld) open() error {
	w.fs.mu.Lock()
	w.fs.fail, w.fs.done = w.before, w.behind
	w.fs.mu.Unlock()
	o := w.o
	o.Dir, o.FS, o.faults = w.dir, w.fs, w.point
	s, err := Open(context.Background(), o)
	if w.s = s; s != nil && w.hold != nil {
		s.SetHold(w.hold)
	}
	return err
}

// plan arms the next crash.
func (w *simWorld) plan(p crashPlan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crash = p
}

// due counts down to the crash. mu is held.
func (w *simWorld) due(op string, behind bool) bool {
	if w.crash.op != op || w.crash.behind != behind || w.image != nil {
		return false
	}
	w.crash.count--
	return w.crash.count <= 0
}

// before is simFS.fail.
func (w *simWorld) before(op, _ string) error {
	w.mu.Lock()
	if w.off {
		w.mu.Unlock()
		return errOff
	}
	if w.due(op, false) {
		w.mu.Unlock()
		w.shoot(false)
		return errOff
	}
	defer w.mu.Unlock()
	switch {
	case op == "sync" && w.syncs > 0:
		w.syncs--
		return errEIO
	case op == "create" && w.full:
		return syscall.ENOSPC
	}
	return nil
}

// behind is simFS.done.
func (w *simWorld) behind(op, _ string) error {
	w.mu.Lock()
	hit := w.due(op, true)
	w.mu.Unlock()
	if hit {
		w.shoot(false)
		return errOff
	}
	return nil
}

// point is Options.faults. The sealer holds the gate from a point before bbolt writes to the one behind it.
func (w *simWorld) point(p string) (err error) {
	opens := strings.HasPrefix(p, "before") || p == pointForwardWritten // from the rename to the last unlink
	closes := p == pointLogRenamed || p == pointSealAfter || p == pointApplyAfter || p == pointCopyAfter || p == pointForwardDone
	if opens {
		w.gate.Lock()
	}
	defer func() {
		free := p == pointForwardBefore || p == pointSweep // there nothing is written, and the gate is open
		if !free && (closes || err != nil) {
			w.gate.Unlock()
		}
	}()
	w.mu.Lock()
	switch {
	case w.off:
		w.mu.Unlock()
		return errOff
	case w.full && opens:
		w.mu.Unlock()
		return syscall.ENOSPC
	}
	hit := w.due(p, false)
	w.mu.Unlock()
	if hit {
		w.fs.mu.Lock()
		defer w.fs.mu.Unlock()
		w.shoot(true)
		return errOff
	}
	return nil
}

// shoot takes the image of this moment. The file system's lock is held; gated says that the gate is, too.
func (w *simWorld) shoot(gated bool) {
	if !gated {
		w.gate.Lock()
		defer w.gate.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.image != nil {
		return
	}
	w.images++
	img := &simImage{dir: filepath.Join(filepath.Dir(w.dir), fmt.Sprint(w.images)), plan: w.crash, compacting: w.compacting}
	img.files = copyStore(img.dir, w.dir)
	if w.crash.kill {
		img.fs = w.fs.killLocked()
	} else {
		img.fs = w.fs.crashLocked(w.rng)
	}
	img.fs.rebase(filepath.Join(img.dir, "journal"))
	w.image, w.off, w.crash = img, true, crashPlan{}
}

// pull crashes now.
func (w *simWorld) pull(kill bool) {
	w.mu.Lock()
	w.crash = crashPlan{kill: kill}
	w.mu.Unlock()
	w.gate.Lock()
	defer w.gate.Unlock()
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.shoot(true)
}

func (w *simWorld) crashed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.image != nil
}

// reboot ends what is left of the store and puts the image in place of the disk.
func (w *simWorld) reboot() (simImage, error) {
	if w.s != nil {
		w.s.Close() // the machine is off: it cannot do anything, and says so
		w.s = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	img := *w.image
	old := w.dir
	w.dir, w.fs = img.dir, img.fs
	w.image, w.off, w.syncs, w.full, w.compacting = nil, false, 0, false, false
	return img, errors.Join(img.files, os.RemoveAll(old))
}

// copyStore copies the real files of a store. Pages of zeros become holes, as they are in the original.
func copyStore(to, from string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil // half-made files come and go
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.MkdirAll(dst, 0o700)
		case e.Name() == "ballast":
			return os.Link(path, dst)
		case e.Name() == "LOCK" || strings.HasSuffix(path, tmpSuffix):
			return nil
		}
		return copySparse(dst, path)
	})
}

func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	buf, zero := make([]byte, 64*pageSize), make([]byte, pageSize)
	for off := int64(0); off < info.Size(); off += int64(len(buf)) {
		if runtime.GOOS == "linux" {
			const seekData = 3 // lseek(2): most of a log file is a hole
			next, err := in.Seek(off, seekData)
			if errors.Is(err, syscall.ENXIO) {
				return nil
			}
			if err != nil {
				return err
			}
			off = next
		}
		n, err := in.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return err
		}
		for at := 0; at < n; at += pageSize {
			page := buf[at:min(at+pageSize, n)]
			if bytes.Equal(page, zero[:len(page)]) {
				continue
			}
			if _, err := out.WriteAt(page, off+int64(at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// simRoot is a folder in memory where there is one: what the simulator calls the disk is its own affair, and waiting for a real
// one would only make for fewer programs. The empty string stands for the system's folder.
func simRoot() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err != nil || !info.IsDir() {
		return ""
	}
	return shm
}

// simTimeout bounds a step, in the time of the bubble that the simulator runs in.
const simTimeout = 10 * time.Minute

// testSeeds is a number of programs from the environment.
func testSeeds(t *testing.T, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	var n int
	if _, err := fmt.Sscan(v, &n); err != nil || n < 0 {
		t.Fatalf("%s=%q is no number of programs", name, v)
	}
	return n
}
