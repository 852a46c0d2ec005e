package storage

// sealedLog keeps the sealed batches of all partitions in bbolt files log/<class>/<number>.db. Files are immutable once
// full. One goroutine, the sealer, calls seal and drop; reads come from anywhere.
type sealedLog struct{}

// sealPart is what one seal takes from one partition: its tail, in offset order, without gaps.
type sealPart struct {
	id    uint32
	tails []tailBatch
}

// tailBatch is one committed batch in memory.
type tailBatch struct {
	seq  uint64 // commit sequence
	base int64
	next int64 // offset behind its last record
	data []byte
}

// openSealed deletes *.tmp, opens every file, reads its directories, and quarantines (renames, reports) what is damaged.
func openSealed(o Options) (*sealedLog, []Problem, error) { panic("stub") }

// seal writes parts as one group value covering the commit sequences (.., upTo] and publishes its index. Durable when it
// returns. Mergeable batches of a partition are merged, compressed with lz4, into batches of at most 1 MiB raw.
func (l *sealedLog) seal(upTo uint64, parts []sealPart) error { panic("stub") }

// sealedSeq is the highest upTo of all groups; end the offset behind a partition's last sealed batch (0: none), start its first.
func (l *sealedLog) sealedSeq() uint64                   { panic("stub") }
func (l *sealedLog) bounds(id uint32) (start, end int64) { panic("stub") }

// read returns copies of whole batches from the one that holds from, up to limit and maxBytes, at least one; each
// checked against its CRC.
func (l *sealedLog) read(id uint32, from, limit int64, maxBytes int) ([][]byte, error) { panic("stub") }

// firstAtOrAfter returns the base offset of the first batch whose max timestamp is at least ms.
func (l *sealedLog) firstAtOrAfter(id uint32, ms int64) (base int64, ok bool) { panic("stub") }

// frames rebuilds the frames behind seq after from sealed batches, at least one, up to about maxBytes.
func (l *sealedLog) frames(after uint64, maxBytes int) ([]sealedFrame, error) { panic("stub") }

type sealedFrame struct {
	seq     uint64
	batches []sealPart // data is encoded uncompressed
}

func (l *sealedLog) stored(id uint32) int64 { panic("stub") }
func (l *sealedLog) bytesWritten() uint64   { panic("stub") }
func (l *sealedLog) drop(id uint32)         { panic("stub") } // a deleted topic's partition
func (l *sealedLog) close() error           { panic("stub") }
