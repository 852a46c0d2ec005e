package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// sealedLog keeps the sealed batches of all partitions in bbolt files log/<class>/<number>.db. Files are immutable once
// full. One goroutine, the sealer, calls seal and drop; reads come from anywhere.
//
// A seal is one group: a directory and the batches behind one another, in chunks (docs/FORMAT.md). What the directories say
// is kept in memory, an entry a batch, so that a read touches the file only for the batch's bytes. Those are copied out:
// no read transaction outlives a call.
//
// Lock order: mu, then handles.mu.
type sealedLog struct {
	dir     string // of log/
	bound   int64  // of a file
	log     *slog.Logger
	faults  func(point string) error
	handles handles
	merger  merger // the sealer's, as is the next
	again   merger // rewrites
	damage  *damageBook
	// versioned is Options.versioned.
	versioned bool
	found     func(*DamageError) // is told of batches that cannot be read; nil: nobody
	cache     *readCache
	ahead     readAhead
	look      int // lookBytes; tests look at less

	mu      sync.RWMutex
	parts   map[uint32]*partIndex
	groups  groupList
	files   map[string][]*logFile
	active  map[string]*logFile // the file that takes the class's next group, if there is one that may
	ghosts  map[string][]uint32 // by class: files that are there, perhaps, but replaced; the sealer's
	number  uint32              // the largest that a file was ever given; the sealer's
	upTo    uint64              // frames up to here hold no batch that is not sealed, as far as groups tell
	written uint64
	copied  uint64 // bytes that rewriting wrote
	// What the last checkpoint says of upTo and number.
	keptSeq    uint64
	keptNumber uint32
}

// defaultClass is the class of topics without configuration.
const defaultClass = "default"

// sealPart is what one seal takes from one partition: its tail, in offset order, without gaps.
type sealPart struct {
	id    uint32
	tails []tailBatch
	bytes int64 // of the tails; the sealer's
}

// tailBatch is one committed batch in memory.
type tailBatch struct {
	seq  uint64 // commit sequence
	base int64
	next int64 // offset behind its last record
	data []byte
	at   int64 // store clock, ms, of its frame
}

const logSuffix = ".db"

// openSealed deletes *.tmp, opens every file, reads its directories, and quarantines (renames, reports) what is damaged;
// groups of a damaged file that can still be read are copied to a new one. The caller drops the partitions that it does
// not know any more.
func openSealed(o Options) (*sealedLog, []Problem, error) {
	l := newSealedLog(o)
	if err := makeFolder(filepath.Join(l.dir, defaultClass)); err != nil {
		return nil, nil, fmt.Errorf("make log folder: %w", err)
	}
	problems, err := l.loadClasses(true)
	if err != nil {
		return nil, problems, errors.Join(err, l.close())
	}
	return l, problems, nil
}

func newSealedLog(o Options) *sealedLog {
	l := &sealedLog{
		dir:    filepath.Join(o.Dir, "log"),
		bound:  o.LogFileBytes,
		log:    o.Log,
		faults: o.faults,
		parts:  make(map[uint32]*partIndex),
		files:  make(map[string][]*logFile),
		active: make(map[string]*logFile),
		ghosts: make(map[string][]uint32),
		damage: newDamageBook(), versioned: o.versioned,
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.bound <= 0 {
		l.bound = 64 << 20
	}
	if l.faults == nil {
		l.faults = func(string) error { return nil }
	}
	l.handles.init(l.bound)
	l.cache = newReadCache(max(o.TailBytes/2, 2<<20))
	l.look = lookBytes
	return l
}

// loadClasses builds the index. With repair it removes what is unfinished and quarantines what is damaged; without, it only
// reports.
func (l *sealedLog) loadClasses(repair bool) ([]Problem, error) {
	classes, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list log folder: %w", err)
	}
	var problems []Problem
	for _, class := range classes {
		if !class.IsDir() {
			continue
		}
		found, err := l.loadClass(class.Name(), repair)
		problems = append(problems, found...)
		if err != nil {
			return problems, fmt.Errorf("open log class %s: %w", class.Name(), err)
		}
	}
	l.groups = newGroupList(l.groups.list())
	for _, p := range l.parts {
		p.settle()
	}
	return problems, nil
}

