package storage

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Store is the log of one broker. All methods may be called by many goroutines.
type Store struct {
	o       Options
	lock    *os.File
	journal *journal
	sealed  *sealedLog
	meta    *metaDB
	stats   counters
	budget  budget
	disk    diskUse

	// Published state.
	lastSeq    atomic.Uint64
	tailBytes  atomic.Int64
	readOnly   atomic.Bool
	stuck      atomic.Pointer[error] // why the sealer failed last; nil when it did not
	pressed    atomic.Bool           // a commit waits for room
	topics     atomic.Pointer[topicTable]
	epoch      atomic.Uint64
	generation atomic.Pointer[Generation]
	kv         overlay
	ring       ring
	clock      storeClock
	mirrored   mirroredFunc
	dropped    dropCounts
	damage     *damageBook
	scrub      *scrubber

	problemMu sync.Mutex // guards problems
	problems  []Problem

	queueMu    sync.Mutex // guards the queue
	queue      []*Commit
	queueBytes int64
	closing    bool
	room       *sync.Cond // of queueMu: there may be room in the queue
	queued     chan struct{}

	topicMu       sync.Mutex // one change of topics at a time; guards nextPartition
	nextPartition uint32

	partsMu sync.RWMutex          // guards what follows
	parts   map[uint32]*Partition // of all topics
	trimmed []Start               // log starts that moved, while the sealed batches before them are still there
	doomed  []uint32              // partitions of deleted topics whose sealed batches are still there

	readers  turns                             // of those who look for little: FramesFor
	openMu   sync.Mutex                        // guards openTxns
	openTxns map[int64]map[*Partition]struct{} // producer id → where it has a transaction open

	watchMu  sync.Mutex // guards watchers
	watchers []*Waiter

	// The committer's.
	build            building
	events           []txnEvent
	newAborted       []abortedRef // since the last checkpoint, as are the next three
	changedProducers []producerRef
	graves           []Put
	partsChanged     map[uint32]struct{} // blocks of spaceParts
	control          chan func()         // runs between two frames
	groups           sync.Pool           // of *[]*Commit

	// The sealer's.
	sealBegan time.Time
	sealedTo  uint64 // frames up to here hold no batch that is not sealed
	// sealedKnown is as much of sealedTo as a start would find out: frames without batches leave no trace in the sealed log, so
	// that only a checkpoint tells of them. The journal keeps what is behind it.
	sealedKnown   uint64
	applied       uint64 // frames up to here are checkpointed
	frozen        *frozenState
	classTable    classTable
	retained      int64 // the store's clock, ms, of the last look at what is past
	retainedEpoch uint64
	forwardAt     int64 // the store's clock, ms, before which nothing is copied forward
	reclaimAt     int64 // and before which that is not tried to make room, since it failed
	clockSaved    int64 // the store's clock as checkpointed, ms
	wallSaved     int64 // the wall clock of that moment, as a start finds it; 0: not known
	clockV1       int64 // what counts as the clock of records in directories that do not say
	compact       compactor
	sealWork      chan struct{}
	sealControl   chan func() // runs between two rounds

	fresh       bool            // made by this Open
	completions chan []*Commit  // from the committer
	committed   chan struct{}   // closed when the committer has ended
	completed   chan struct{}   // closed when all Dones have run
	quit        chan struct{}   // ends the sealer
	ctx         context.Context // of the scrub
	cancel      context.CancelFunc
	sealDone    chan struct{} // closed when it has ended
}

// Open opens the store in o.Dir and makes it when it is empty. It recovers the journal before it returns.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		o: o, lock: lock, disk: diskUse{dir: o.Dir, now: o.Now},
		queued: make(chan struct{}, 1), parts: map[uint32]*Partition{}, partsChanged: map[uint32]struct{}{},
		control: make(chan func()), sealWork: make(chan struct{}, 1), sealControl: make(chan func()),
		completions: make(chan []*Commit, 4), committed: make(chan struct{}), completed: make(chan struct{}),
		sealBegan: time.Now(), quit: make(chan struct{}), sealDone: make(chan struct{}),
		damage: newDamageBook(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.scrub = newScrubber(s)
	if err := s.budget.init(o, bits.UintSize); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), lock.Close())
	}
	s.room = sync.NewCond(&s.queueMu)
	s.topics.Store(&topicTable{})
	s.generation.Store(&Generation{})
	s.journal = newJournal(o, s.roomChanged)
	s.journal.control, s.journal.starved = s.control, s.wakeSealer
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", o.Dir, err), s.release())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.checkVersion(); err != nil {
		return err
	}
	var err error
	var lost bool
	var found []Problem
	if s.meta, found, lost, err = openMeta(s.o); err != nil {
		return err
	}
	s.problems = append(s.problems, found...)
	s.sealed, found, err = openSealed(s.o)
	s.problems = append(s.problems, found...)
	if err != nil {
		return err
	}
	s.sealed.damage, s.sealed.found = s.damage, s.found
	s.sealed.merger.codecs, s.sealed.again.codecs = s.codec, s.codec
	s.sealed.merger.labels = labelling{Labels: s.o.Labels, topic: s.topicOf}
	s.sealed.again.labels = labelling{Labels: s.o.Labels, topic: s.topicOf}
	s.sealed.again.maxSpan = s.mergeSpan
	close(s.committed) // recovery is the only one that changes anything; see onCommitter
	if err := s.recover(lost); err != nil {
		return err
	}
	if err := s.scrub.load(); err != nil {
		return err
	}
	var generation Put
	if s.fresh {
		if generation, err = s.newGeneration("", nil); err != nil {
			return err
		}
	}
	s.committed = make(chan struct{})
	go func() {
		defer close(s.committed)
		s.runCommitter()
	}()
	go s.runCompletions()
	s.journal.force(false)
	go s.runSealer()
	go s.scrub.run(s.ctx)
	s.wakeSealer()
	if !s.fresh {
		return nil
	}
	if err := s.Do(ctx, &Commit{Urgent: true, Puts: []Put{generation}}); err != nil {
		s.stop()
		return fmt.Errorf("begin generation: %w", err)
	}
	return nil
}

// Close seals, checkpoints and closes. Commits that were queued are committed; those that wait for room fail with ErrClosed.
func (s *Store) Close() error {
	if !s.stop() {
		return nil
	}
	// A store that cannot write any more still seals what is durable.
	err := s.sealRound(true)
	return errors.Join(err, s.release())
}

// stop ends all goroutines but the filer; false when they were stopped before.
func (s *Store) stop() bool {
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		return false
	}
	s.closing = true
	s.room.Broadcast()
	s.queueMu.Unlock()
	poke(s.queued)
	<-s.completed
	close(s.quit)
	<-s.sealDone
	s.cancel()
	<-s.scrub.done
	return true
}

// release closes all files. Nothing runs any more but the filer.
func (s *Store) release() error {
	var errs []error
	errs = append(errs, s.journal.close())
	if s.sealed != nil {
		errs = append(errs, s.sealed.close())
	}
	if s.meta != nil {
		errs = append(errs, s.meta.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Problems lists what Open had to set aside and the records that were found damaged since (Damages).
func (s *Store) Problems() []Problem {
	s.problemMu.Lock()
	out := slices.Clone(s.problems)
	s.problemMu.Unlock()
	for _, d := range s.Damages() {
		out = append(out, d.problem())
	}
	return out
}

// Problem is something that Verify found, or that had to be set aside.
type Problem struct {
	File   string `json:"file"`
	Topic  string `json:"topic,omitempty"`
	Where  string `json:"where"`
	Detail string `json:"detail"`
}
