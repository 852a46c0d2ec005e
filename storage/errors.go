package storage

import "errors"

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
