// Package storage is the broker's log: a journal that makes commits durable, tails in memory, sealed batches in bbolt
// files, and a key-value space that changes in the same frames as the records.
//
// A Commit is the atomic unit. Submit queues it; one goroutine, the committer, takes everything that was queued while the
// last fsync ran and makes one frame of it: the key-value changes, the producers' marks, and per partition ONE record
// batch that merges the records of consecutive commits. A frame costs one WriteAt and one fdatasync, however many
// partitions it touches. Its raw buffer is immutable from then on: the partitions' tails and Frames alias it, so what was
// just written is read without a copy and without a file.
//
//	Submit ─ queue ─ committer: check, link, encode, lz4 ─ journal ─ fdatasync ─ publish ─ waiters
//	                                                                               └─ completion: Done
//	sealer: tails → sealedLog, overlay → metaDB, then journal files are recycled
//	        what is past goes: log starts, then index entries, then files; what is left of files is copied forward and merged
//	filer:  makes, recycles and removes journal files, so that the committer never waits for a folder
//
// State and its owners. The committer owns what frames are built from: a partition's next offset, its producers, the
// journal's position. Readers see published state only: a partition's mutex guards its offsets and tail, the overlay's
// its maps, the ring's its frames. Topics are an immutable table behind an atomic pointer. The sealer is the only one
// that writes to sealedLog and metaDB.
//
// Lock order: Store.topicMu, then Store.queueMu, then any one of the leaves (Partition.mu, overlay.mu, ring.mu, journal.mu).
// No leaf is held while another lock is taken, and none across I/O.
//
// A frame is published only after its fdatasync returned, so whoever reads, reads what is durable. A frame that could not
// be made durable in two files ends all writing (ErrReadOnly): its effects were never published.
package storage
