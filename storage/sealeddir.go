package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

// A directory says what a group holds. Integers of fixed size are big-endian.
//
//	version u8 = 1 | upTo u64 | data length u64 | entries u32 | entry… | CRC32C u32 of all before it
//
//	entry: partition uvarint | base offset varint | offsets uvarint | records uvarint | max timestamp varint |
//	       position uvarint | size uvarint | raw size uvarint | runs uvarint | run…
//	run:   sequence uvarint | offsets uvarint
//
// A run says which frame the next offsets of the batch were committed in: the first as upTo − seq, each other as seq − the
// one before it.
const (
	dirVersion = 1
	dirHead    = 1 + 8 + 8 + 4
	dirTail    = 4
)

var errDirectory = errors.New("directory is damaged")

// dirEntry is one entry of a directory.
type dirEntry struct {
	part uint32
	ref  indexEntry
	raw  uint32 // bytes of its records, uncompressed
	runs []seqRun
}

// seqRun is a number of offsets that one frame committed.
type seqRun struct {
	seq  uint64
	span uint32
}

// appendDirHead begins a directory; finishDir fills it in.
func appendDirHead(dst []byte, upTo uint64) []byte {
	dst = append(dst, dirVersion)
	dst = binary.BigEndian.AppendUint64(dst, upTo)
	return append(dst, make([]byte, dirHead-1-8)...)
}

func finishDir(dir []byte, dataLen int64, entries int) []byte {
	binary.BigEndian.PutUint64(dir[9:], uint64(dataLen))
	binary.BigEndian.PutUint32(dir[17:], uint32(entries))
	return binary.BigEndian.AppendUint32(dir, crc32.Checksum(dir, castagnoli))
}

func appendDirEntry(dst []byte, upTo uint64, e *dirEntry) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.part))
	dst = binary.AppendVarint(dst, e.ref.base)
	dst = binary.AppendUvarint(dst, uint64(e.ref.span))
	dst = binary.AppendUvarint(dst, uint64(e.ref.records))
	dst = binary.AppendVarint(dst, e.ref.maxTime)
	dst = binary.AppendUvarint(dst, uint64(e.ref.pos))
	dst = binary.AppendUvarint(dst, uint64(e.ref.size))
	dst = binary.AppendUvarint(dst, uint64(e.raw))
	dst = binary.AppendUvarint(dst, uint64(len(e.runs)))
	for i, r := range e.runs {
		if i == 0 {
			dst = binary.AppendUvarint(dst, upTo-r.seq)
		} else {
			dst = binary.AppendUvarint(dst, r.seq-e.runs[i-1].seq)
		}
		dst = binary.AppendUvarint(dst, uint64(r.span))
	}
	return dst
}

// dirReader walks through a directory.
type dirReader struct {
	upTo    uint64
	dataLen int64
	left    uint32
	bodyReader
}

// readDir checks a directory's checksum and returns a reader of its entries.
func readDir(dir []byte) (*dirReader, error) {
	if len(dir) < dirHead+dirTail {
		return nil, errDirectory
	}
	body := dir[:len(dir)-dirTail]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(dir[len(body):]) {
		return nil, errDirectory
	}
	if body[0] != dirVersion {
		return nil, ErrNewerFormat
	}
	r := &dirReader{
		upTo:    binary.BigEndian.Uint64(body[1:]),
		dataLen: int64(binary.BigEndian.Uint64(body[9:])),
		left:    binary.BigEndian.Uint32(body[17:]),

		bodyReader: bodyReader{b: body[dirHead:]},
	}
	if r.dataLen < 0 || r.dataLen > math.MaxUint32 {
		return nil, errDirectory
	}
	return r, nil
}

// next decodes one entry into e, whose runs it reuses; false at the end.
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
		base: r.varint(), span: r.u32(), records: r.u32(), maxTime: r.varint(), pos: r.u32(), size: r.u32(),
		upTo: r.upTo,
	}
	e.raw = r.u32()
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
	if covered != uint64(e.ref.span) {
		return false, errDirectory
	}
	return true, nil
}

func (r *dirReader) u32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.bad = true
	}
	return uint32(v)
}
