package edge

import (
	"errors"
	"fmt"

	"rivulet/plugins"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// The log's types that front ends use; they import edge, never storage.
type (
	Topic      = storage.Topic
	Partition  = storage.Partition
	Frame      = storage.Frame
	FrameBatch = storage.FrameBatch
	Put        = storage.Put
	Waiter     = storage.Waiter
	Aborted    = storage.Aborted
	Marker     = storage.Marker
	Producer   = storage.Producer
	Commit     = storage.Commit
	Append     = storage.Append
)

// Errors that front ends translate into their protocol's codes, in one table each. Those of the log are storage's own.
var (
	ErrNotAuthorized = errors.New("not authorized")
	ErrInvalidTopic  = errors.New("invalid topic name")
	ErrInvalidConfig = errors.New("invalid topic configuration")
	ErrRejected      = errors.New("record was rejected")
	ErrNoKey         = fmt.Errorf("%w: a compacted topic needs a key", ErrRejected)
	ErrCompacted     = errors.New("records of a compacted topic are not deleted by offset; add delete to its cleanup.policy")
	ErrInternal      = errors.New("internal topic") // names that begin with _rivulet are read-only for clients
	ErrNoPlugin      = errors.New("no such plugin")
	ErrNotAttached   = errors.New("plugin is not attached to that topic")
	ErrAttached      = errors.New("plugin is attached")

	ErrHalted      = plugins.ErrHalted
	ErrModule      = plugins.ErrModule
	ErrClosed      = storage.ErrClosed
	ErrReadOnly    = storage.ErrReadOnly
	ErrFull        = storage.ErrFull
	ErrTooLarge    = storage.ErrTooLarge
	ErrTopicExists = storage.ErrTopicExists
	ErrNoTopic     = storage.ErrNoTopic
	ErrOffsetRange = storage.ErrOffsetRange
	ErrDuplicate   = storage.ErrDuplicate
	ErrOutOfOrder  = storage.ErrOutOfOrder
	ErrFenced      = storage.ErrFenced
	ErrInvalidTxn  = storage.ErrInvalidTxn
	ErrCorrupt     = storage.ErrCorrupt
	ErrTrimmed     = storage.ErrTrimmed
)

// NewWaiter makes a waiter for Partition.Watch and Store.WatchAll.
func NewWaiter() *Waiter { return storage.NewWaiter() }

// Committed is storage's.
func Committed(aborted []Aborted, h batch.Header) bool { return storage.Committed(aborted, h) }
