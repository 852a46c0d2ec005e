package storage

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rivulet/storage/batch"
)

// Sentinel errors. Match them with errors.Is.
var (
	ErrClosed      = errors.New("store is closed")
	ErrReadOnly    = errors.New("store is read-only after a failed journal sync")
	ErrFull        = errors.New("no space left for records")
	ErrTooLarge    = errors.New("commit is larger than a journal frame may be")
	ErrTopicExists = errors.New("topic exists already")
	ErrNoTopic     = errors.New("no such topic")
	ErrOffsetRange = errors.New("offset out of range")
	ErrDuplicate   = errors.New("batch was stored before")             // Commit.Appends[i].Base holds the first offset
	ErrOutOfOrder  = errors.New("producer sequence out of order")      // KIP-98
	ErrFenced      = errors.New("producer epoch is older than stored") // KIP-98
	ErrInvalidTxn  = errors.New("batch does not belong to the producer's open transaction")
	ErrCorrupt     = errors.New("stored bytes are damaged")
	ErrNewerFormat = errors.New("store was written by a newer version")
	ErrLocked      = errors.New("data directory is held by another process")
	ErrTrimmed     = errors.New("commit sequence is no longer kept")
)

// Options of a store. The zero value of every field but Dir is its default.
type Options struct {
	Dir          string
	JournalBytes int64         // size of one journal file; default 16 MiB
	TailBytes    int64         // bound of all tails, raw bytes; default 32 MiB
	LogFileBytes int64         // size at which a log file is full; default 64 MiB
	Linger       time.Duration // how long a commit waits for company; default 0
	FS           FS            // the journal's file seam; default the operating system
	Now          func() time.Time
	Rand         func() uint64
	Log          *slog.Logger

	faults func(point string) error // tests only: fails what is written beside the journal
}

// FS is the seam under the journal, so that tests can tear, lose and fail its writes. Paths are absolute.
type FS interface {
	// Create makes and preallocates a zero-filled file of size bytes, synced with its folder.
	Create(path string, size int64) (File, error)
	Open(path string) (File, error)
	Rename(from, to string) error // synced with its folder
	Remove(path string) error
	List(dir string) ([]string, error)
}

// File is one journal file. Only the committer writes to it.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error // fdatasync
	Size() (int64, error)
	Close() error
}

// Store is the log of one broker. All methods may be called by many goroutines.
type Store struct{}

// Topic is an immutable snapshot of one topic.
type Topic struct {
	ID         [16]byte
	Name       string
	Config     map[string]string
	Partitions []*Partition
}

// Partition is one log. It lives as long as the store, also when its topic is deleted (reads then fail with ErrNoTopic).
type Partition struct {
	ID    uint32 // never used twice in a store's life
	Index int32  // in its topic
}

// Put is one change of the key-value space. A nil Value deletes. A value is at most 1 MiB.
type Put struct {
	Space string
	Key   string
	Value []byte
}

// Producer identifies one batch of an idempotent or transactional producer (KIP-98). It is checked and remembered with
// the frame, also when a plugin changed or dropped what the batch held.
type Producer struct {
	Partition     *Partition // the partition the batch was sent to
	ID            int64
	Epoch         int16
	BaseSequence  int32
	Records       int32 // of the batch as it was sent
	Transactional bool
}

// Marker ends a producer's transaction in one partition.
type Marker struct {
	ProducerID int64
	Epoch      int16
	Commit     bool
}

// Append adds to one partition: Records, or one whole Batch, or a Marker.
type Append struct {
	Partition *Partition
	Records   []batch.Record // the store copies them into the frame; they may be reused after Done
	Batch     []byte         // a valid batch, stored as it is but for base offset and leader epoch
	Marker    *Marker
	Base      int64 // result: the first offset
}

// Commit is the atomic unit: all of it is in one journal frame, or none of it.
type Commit struct {
	Appends  []Append
	Puts     []Put
	Producer *Producer
	// Urgent commits (offsets, PUBREL, transaction ends, uplink progress) are admitted when the store is full of records.
	Urgent bool
	// Done is called once, after the fsync that made the commit durable or after it failed. It runs on the committer's
	// completion goroutine and must not block.
	Done func(*Commit)

	Err error  // result
	Seq uint64 // result: the frame's sequence
}

// Frame is what one group commit made visible.
type Frame struct {
	Seq     uint64
	Batches []FrameBatch
}

// FrameBatch is one batch of a frame. Data is immutable.
type FrameBatch struct {
	Partition *Partition
	Data      []byte
}

// Aborted is one aborted transaction of a partition.
type Aborted struct {
	ProducerID  int64
	FirstOffset int64
	LastOffset  int64 // the marker's
}

// Open opens the store in o.Dir and makes it when it is empty. It recovers the journal before it returns.
func Open(ctx context.Context, o Options) (*Store, error) { panic("stub") }

// Close seals, checkpoints and closes. Commits that wait fail with ErrClosed.
func (s *Store) Close() error { panic("stub") }

// Submit hands c to the committer. It blocks while the queue or the tails are full, until ctx ends. When it returns an
// error, c was not taken and Done is not called.
func (s *Store) Submit(ctx context.Context, c *Commit) error { panic("stub") }

// Do submits c and waits for its Err.
func (s *Store) Do(ctx context.Context, c *Commit) error { panic("stub") }

// Get returns a copy of a key's committed value, nil when there is none.
func (s *Store) Get(space, key string) ([]byte, error) { panic("stub") }

