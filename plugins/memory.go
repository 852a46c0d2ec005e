package plugins

import "github.com/tetratelabs/wazero/experimental"

// memory is the linear memory of one instance. It never moves, so growing copies nothing, and takes room only as it is
// used.
type memory struct {
	limit   uint64
	size    int64
	refused bool // it was asked for more than the limit
	buf     []byte
}

var _ experimental.LinearMemory = (*memory)(nil)

// Allocate implements experimental.MemoryAllocator; wazero calls it once for an instance.
func (m *memory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate grows the memory to size bytes, or returns nil.
func (m *memory) Reallocate(size uint64) []byte {
	if size <= m.limit && m.buf == nil {
		m.buf = reserve(int(m.limit))
	}
	if size > m.limit || m.buf == nil {
		m.refused = true
		return nil
	}
	m.size = int64(size)
	return m.buf[:size:size]
}

// Free gives the memory back.
func (m *memory) Free() {
	if m.buf != nil {
		release(m.buf)
		m.buf, m.size = nil, 0
	}
}