func compare[T uint64 | int64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// loadClass loads the files of one class.
func (l *sealedLog) loadClass(class string, repair bool) ([]Problem, error) {
	dir := filepath.Join(l.dir, class)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []*logFile
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		number, isLog := strings.CutSuffix(e.Name(), logSuffix)
		if old, ok := strings.CutSuffix(e.Name(), logSuffix+quarantineSuffix); ok {
			number = old
		}
		switch n, err := strconv.ParseUint(number, 10, 32); {
		case strings.HasSuffix(e.Name(), tmpSuffix) && repair:
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		case isLog && err == nil:
			l.number = max(l.number, uint32(n))
			files = append(files, &logFile{path: path, class: class, number: uint32(n)})
		case err == nil:
			l.number = max(l.number, uint32(n)) // set aside
		}
	}
	slices.SortFunc(files, func(a, b *logFile) int { return compare(uint64(a.number), uint64(b.number)) })
	l.files[class] = files
	if len(files) == 0 {
		return nil, nil
	}
	var problems []Problem
	var salvage []*loadedFile
	all := make([]*loadedFile, len(files))
	for i, f := range files {
		if all[i], err = l.load(f); err != nil {
			return problems, fmt.Errorf("load %s: %w", f.path, err)
		}
	}
	if all, err = l.withoutReplaced(class, all, repair); err != nil {
		return problems, err
	}
	for _, loaded := range all {
		f := loaded.file
		for _, g := range loaded.groups {
			l.admit(g)
		}
		if loaded.damage == nil {
			continue
		}
		problems = append(problems, Problem{File: f.path, Where: loaded.where, Detail: loaded.damage.Error()})
		salvage = append(salvage, loaded)
	}
	if !repair {
		return problems, nil
	}
	for _, s := range salvage {
		if err := l.quarantine(s); err != nil {
			// A full disk, perhaps. What can be read of the file is served from where it is; the next start tries again.
			l.log.Error("quarantine log file", "file", s.file.path, "error", err)
		}
	}
	for _, last := range slices.Backward(l.files[class]) {
		if last.rewritten {
			continue
		}
		if last.used < l.bound && len(salvage) == 0 {
			l.active[class] = last
		}
		break
	}
	return problems, nil
}

// admit adds a group to the index; settle puts it in order.
func (l *sealedLog) admit(g loadedGroup) {
	for _, e := range g.entries {
		p := l.parts[e.part]
		if p == nil {
			p = &partIndex{}
			l.parts[e.part] = p
		}
		e.ref.group = g.group
		p.entries = append(p.entries, e.ref)
		g.file.count(&e.ref)
	}
	l.groups = append(l.groups, groupPlace{group: g.group})
	l.note(g.group)
}

// note takes over what a group says about the whole log. mu is held, or nobody reads yet.
func (l *sealedLog) note(g *group) {
	l.upTo = max(l.upTo, g.sealed)
	g.file.sealed = max(g.file.sealed, g.sealed)
}

// nextNumber numbers a file. No number is given twice, whatever became of the file: files name others by it.
func (l *sealedLog) nextNumber() uint32 {
	l.number++
	return l.number
}

// sealedSeq is the frame up to which everything is known to be sealed.
func (l *sealedLog) sealedSeq() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.upTo
}

// bounds are the offset of a partition's first sealed batch and the one behind its last; 0, 0 without any.
func (l *sealedLog) bounds(id uint32) (start, end int64) {
	e := l.index(id)
	if len(e) == 0 {
		return 0, 0
	}
	return e[0].base, e[len(e)-1].next()
}

// index returns the entries of a partition. What it returns is immutable.
func (l *sealedLog) index(id uint32) []indexEntry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := l.parts[id]; p != nil {
		return p.entries
	}
	return nil
}

// ids lists the partitions that have sealed batches.
func (l *sealedLog) ids() []uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	ids := make([]uint32, 0, len(l.parts))
	for id := range l.parts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// stored is how many bytes a partition's sealed batches take.
func (l *sealedLog) stored(id uint32) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := l.parts[id]; p != nil {
		return p.stored
	}
	return 0
}

// bytesWritten counts the bytes of all pages that seals wrote since the log was opened.
func (l *sealedLog) bytesWritten() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.written
}

// bytesCopied is bytesWritten for files that were rewritten.
func (l *sealedLog) bytesCopied() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.copied
}

// close closes all files. Reads must have ended.
func (l *sealedLog) close() error { return l.handles.closeAll() }
