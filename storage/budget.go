package storage

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"syscall"
	"time"
)

// WhenFull says what becomes of records when the budget, or the disk, is full.
type WhenFull string

// The answers to a full store.
const (
	DropOldest WhenFull = "drop_oldest" // the oldest records of the lowest priority go
	Refuse     WhenFull = "refuse"      // new records are refused
)

// HoldFunc says which records of a partition someone outside still needs: those from offset from on, when held. It is called
// on the sealer's goroutine and must neither block nor commit.
type HoldFunc func(p *Partition) (from int64, held bool)

// SetHold tells the store what full budgets must not drop, unless the topic says so (Policy.DropUnmirrored). Before it is called
// nothing is dropped, since a store that was just opened cannot know; nil stands for nobody who needs anything.
func (s *Store) SetHold(hold HoldFunc) {
	if hold == nil {
		hold = func(*Partition) (int64, bool) { return 0, false }
	}
	s.budget.hold.Store(&hold)
	s.wakeSealer()
}

// budget keeps the data directory within Options.MaxBytes. The sealer counts before every seal what there is and what may
// come: the journal with all its files, full tails that do not compress, and one log file that is copied. When that
// does not fit, records are dropped, through log starts that are durable first; when none may be, new ones are refused until
// some may, or others went by themselves.
type budget struct {
	limit   int64 // 0: none
	journal int64 // what the journal's files take when all are there
	passing int64 // what full tails take when they do not compress, and a log file that is copied

	hold     atomic.Pointer[HoldFunc]
	refusing atomic.Pointer[error] // why records are refused; nil when they are not

	// The sealer's.
	looked time.Time
	blind  bool // the budget could not be held, and that was said
}

// BudgetError says that Options.MaxBytes is less than the store needs for itself, or more than a 32-bit machine can serve.
type BudgetError struct {
	MaxBytes int64
	Least    int64 // 0: it is more than Most
	Most     int64
}

// Error names the setting and what to do.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("storage.max_bytes of %d bytes %s", e.MaxBytes, e.Hint(func(n int64) string { return fmt.Sprint(n, " bytes") }))
}

// Hint says what is wrong and what to do, with sizes as size writes them.
func (e *BudgetError) Hint(size func(int64) string) string {
	if e.Least > 0 {
		return "is too small: journal, tails and one log file take half of " + size(e.Least) + "; give it that, or lower storage.tail_bytes"
	}
	return "is too large for a 32-bit program, whose address space also holds the index of all batches: give it at most " + size(e.Most) + ", or run a 64-bit build"
}

// most32 is what a 32-bit program serves: log files are mapped a few at a time, but the index of all batches, 68 bytes each, is in
// memory; at 16 KiB a batch, which merging sees to, 64 GiB take 272 MiB of it.
const most32 = 64 << 30

// Check returns a BudgetError when MaxBytes does not fit the other options or the machine.
func (o Options) Check() error {
	var b budget
	return b.init(o.withDefaults(), bits.UintSize)
}

// errBudget is why records are refused within a budget.
var errBudget = errors.New("storage.max_bytes is used up, and nothing may be dropped")

// init checks o, for a machine with words of so many bits, and computes what the store takes for itself. Half of the budget at
// least is for records.
func (b *budget) init(o Options, wordBits int) error {
	if b.limit = o.MaxBytes; b.limit == 0 {
		return nil
	}
	if wordBits == 32 && b.limit > most32 {
		return &BudgetError{MaxBytes: b.limit, Most: most32}
	}
	b.journal = int64(journalMaximum(o)) * o.JournalBytes
	b.passing = o.TailBytes + o.LogFileBytes
	if least := 2 * (b.journal + b.passing); b.limit < least {
		return &BudgetError{MaxBytes: b.limit, Least: least}
	}
	return nil
}

// overBudget is by how many bytes the store would be beyond its budget if everything came that may; negative: room.
func (s *Store) overBudget() (int64, error) {
	total, journal, unnamed, err := s.disk.measure()
	if err != nil {
		return 0, fmt.Errorf("count what the data directory takes: %w", err)
	}
	b := &s.budget
	return total - journal + max(journal, b.journal) + b.passing - b.limit - min(unnamed, b.lent()), nil
}

// lent is how much of what was dropped a backup may hold beyond the budget: its files are read one after the other, and what goes while
// they are was counted as room already. Who holds more is broken off.
func (b *budget) lent() int64 { return b.limit / 8 }

