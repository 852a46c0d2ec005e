package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// journal is the row of files that frames are appended to. The committer alone appends; the filer alone makes, renames and
// removes files; the sealer says what is no longer needed.
type journal struct {
	fs      FS
	dir     string
	size    int64 // of one file
	maximum int   // files in all
	now     func() time.Time
	log     *slog.Logger
	freed   func() // called by the filer when there is room again, or none to be had
	starved func() // called by the committer that waits for files to be sealed and checkpointed

	control chan func() // the committer runs what comes here while it waits between two frames

	// The committer's.
	started bool // the filer runs; set before anything else does
	cur     *walFile
	off     int64
	chain   uint32 // CRC of the last frame

	room     atomic.Int64  // bytes left in cur
	borrowed atomic.Bool   // cur is of the reserve; see reckon
	prepared atomic.Uint64 // bytes of the files that the filer made
	forced   atomic.Bool   // files are made beyond the maximum: nothing will set one free

	mu       sync.Mutex // guards what follows
	spares   []*walFile // ready to be written, by number
	full     []*walFile // hold frames and are no longer written, by number
	next     uint32     // number of the next file
	needless uint64     // frames up to this sequence are needed no more
	least    int64      // what the committer waits for takes
	must     bool       // and it cannot wait for the sealer: it is in the middle of a frame
	pressed  bool       // a commit waits that fits into the reserve only
	reserve  int        // spares that records must leave alone; see keepSpares
	fault    error      // why the filer's last round failed
	rounds   uint64     // of the filer
	closed   bool

	work  chan struct{} // wakes the filer; capacity 1
	ready chan struct{} // wakes the committer that waits for a spare; capacity 1
	done  chan struct{} // closed when the filer has ended
}

// walFile is one journal file.
type walFile struct {
	no   uint32
	file File
	size int64
	last uint64 // sequence of the last frame in it
	bad  bool   // a sync failed: what it holds may not be on disk although it can be read; never written again
}

// keepSpares files are kept for commits that must always fit: offsets, PUBREL, transaction ends, uplink progress. The
// promise starts when they exist for the first time, so that a new store need not wait for them.
const keepSpares = 2

// firstFile is the size of the first file of an empty store: making it must not hold up readiness.
const firstFile = 1 << 20

// filerRetry is how long the filer waits after a failure before it tries again by itself.
const filerRetry = time.Second

const (
	walSuffix = ".wal"
)

// journalMaximum is how many files records may fill: twice what full tails take when they do not compress, plus reserve, current
// and next.
func journalMaximum(o Options) int {
	return keepSpares + 2 + 2*int(roundUp(o.TailBytes, o.JournalBytes)/o.JournalBytes)
}

func newJournal(o Options, freed func()) *journal {
	j := &journal{
		fs: o.FS, dir: filepath.Join(o.Dir, "journal"), size: o.JournalBytes,
		maximum: journalMaximum(o),
		now:     o.Now, log: o.Log, freed: freed, next: 1,
		work: make(chan struct{}, 1), ready: make(chan struct{}, 1), done: make(chan struct{}),
		starved: func() {},
	}
	j.forced.Store(true) // until the sealer runs
	return j
}

func (j *journal) path(no uint32) string {
	return filepath.Join(j.dir, fmt.Sprintf("%06d%s", no, walSuffix))
}

// walNumber reads a journal file's number from its name.
func walNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, walSuffix)
	if !ok {
		return 0, false
	}
	no, err := strconv.ParseUint(digits, 10, 32)
	return uint32(no), err == nil
}

// makeRoom sees to it that a frame of at most size bytes fits into the current file. It may wait for the filer. Nothing
// is lost when it fails: no frame was begun.
func (j *journal) makeRoom(size int64) error {
	size = roundUp(frameHead+size, frameAlign)
	if j.cur != nil && j.off+size <= j.cur.size {
		return nil
	}
	return j.advance(size, false)
}

// force says whether files are made beyond the maximum. The sealer does while it cannot set any free, and while it waits for a
// commit itself.
func (j *journal) force(on bool) {
	if j.forced.Swap(on) != on && on {
		j.kick()
	}
}

