package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

// A directory says what a group holds. Integers of fixed size are big-endian.
//
//	version u8 = 3 | key u64 | data length u64 | entries u32 | up to u64 | sealed u64 | first u64 | last u64 | scheme u32 |
//	entry… | CRC32C u32 of all before it
//
//	entry: partition uvarint | base offset varint | offsets uvarint | records uvarint | max timestamp varint |
//	       position uvarint | size uvarint | raw size uvarint | newest varint | age uvarint | flags uvarint |
//	       horizon uvarint, if flags say so | labels uvarint and label…, if flags say so | runs uvarint | run…
//	label: uvarint, the difference to the one before
//	run:   sequence uvarint | offsets uvarint
//
// newest is the store's clock when the batch's last record was committed, as the difference to that of the entry before; age is
// how much older its first record is. A run says which frame the next offsets of the entry were committed in: the first as
// upTo − seq, each other as seq − the one before it.
//
// labels are those of the batch's records (Labels), ascending; without the flag they are not known. scheme is Labels.Scheme.
//
// Version 2 had no scheme and no labels. Version 1 had no fields between entries and entry…, and none from newest to horizon; its
// key was its upTo.
const (
	dirVersion = 3
	dirHead1   = 1 + 8 + 8 + 4
	dirHead2   = dirHead1 + 4*8
	dirHead    = dirHead2 + 4
	dirTail    = 4
)

// noClock is the store's clock of records in directories of version 1, which do not say. Loading replaces it.
const noClock = math.MinInt64

// Flags of an entry.
const (
	flagClean   = 1 << 0 // compaction has been here: records may be missing
	flagHorizon = 1 << 1 // an horizon follows
	flagSettled = 1 << 2 // compaction is through with it: no key of it stands in an earlier settled entry
	flagLabels  = 1 << 3 // labels follow
	knownFlags2 = flagClean | flagHorizon | flagSettled
	knownFlags  = knownFlags2 | flagLabels
	// listed are the flags that say what follows; the entry in memory does not have them.
	listed = flagHorizon | flagLabels
)

var errDirectory = errors.New("directory is damaged")

// dirInfo is the head of a directory.
type dirInfo struct {
	key    uint64 // names the group in its file
	upTo   uint64 // all that it holds was committed by then; of two groups with the same offsets the later one counts
	sealed uint64 // frames up to here hold no batch that was not sealed when the group was written
	first  uint64 // range of the frames that committed what it holds
	last   uint64
	scheme uint32 // of the labels
}

// dirEntry is one entry of a directory.
type dirEntry struct {
	part   uint32
	ref    indexEntry
	oldest int64 // store clock of its first record
	runs   []seqRun

	labelled bool     // labels are those of all its records, ascending
	labels   []uint32 // Labels
}

// seqRun is a number of offsets that one frame committed.
type seqRun struct {
	seq  uint64
	span uint32
}

// dirWriter makes a directory. It reuses its buffer.
type dirWriter struct {
	buf     []byte
	info    dirInfo
	entries int
	newest  int64
}

// begin starts a directory with what is known of info; first and last follow from the entries.
func (w *dirWriter) begin(info dirInfo) {
	*w = dirWriter{buf: append(w.buf[:0], make([]byte, dirHead)...), info: info}
	w.info.first, w.info.last = math.MaxUint64, 0
}

func (w *dirWriter) add(e *dirEntry) {
	b := binary.AppendUvarint(w.buf, uint64(e.part))
	b = binary.AppendVarint(b, e.ref.base)
	b = binary.AppendUvarint(b, uint64(e.ref.span))
	b = binary.AppendUvarint(b, uint64(e.ref.records))
	b = binary.AppendVarint(b, e.ref.maxTime)
	b = binary.AppendUvarint(b, uint64(e.ref.pos))
	b = binary.AppendUvarint(b, uint64(e.ref.size))
	b = binary.AppendUvarint(b, uint64(e.ref.raw))
	b = binary.AppendVarint(b, e.ref.newest-w.newest)
	b = binary.AppendUvarint(b, uint64(max(e.ref.newest-e.oldest, 0)))
	flags := e.ref.flags &^ listed
	if e.ref.horizon != 0 {
		flags |= flagHorizon
	}
	if e.labelled {
		flags |= flagLabels
	}
	b = binary.AppendUvarint(b, uint64(flags))
	if e.ref.horizon != 0 {
		b = binary.AppendUvarint(b, uint64(e.ref.horizon))
	}
	if e.labelled {
		b = binary.AppendUvarint(b, uint64(len(e.labels)))
		before := uint32(0)
		for _, l := range e.labels {
			b = binary.AppendUvarint(b, uint64(l-before))
			before = l
		}
	}
	b = binary.AppendUvarint(b, uint64(len(e.runs)))
	for i, r := range e.runs {
		if i == 0 {
			b = binary.AppendUvarint(b, w.info.upTo-r.seq)
		} else {
			b = binary.AppendUvarint(b, r.seq-e.runs[i-1].seq)
		}
		b = binary.AppendUvarint(b, uint64(r.span))
		w.info.first, w.info.last = min(w.info.first, r.seq), max(w.info.last, r.seq)
	}
	w.buf, w.newest = b, e.ref.newest
	w.entries++
}

