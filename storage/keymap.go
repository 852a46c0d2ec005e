package storage

import (
	"crypto/sha256"
	"encoding/binary"
)

// keyMap is what compaction knows of keys: where the last record of each stands. A key is remembered by 128 bits of SHA-256 over its
// partition and itself, so that memory does not depend on the keys' length: two different keys of the same hash would lose a
// record, which nobody can bring about or wait for. It is a table of a fixed size, of which nine tenths are used.
type keyMap struct {
	slots []keySlot
	used  int
	buf   []byte
}

// keySlot takes 24 bytes. An offset below 0 is a free slot: the zero value stands for it, since what is kept is the offset + 1.
type keySlot struct {
	hi, lo uint64
	next   int64 // offset + 1
}

const keySlotBytes = 24

// newKeyMap makes a table of about so many bytes.
func newKeyMap(bytes int64) *keyMap {
	return &keyMap{slots: make([]keySlot, max(bytes/keySlotBytes, 16))}
}

// room is for how many keys the table has room, of all that it ever has.
func (m *keyMap) room() (left, all int) {
	all = len(m.slots) - len(m.slots)/10
	return all - m.used, all
}

func (m *keyMap) reset() {
	clear(m.slots)
	m.used = 0
}

func (m *keyMap) hash(part uint32, key []byte) (hi, lo uint64) {
	m.buf = binary.BigEndian.AppendUint32(m.buf[:0], part)
	m.buf = append(m.buf, key...)
	sum := sha256.Sum256(m.buf)
	return binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
}

// slot finds the slot of a key, or the free one that it would take.
func (m *keyMap) slot(hi, lo uint64) *keySlot {
	for i := hi % uint64(len(m.slots)); ; i++ {
		if i == uint64(len(m.slots)) {
			i = 0
		}
		if s := &m.slots[i]; s.next == 0 || s.hi == hi && s.lo == lo {
			return s
		}
	}
}

// put notes that key stands at offset; false says that the table is full.
func (m *keyMap) put(part uint32, key []byte, offset int64) bool {
	hi, lo := m.hash(part, key)
	s := m.slot(hi, lo)
	if s.next == 0 {
		if left, _ := m.room(); left <= 0 {
			return false
		}
		m.used++
	}
	s.hi, s.lo, s.next = hi, lo, max(s.next, offset+1)
	return true
}

// last returns the offset of the last record of key, -1 when it was not put.
func (m *keyMap) last(part uint32, key []byte) int64 {
	hi, lo := m.hash(part, key)
	return m.slot(hi, lo).next - 1
}