// advance makes a spare the current file. Without one it waits for the filer, which makes a file if there are fewer than the
// maximum, or must; else for the sealer, by way of the filer: what is urgent may take all files, and must not outrun the
// checkpoints, or the journal would grow for as long as it comes faster.
func (j *journal) advance(size int64, must bool) error {
	if j.cur != nil {
		j.mu.Lock()
		j.full = append(j.full, j.cur)
		j.mu.Unlock()
		j.cur = nil
		j.room.Store(0)
	}
	j.mu.Lock()
	asked := j.rounds
	j.least, j.must = size, must
	ask := true // the filer has not seen what is wanted
	for {
		if len(j.spares) > 0 {
			f := j.spares[0]
			j.spares = j.spares[1:]
			j.reckon()
			if f.size < size { // the small first file of a store, or files were made smaller
				j.full = append(j.full, f)
				ask = true
				continue
			}
			j.least, j.must, j.pressed = 0, false, false
			j.mu.Unlock()
			j.cur, j.off = f, 0
			j.room.Store(f.size)
			j.kick()
			return nil
		}
		// A round may have been under way when we asked; only the outcome of one that began later counts.
		fault := j.fault
		tried := j.rounds >= asked+2
		j.mu.Unlock()
		if tried && fault != nil {
			return fmt.Errorf("%w: make journal file: %w", ErrFull, fault)
		}
		if ask || fault != nil {
			j.kick()
		}
		ask = false
		if must {
			<-j.ready
		} else {
			j.starved()
			select {
			case <-j.ready:
			case fn := <-j.control: // the checkpoint's, which is what is waited for
				fn()
			}
		}
		j.mu.Lock()
	}
}

// errAppend is a frame that could not be made durable in two files.
var errAppend = errors.New("append to journal")

// append makes frame durable. When writing or syncing fails, the file is given up, since what it holds can no longer be
// known, and the identical frame goes to the next file; recovery keeps one of the two. sync is told how long the
// fdatasync that counted took.
func (j *journal) append(frame []byte, seq uint64, sync func(time.Duration)) error {
	err := j.put(frame, seq, sync)
	if err == nil {
		return nil
	}
	j.log.Error("journal write failed; writing the frame to another file", "file", j.path(j.cur.no), "seq", seq, "err", err)
	j.cur.bad = true
	if err2 := j.advance(int64(len(frame)), true); err2 != nil {
		return fmt.Errorf("%w: %w, then %w", errAppend, err, err2)
	}
	if err2 := j.put(frame, seq, sync); err2 != nil {
		j.cur.bad = true
		return fmt.Errorf("%w: %w, then %w", errAppend, err, err2)
	}
	return nil
}

func (j *journal) put(frame []byte, seq uint64, sync func(time.Duration)) error {
	crc := stampFrame(frame, j.cur.no, j.chain)
	if _, err := j.cur.file.WriteAt(frame, j.off); err != nil {
		return err
	}
	start := j.now()
	if err := j.cur.file.Sync(); err != nil {
		return err
	}
	sync(j.now().Sub(start))
	j.chain = crc
	j.off += int64(len(frame))
	j.cur.last = seq
	j.room.Store(j.cur.size - j.off)
	if j.off > j.cur.size/2 {
		j.kick()
	}
	return nil
}

// reckon notes whether commits that must always fit have begun on the reserve. Records leave them the rest of a file that they took,
// until there is another in its place: whether one can be made is not known before. mu is held.
func (j *journal) reckon() { j.borrowed.Store(len(j.spares) < j.reserve) }

// tight reports that a commit of cost bytes would use what is reserved, and why that will not change by itself: no file can be
// made, and none is waiting to be sealed and used again.
func (j *journal) tight(cost int64) (tight bool, why error) {
	if !j.borrowed.Load() && j.room.Load() >= roundUp(frameHead+cost, frameAlign) {
		return false, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.full) == 0 {
		why = j.fault
	}
	if len(j.spares) > j.reserve {
		return false, nil
	}
	if !j.pressed { // a large one may not fit although the file is not half full yet
		j.pressed = true
		j.kick()
	}
	return true, why
}

// failing is why the filer's last round failed.
func (j *journal) failing() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.fault
}

// short reports that so many files wait to be sealed that the sealer should run, however little is in them.
func (j *journal) short() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.full) >= j.waiting()
}

// crowded reports that more files wait than the sealer is called for: it is not as fast as what comes in.
func (j *journal) crowded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.full) > j.waiting()
}

// oldest is the last sequence of the oldest file that is no longer written.
func (j *journal) oldest() (last uint64, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.full) == 0 {
		return 0, false
	}
	return j.full[0].last, true
}

// needed lists the files that hold frames which are not both sealed and checkpointed. The committer calls it.
func (j *journal) needed() []*walFile {
	j.mu.Lock()
	defer j.mu.Unlock()
	var files []*walFile
	for _, f := range j.full {
		if f.last > j.needless {
			files = append(files, f)
		}
	}
	if j.cur != nil {
		files = append(files, j.cur)
	}
	return files
}

// recycle says that frames up to seq are needed no more.
func (j *journal) recycle(seq uint64) {
	j.mu.Lock()
	j.needless = max(j.needless, seq)
	j.mu.Unlock()
	j.kick()
}