// budgetEvery bounds how long metadata and uploads, which are not sealed, go uncounted.
const budgetEvery = 10 * time.Second

// budgetDue reports whether to look although nothing is sealed: to see whether refusing can end, or that something else grew.
func (s *Store) budgetDue() bool {
	if s.budget.limit == 0 {
		return false
	}
	since := s.o.Now().Sub(s.budget.looked)
	return s.budget.refusing.Load() != nil || since < 0 || since >= budgetEvery
}

// keepBudget makes room for what comes, or has new records refused. The sealer calls it.
func (s *Store) keepBudget() {
	b := &s.budget
	if b.limit == 0 {
		return
	}
	b.looked = s.o.Now()
	over, err := s.overBudget()
	share := int64(reclaimShare)
	for more := true; err == nil && over > 0 && more; share = reclaimDropped {
		if s.disk.breakOff(b.lent()) {
			s.o.Log.Warn("a backup was broken off: records need the space of the files that it holds")
		} else {
			more, err = s.makeSpace(over, share)
		}
		if err == nil {
			over, err = s.overBudget()
		}
	}
	switch {
	case errors.Is(err, ErrClosed):
	case err != nil:
		if !b.blind {
			s.o.Log.Error("cannot hold the budget", "err", err)
		}
		b.blind = true
	case over > 0:
		b.blind = false
		why := errBudget
		if b.refusing.Swap(&why) == nil {
			s.o.Log.Error("the budget is used up and nothing may be dropped: records are refused",
				"max_bytes", b.limit, "over", over)
			s.roomChanged() // those that wait are refused now
		}
	default:
		b.blind = false
		if b.refusing.Swap(nil) != nil {
			s.o.Log.Info("there is room within the budget: records are taken again")
			s.roomChanged()
		}
	}
}

// dropsOldest reports whether a full store may drop records of a topic. What is only compacted holds the last value of each key,
// which a full disk is no reason to forget, unless the topic says so itself.
func (s *Store) dropsOldest(p Policy) bool {
	if p.WhenFullSet {
		return !p.Refuse
	}
	return s.o.WhenFull != Refuse && (p.Delete || !p.Compact)
}

// makeSpace takes one step towards need bytes more on the disk: gives back what is past, drops records, or makes a checkpoint that some
// past file waits for. Of a file, one part in share must be past to be worth copying the rest.
// It reports whether there was anything to do.
func (s *Store) makeSpace(need, share int64) (bool, error) {
	if s.sealed.sweep() > 0 || s.reclaim(share) {
		return true, nil
	}
	if dropped, err := s.dropOldest(need); dropped || err != nil {
		return dropped, err
	}
	if !s.sealed.awaited() {
		return false, nil
	}
	if err := s.checkpoint(); err != nil {
		return false, err
	}
	return s.sealed.sweep() > 0, nil
}

// dropOldest drops records that take about need bytes on the disk, if there are any that may go.
func (s *Store) dropOldest(need int64) (bool, error) {
	starts := s.planDrop(need)
	if len(starts) == 0 {
		return false, nil
	}
	if err := s.trimAsSealer(starts); err != nil && !errors.Is(err, ErrNoTopic) { // deleted meanwhile, which makes room, too
		return false, fmt.Errorf("drop the oldest records: %w", err)
	}
	s.letGo() // at once: what it gives back is counted next
	return true, nil
}

// trimAsSealer is Trim for the sealer, whom the committer may be waiting for: for a journal file that only a seal sets free.
func (s *Store) trimAsSealer(starts []Start) error {
	before := s.journal.forced.Load()
	s.journal.force(true)
	defer s.journal.force(before)
	return s.Trim(context.Background(), starts)
}

// dropForSpace answers a full disk as a full budget is answered, if the store was told to. It reports whether something was dropped.
func (s *Store) dropForSpace(cause error) bool {
	if !errors.Is(cause, syscall.ENOSPC) {
		return false
	}
	if s.disk.breakOff(0) {
		s.o.Log.Warn("a backup was broken off: the disk is full, and it holds files that were unlinked")
		return true
	}
	if s.o.MaxBytes == 0 && s.o.WhenFull != DropOldest {
		return false
	}
	dropped, err := s.makeSpace(s.tailBytes.Load()+s.o.LogFileBytes, reclaimShare)
	if err != nil && !errors.Is(err, ErrClosed) {
		s.o.Log.Warn("cannot make room on the disk", "err", err)
	}
	return dropped
}
