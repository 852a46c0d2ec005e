package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rivulet/storage"
)

// Errors of the transaction coordinator. ErrFenced and ErrInvalidTxn are the log's.
var (
	ErrTxnTimeout      = errors.New("transaction timeout is out of range")
	ErrUnknownProducer = errors.New("producer id is not the transactional id's")
	ErrConcurrentTxn   = errors.New("transaction is being ended")
	ErrTxnName         = errors.New("invalid transactional id")
	ErrTxnNotFound     = errors.New("no such transactional id")
)

// TxnOptions of the transaction coordinator. The zero value of every field is its default.
type TxnOptions struct {
	MaxTimeout time.Duration // of a transaction; default 60 s: it is how long an idle producer can hold up readers
	Expiry     time.Duration // of an idle transactional id; default 7 days
	Now        func() time.Time
	Log        *slog.Logger
}

// Txns coordinates transactions. Its state is in the store's key-value space and changes with the journal: a producer's
// transactional id, what its transaction touches (space "txns"), and the offsets that wait for its end ("txn-offsets").
// A transaction ends with ONE commit: a marker in every partition that it wrote to, its offsets, and its outcome. So
// there is no state between prepared and completed, and none to be finished after a crash.
//
// All methods may be called by many goroutines. Lock order: txn.op, Txns.mu or txn.mu (never both), and nothing is
// locked while the store is called but txn.op, which the operations on one transactional id take in turn.
type Txns struct {
	store  *storage.Store
	groups *Groups
	opts   TxnOptions
	run    context.Context // ends with Close
	stop   context.CancelFunc
	work   sync.WaitGroup // aborts of what timed out

	mu      sync.Mutex
	txns    map[string]*txn
	ids     idBlock
	next    deadline
	closed  bool
	pending map[string]int // offset key → transactions that will change it
}

// txn is one transactional id.
type txn struct {
	id string
	op chan struct{} // capacity 1: held by the operation under way

	mu       sync.Mutex
	rec      txnRecord
	gone     bool           // expired; look it up again
	ending   bool           // no more produces are let in
	inflight int            // leases
	idle     chan struct{}  // closed when inflight gets to 0; not nil while someone waits
	offsets  map[string]Put // offset key → what is to be put when the transaction commits
	// By the process's clock, not by the dates in rec: those may be of another year, on a gateway whose clock was wrong.
	due  time.Time // when the ongoing transaction times out
	used time.Time // when rec was last stored, or loaded
}

// txnState of the transactional id's last transaction.
type txnState string

const (
	txnEmpty     txnState = "empty"
	txnOngoing   txnState = "ongoing"
	txnCommitted txnState = "committed"
	txnAborted   txnState = "aborted"
)

// txnRecord is a transactional id's value in space "txns".
type txnRecord struct {
	ProducerID int64    `json:"pid"`
	Epoch      int16    `json:"epoch"`
	LastEpoch  int16    `json:"last_epoch"` // the same producer's, before its epoch was raised for it; else -1
	TimeoutMS  int64    `json:"timeout_ms"`
	State      txnState `json:"state"`
	StartedMS  int64    `json:"started_ms,omitempty"`
	UpdatedMS  int64    `json:"updated_ms"`
	// Parts and Groups are what the ongoing transaction said it would touch.
	Parts  map[string][]int32 `json:"parts,omitempty"`
	Groups []string           `json:"groups,omitempty"`
}

const (
	spaceTxns       = "txns"
	spaceTxnOffsets = "txn-offsets"
	maxEpoch        = 1<<15 - 2 // the last one is for fencing
	// maxTxnPartitions bounds one transaction, whose end is one commit with a marker for each.
	maxTxnPartitions = 10000
)