func (j *journal) kick() { poke(j.work) }

// poke sends to a channel of capacity 1 unless something is in it.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runFiler is the filer's goroutine.
func (j *journal) runFiler() {
	defer close(j.done)
	retry := time.NewTimer(filerRetry)
	defer retry.Stop()
	retry.Stop()
	for {
		worked, err := j.file()
		j.mu.Lock()
		if err != nil && j.fault == nil {
			j.log.Warn("no new journal file", "err", err)
		}
		news := worked || err != nil || j.fault != nil
		j.fault = err
		j.rounds++
		closed := j.closed
		j.mu.Unlock()
		if closed {
			return
		}
		poke(j.ready)
		if news {
			j.freed()
		}
		switch {
		case err != nil:
			retry.Reset(filerRetry)
		case worked:
			continue
		}
		select {
		case <-j.work:
		case <-retry.C:
		}
	}
}

// file does one piece of the filer's work. All folder operations are made here, one after the other, so that files come
// into use in the order of their numbers.
func (j *journal) file() (worked bool, err error) {
	j.mu.Lock()
	if len(j.spares) >= keepSpares {
		j.reserve = keepSpares
	}
	var old *walFile
	if len(j.full) > 0 && j.full[0].last <= j.needless {
		old = j.full[0]
	}
	want := keepSpares
	if j.pressed || j.room.Load() < j.size/2 {
		want++
	}
	spares, size := len(j.spares), max(j.size, j.least)
	total := spares + len(j.full) + 1
	// The committer that waits has no file, which total counts all the same.
	may := total < j.maximum || j.least > 0 && total == j.maximum || j.must || j.forced.Load()
	no := j.next
	j.mu.Unlock()

	switch {
	case old != nil && (old.bad || old.size != j.size || total > j.maximum || spares >= j.spared()):
		j.replace(old, nil)
		return true, j.drop(old)
	case old != nil:
		if err := j.fs.Rename(j.path(old.no), j.path(no)); err != nil {
			// Whether it was renamed is not known; it holds nothing that is needed.
			_ = j.fs.Remove(j.path(no))
			j.replace(old, nil)
			return true, errors.Join(fmt.Errorf("recycle journal file: %w", err), j.drop(old))
		}
		j.replace(old, &walFile{no: no, file: old.file, size: old.size})
		return true, nil
	case spares == 0 && may || spares < want && total < j.maximum:
		if no == 1 {
			size = min(size, firstFile)
		}
		f, err := j.fs.Create(j.path(no), size, j.rest())
		if err != nil {
			return false, err
		}
		j.prepared.Add(uint64(size))
		j.replace(nil, &walFile{no: no, file: f, size: size})
		return true, nil
	}
	return false, nil
}

// rest returns what the filer calls between two pieces of a file that it makes: it sleeps for as long as the piece took, so that commits have
// the disk for half of the time, but not when the file will be wanted soon.
func (j *journal) rest() func() {
	from := time.Now()
	return func() {
		j.mu.Lock()
		hurry := j.least > 0 || j.must || j.pressed || j.closed || len(j.spares) == 0 && j.room.Load() < j.size/4
		j.mu.Unlock()
		if !hurry {
			time.Sleep(min(time.Since(from), maxRest))
		}
		from = time.Now()
	}
}

// maxRest bounds one of those pauses.
const maxRest = 50 * time.Millisecond

// spared is how many files are kept ready rather than removed: as many as a seal sets free at once, since a file that is made
// again is written once more for nothing.
func (j *journal) spared() int { return keepSpares + 1 + j.waiting() }

// waiting is how many files may wait to be sealed before the sealer is called for them.
func (j *journal) waiting() int { return max(1, (j.maximum-keepSpares-2)/2) }

// replace takes old off the files that wait and adds spare to those that are ready, in one step: a commit that finds neither
// takes the last failure for one that stays.
func (j *journal) replace(old, spare *walFile) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if old != nil {
		j.full = j.full[1:]
		j.fault = nil // there is room again, or will be
	}
	if spare != nil {
		j.spares = append(j.spares, spare)
		j.next = spare.no + 1
	}
	j.reckon()
}

func (j *journal) drop(f *walFile) error {
	return errors.Join(f.file.Close(), j.fs.Remove(j.path(f.no)))
}

// close ends the filer and closes all files. The committer has ended.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	if j.started {
		j.kick()
		<-j.done
	}
	var errs []error
	for _, f := range append(append([]*walFile{j.cur}, j.spares...), j.full...) {
		if f != nil {
			errs = append(errs, f.file.Close())
		}
	}
	return errors.Join(errs...)
}