// Scan calls fn in key order for every key of space that begins with prefix, until fn returns false. fn may keep value.
func (s *Store) Scan(space, prefix string, fn func(key string, value []byte) bool) error {
	panic("stub")
}

// CreateTopic is durable when it returns. Errors: ErrTopicExists.
func (s *Store) CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) (*Topic, error) {
	panic("stub")
}

// DeleteTopic is durable when it returns. Errors: ErrNoTopic.
func (s *Store) DeleteTopic(ctx context.Context, name string) error { panic("stub") }

// AddPartitions grows a topic to total partitions.
func (s *Store) AddPartitions(ctx context.Context, name string, total int) (*Topic, error) {
	panic("stub")
}

// AlterTopic replaces a topic's configuration.
func (s *Store) AlterTopic(ctx context.Context, name string, config map[string]string) (*Topic, error) {
	panic("stub")
}

// Topic returns a topic by name; TopicByID by its id; Topics all of them, by name.
func (s *Store) Topic(name string) (*Topic, bool)     { panic("stub") }
func (s *Store) TopicByID(id [16]byte) (*Topic, bool) { panic("stub") }
func (s *Store) Topics() []*Topic                     { panic("stub") }

// Epoch grows with every change of topics, so that callers can cache what they looked up.
func (s *Store) Epoch() uint64 { panic("stub") }

// Generation names this history of the store: a random id made with the data directory, new after a loss. Its parent
// and the offsets where it forked come with it (SEMANTICS, Mirror).
func (s *Store) Generation() Generation { panic("stub") }

// Generation is one history of a store.
type Generation struct {
	ID     string           `json:"id"`
	Parent string           `json:"parent,omitempty"`
	Fork   map[uint32]int64 `json:"fork,omitempty"` // partition id → first offset that may differ from the parent's
}

// Offsets of a partition: log start, last stable offset, high watermark. All of them are durable.
func (p *Partition) Offsets() (start, stable, high int64) { panic("stub") }

// Topic is the name of the partition's topic.
func (p *Partition) Topic() string { panic("stub") }

// Read returns whole batches from the one that holds offset from, at least one and then up to maxBytes, none behind
// limit (an offset, exclusive: pass high or stable). Sealed batches come as they lie on disk, recent ones as they were
// committed. Data is immutable or owned by the caller. An empty result means that from is the limit.
// Errors: ErrOffsetRange, ErrCorrupt, ErrNoTopic.
func (p *Partition) Read(from, limit int64, maxBytes int) ([][]byte, error) { panic("stub") }

// OffsetForTime returns the first offset whose record's timestamp is at least ms, and that timestamp; ok is false when
// there is none.
func (p *Partition) OffsetForTime(ms int64) (offset, ts int64, ok bool, err error) { panic("stub") }

// MaxTimestamp returns the largest timestamp and its offset (ListOffsets -3, KIP-734), -1 and -1 when empty.
func (p *Partition) MaxTimestamp() (offset, ts int64, err error) { panic("stub") }

// Aborted lists the aborted transactions that touch the offsets [from, to).
func (p *Partition) Aborted(from, to int64) []Aborted { panic("stub") }

// OpenTxns lists the producers with an open transaction in this partition and their first offset.
func (p *Partition) OpenTxns() map[int64]int64 { panic("stub") }

// Size returns the raw bytes that were appended and the bytes that the sealed batches take.
func (p *Partition) Size() (raw, stored int64) { panic("stub") }

// Waiter is poked when a partition that it watches, or any partition, has new committed records or a new stable offset.
type Waiter struct{ C chan struct{} } // capacity 1

// NewWaiter makes a waiter.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// Watch and Unwatch register w for one partition; WatchAll and UnwatchAll for every frame.
func (p *Partition) Watch(w *Waiter)   { panic("stub") }
func (p *Partition) Unwatch(w *Waiter) { panic("stub") }
func (s *Store) WatchAll(w *Waiter)    { panic("stub") }
func (s *Store) UnwatchAll(w *Waiter)  { panic("stub") }

// LastSeq is the sequence of the last durable frame.
func (s *Store) LastSeq() uint64 { panic("stub") }

// Frames returns the frames behind seq after, in order, up to about maxBytes of data (at least one frame), with the
// batches as they were committed. Recent frames come from memory; older ones are rebuilt from sealed batches.
// Errors: ErrTrimmed.
func (s *Store) Frames(after uint64, maxBytes int) ([]Frame, error) { panic("stub") }

// Problem is something that Verify found, or that Open had to set aside.
type Problem struct {
	File   string `json:"file"`
	Topic  string `json:"topic,omitempty"`
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// Verify reads a closed store: every batch's checksum, every index, every journal frame.
func Verify(ctx context.Context, dir string) ([]Problem, error) { panic("stub") }

// Problems lists what Open had to set aside.
func (s *Store) Problems() []Problem { panic("stub") }

// Stats are counters since Open and gauges.
type Stats struct {
	Frames, Records      uint64
	RawBytes             uint64 // record bytes appended
	JournalBytes         uint64 // written to the journal
	SealedBytes          uint64 // written to log files
	CheckpointBytes      uint64
	TailBytes, TailLimit int64
	QueueBytes           int64
	ReadOnly, Full       bool
	Sync                 Histogram // journal fdatasync, seconds
}

// Histogram counts durations in powers of two of 1 µs: Buckets[i] counts those below 2^i µs.
type Histogram struct {
	Buckets [32]uint64
	Count   uint64
	Sum     time.Duration
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats { panic("stub") }