// finish fills in the head and the checksum. Without a run, first is behind last.
func (w *dirWriter) finish(dataLen int64) []byte {
	w.buf[0] = dirVersion
	binary.BigEndian.PutUint64(w.buf[1:], w.info.key)
	binary.BigEndian.PutUint64(w.buf[9:], uint64(dataLen))
	binary.BigEndian.PutUint32(w.buf[17:], uint32(w.entries))
	for i, v := range []uint64{w.info.upTo, w.info.sealed, w.info.first, w.info.last} {
		binary.BigEndian.PutUint64(w.buf[dirHead1+8*i:], v)
	}
	binary.BigEndian.PutUint32(w.buf[dirHead2:], w.info.scheme)
	w.buf = binary.BigEndian.AppendUint32(w.buf, crc32.Checksum(w.buf, castagnoli))
	return w.buf
}

// dirReader walks through a directory.
type dirReader struct {
	dirInfo
	version byte
	dataLen int64
	left    uint32
	newest  int64
	bodyReader
}

// readDir checks a directory's checksum and returns a reader of its entries.
func readDir(dir []byte) (*dirReader, error) {
	if len(dir) < dirHead1+dirTail {
		return nil, errDirectory
	}
	body := dir[:len(dir)-dirTail]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(dir[len(body):]) {
		return nil, errDirectory
	}
	return readDirHead(body)
}

// readDirHead is readDir for what was checked, without its checksum.
func readDirHead(body []byte) (*dirReader, error) {
	r := &dirReader{
		version: body[0],
		dataLen: int64(binary.BigEndian.Uint64(body[9:])),
		left:    binary.BigEndian.Uint32(body[17:]),
	}
	r.key = binary.BigEndian.Uint64(body[1:])
	switch {
	case r.version > dirVersion:
		return nil, ErrNewerFormat
	case r.version == 1:
		r.upTo, r.sealed = r.key, r.key
		r.b = body[dirHead1:]
	case r.version < 1 || len(body) < dirHead2 || r.version > 2 && len(body) < dirHead:
		return nil, errDirectory
	default:
		for i, to := range []*uint64{&r.upTo, &r.sealed, &r.first, &r.last} {
			*to = binary.BigEndian.Uint64(body[dirHead1+8*i:])
		}
		r.b = body[dirHead2:]
		if r.version > 2 {
			r.scheme = binary.BigEndian.Uint32(r.b)
			r.b = body[dirHead:]
		}
	}
	if r.dataLen < 0 || r.dataLen > math.MaxUint32 || r.sealed > r.upTo {
		return nil, errDirectory
	}
	return r, nil
}

// next decodes one entry into e, whose runs and labels it reuses; false at the end.
func (r *dirReader) next(e *dirEntry) (bool, error) {
	if r.left == 0 {
		if len(r.b) != 0 {
			return false, errDirectory
		}
		return false, nil
	}
	r.left--
	e.part = r.u32()
	e.ref = indexEntry{
		base: r.varint(), span: r.u32(), records: r.u32(), maxTime: r.varint(), pos: r.u32(), size: r.u32(), raw: r.u32(),
	}
	r.clocks(e)
	n := r.uvarint()
	if r.bad || e.ref.base < 0 || e.ref.base > math.MaxInt64-math.MaxUint32 || e.ref.span == 0 ||
		int64(e.ref.pos)+int64(e.ref.size) > r.dataLen || n > uint64(len(r.b)) {
		return false, errDirectory
	}
	e.runs = e.runs[:0]
	seq, covered := uint64(0), uint64(0)
	for i := range n {
		d := r.uvarint()
		if i == 0 {
			seq = r.upTo - d
		} else {
			seq += d
		}
		run := seqRun{seq: seq, span: r.u32()}
		covered += uint64(run.span)
		if r.bad || seq > r.upTo {
			return false, errDirectory
		}
		e.runs = append(e.runs, run)
	}
	if hole := e.ref.size == 0 && n == 0 && r.version > 1; covered != uint64(e.ref.span) && !hole {
		return false, errDirectory
	}
	return true, nil
}

// clocks reads what version 1 did not have.
func (r *dirReader) clocks(e *dirEntry) {
	e.labelled, e.labels = false, e.labels[:0]
	if r.version == 1 {
		e.ref.newest, e.oldest = noClock, noClock
		return
	}
	r.newest += r.varint()
	age := r.uvarint()
	flags := r.uvarint()
	if age > math.MaxInt64/2 || flags&^knownFlags != 0 || r.version == 2 && flags&^knownFlags2 != 0 {
		r.bad = true
		return
	}
	e.ref.newest, e.oldest = r.newest, r.newest-int64(age)
	e.ref.age = uint32(min((age+999)/1000, math.MaxUint32))
	e.ref.flags = uint8(flags) &^ listed
	if flags&flagHorizon != 0 {
		e.ref.horizon = r.u32()
	}
	if flags&flagLabels != 0 {
		r.readLabels(e)
	}
}

// readLabels reads the labels of an entry.
func (r *dirReader) readLabels(e *dirEntry) {
	n := r.uvarint()
	if n > maxLabels || n > uint64(len(r.b)) {
		r.bad = true
		return
	}
	e.labelled = true
	label := uint64(0)
	for i := range n {
		d := r.uvarint()
		if label += d; d > labelMask || label > labelMask || d == 0 && i > 0 {
			r.bad = true
			return
		}
		e.labels = append(e.labels, uint32(label))
	}
}

func (r *dirReader) u32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.bad = true
	}
	return uint32(v)
}