// NewTxns loads the transactions of the store, aborts what no transactional id claims, and starts the timeouts.
func NewTxns(ctx context.Context, store *storage.Store, groups *Groups, o TxnOptions) (*Txns, error) {
	o.MaxTimeout = cmp.Or(o.MaxTimeout, time.Minute)
	o.Expiry = cmp.Or(o.Expiry, 7*24*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Txns{store: store, groups: groups, opts: o, txns: make(map[string]*txn), pending: make(map[string]int)}
	t.run, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := t.load(ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("load transactions: %w", err)
	}
	return t, nil
}

// Close stops the timeouts. Ongoing transactions stay as they are: their producers may go on after a restart.
func (t *Txns) Close() {
	t.mu.Lock()
	t.closed = true
	t.next.stop()
	t.mu.Unlock()
	t.stop()
	t.work.Wait()
}

// MaxTimeout is the longest timeout that a transaction may have.
func (t *Txns) MaxTimeout() time.Duration { return t.opts.MaxTimeout }

func newTxn(id string) *txn { return &txn{id: id, op: make(chan struct{}, 1)} }

// lock takes the transactional id's turn.
func (x *txn) lock(ctx context.Context) error {
	select {
	case x.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *txn) unlock() { <-x.op }

// acquire finds a transactional id and takes its turn. A transaction that is being ended refuses at once: its client
// asks again, and meanwhile its connection can serve others.
func (t *Txns) acquire(ctx context.Context, id string, create bool) (*txn, error) {
	if id == "" || len(id) > 1024 || strings.ContainsRune(id, 0) {
		return nil, ErrTxnName
	}
	for {
		t.mu.Lock()
		x := t.txns[id]
		if x == nil && create && !t.closed {
			x = newTxn(id)
			x.rec = txnRecord{ProducerID: -1, LastEpoch: -1, State: txnEmpty}
			t.txns[id] = x
		}
		closed := t.closed
		t.mu.Unlock()
		if closed {
			return nil, ErrCoordinatorClosed
		}
		if x == nil {
			return nil, ErrUnknownProducer
		}
		x.mu.Lock()
		ending := x.ending
		x.mu.Unlock()
		if ending {
			return nil, ErrConcurrentTxn
		}
		if err := x.lock(ctx); err != nil {
			return nil, err
		}
		x.mu.Lock()
		gone := x.gone
		x.mu.Unlock()
		if !gone {
			return x, nil
		}
		x.unlock()
	}
}

// check holds that a request comes from the transactional id's current producer; x.mu is held.
func (x *txn) check(pid int64, epoch int16) error {
	switch {
	case x.rec.ProducerID < 0 || x.rec.ProducerID != pid:
		return ErrUnknownProducer
	case epoch != x.rec.Epoch:
		return ErrFenced
	}
	return nil
}

// put stores r as x's record, durably, together with more, and makes it current. x.op is held.
func (t *Txns) put(ctx context.Context, x *txn, r txnRecord, c *Commit) error {
	now := t.opts.Now()
	r.UpdatedMS = now.UnixMilli()
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode transaction: %w", err)
	}
	c.Puts = append(c.Puts, Put{Space: spaceTxns, Key: x.id, Value: value})
	if err := t.store.Do(ctx, c); err != nil {
		return fmt.Errorf("store transaction: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.State == txnOngoing && x.rec.State != txnOngoing {
		x.due = now.Add(r.timeout())
	}
	x.rec, x.used = r, now
	return nil
}

func (r *txnRecord) timeout() time.Duration { return time.Duration(r.TimeoutMS) * time.Millisecond }

// record is a copy of x's record that may be changed.
func (x *txn) record() txnRecord {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.rec
	parts := make(map[string][]int32, len(r.Parts))
	for topic, list := range r.Parts {
		parts[topic] = slices.Clone(list)
	}
	r.Parts, r.Groups = parts, slices.Clone(r.Groups)
	return r
}

// begin makes r ongoing if it is not.
func (t *Txns) begin(r *txnRecord) {
	if r.State == txnOngoing {
		return
	}
	r.State, r.StartedMS = txnOngoing, t.opts.Now().UnixMilli()
	clear(r.Parts)
	r.Groups = nil
}

// TxnPartition is a partition that a transaction writes to.
type TxnPartition struct {
	Topic     string
	Partition int32
}

// AddPartitions makes partitions part of the transaction, and begins it with the first. It is durable when it returns.
// Errors: ErrUnknownProducer, ErrFenced, ErrConcurrentTxn, ErrTooLarge.
func (t *Txns) AddPartitions(ctx context.Context, id string, pid int64, epoch int16, parts []TxnPartition) error {
	return t.extend(ctx, id, pid, epoch, func(r *txnRecord) (changed bool, err error) {
		n := 0
		for _, list := range r.Parts {
			n += len(list)
		}
		for _, p := range parts {
			if !slices.Contains(r.Parts[p.Topic], p.Partition) {
				r.Parts[p.Topic] = append(r.Parts[p.Topic], p.Partition)
				changed = true
				n++
			}
		}
		if n > maxTxnPartitions {
			return false, fmt.Errorf("%d partitions in one transaction, at most %d are allowed: %w", n, maxTxnPartitions, ErrTooLarge)
		}
		return changed, nil
	})
}

// AddGroup lets the transaction commit offsets of a group.
func (t *Txns) AddGroup(ctx context.Context, id string, pid int64, epoch int16, group string) error {
	return t.extend(ctx, id, pid, epoch, func(r *txnRecord) (changed bool, err error) {
		if slices.Contains(r.Groups, group) {
			return false, nil
		}
		r.Groups = append(r.Groups, group)
		return true, nil
	})
}

func (t *Txns) extend(ctx context.Context, id string, pid int64, epoch int16, add func(*txnRecord) (bool, error)) error {
	x, err := t.acquire(ctx, id, false)
	if err != nil {
		return err
	}
	defer x.unlock()
	x.mu.Lock()
	err = x.check(pid, epoch)
	x.mu.Unlock()
	if err != nil {
		return err
	}
	r := x.record()
	begun := r.State == txnOngoing
	t.begin(&r)
	if changed, err := add(&r); err != nil || !changed && begun {
		return err
	}
	if err := t.put(ctx, x, r, &Commit{}); err != nil {
		return err
	}
	if !begun {
		x.mu.Lock()
		due := x.due
		x.mu.Unlock()
		t.mu.Lock()
		t.schedule(due)
		t.mu.Unlock()
	}
	return nil
}

// TxnLease holds a transaction open for one batch. The zero value holds none.
type TxnLease struct{ x *txn }

// Lease lets a transactional batch in, if its partition is part of the producer's ongoing transaction. The transaction
// cannot end before the lease is released.
// Errors: ErrUnknownProducer, ErrFenced, ErrInvalidTxn, ErrConcurrentTxn.
func (t *Txns) Lease(id string, pid int64, epoch int16, topic string, partition int32) (TxnLease, error) {
	t.mu.Lock()
	x := t.txns[id]
	t.mu.Unlock()
	if x == nil {
		return TxnLease{}, ErrUnknownProducer
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.check(pid, epoch); err != nil {
		return TxnLease{}, err
	}
	switch {
	case x.rec.State != txnOngoing || !slices.Contains(x.rec.Parts[topic], partition):
		return TxnLease{}, ErrInvalidTxn
	case x.ending:
		return TxnLease{}, ErrConcurrentTxn
	}
	x.inflight++
	return TxnLease{x}, nil
}

// Release says that the batch is in the log, or failed. It does not block.
func (l TxnLease) Release() {
	x := l.x
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.inflight--
	if x.inflight == 0 && x.idle != nil {
		close(x.idle)
		x.idle = nil
	}
}

// close lets no more produces in and waits for those under way. reopen undoes it.
func (x *txn) close(ctx context.Context) error {
	x.mu.Lock()
	x.ending = true
	idle := x.idle
	if x.inflight > 0 && idle == nil {
		idle = make(chan struct{})
		x.idle = idle
	}
	x.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		x.reopen()
		return ctx.Err()
	}
}

func (x *txn) reopen() {
	x.mu.Lock()
	x.ending = false
	x.mu.Unlock()
}

// idBlock hands out producer ids. A block is reserved durably before its first id is used, so that none is used twice.
type idBlock struct {
	next, end int64
}

const (
	idBlockSize    = 1000
	spaceProducers = "producers"
	keyNextID      = "next-id"
)

// newID returns a producer id that was never used before.
func (t *Txns) newID(ctx context.Context) (int64, error) {
	for {
		t.mu.Lock()
		if t.ids.next < t.ids.end {
			id := t.ids.next
			t.ids.next++
			t.mu.Unlock()
			return id, nil
		}
		// The next block begins behind the one that was reserved last, whoever is faster: a block may be lost, never
		// given out twice.
		from := t.ids.end
		t.ids.next, t.ids.end = from, from
		t.mu.Unlock()
		if err := t.reserve(ctx, from); err != nil {
			return 0, err
		}
	}
}

func (t *Txns) reserve(ctx context.Context, from int64) error {
	end := from + idBlockSize
	put := Put{Space: spaceProducers, Key: keyNextID, Value: strconv.AppendInt(nil, end, 10)}
	if err := t.store.Do(ctx, &Commit{Puts: []Put{put}, Urgent: true}); err != nil {
		return fmt.Errorf("reserve producer ids: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids.end == from {
		t.ids = idBlock{next: from, end: end}
	}
	return nil
}
