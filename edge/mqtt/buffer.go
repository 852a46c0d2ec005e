package mqtt

// buffer is memory for packets on their way out. It has one owner at a time.
type buffer struct{ b []byte }

// Most writes are a few acknowledgements; a busy subscriber's are large.
const (
	smallOut = 4 << 10
	largeOut = 64 << 10
)

// getBuffer returns an empty buffer with room for n bytes.
func (s *Server) getBuffer(n int) *buffer {
	pool, size := &s.smallOut, smallOut
	switch {
	case n > largeOut:
		return &buffer{make([]byte, 0, n)}
	case n > smallOut:
		pool, size = &s.largeOut, largeOut
	}
	if b, _ := pool.Get().(*buffer); b != nil {
		return b
	}
	return &buffer{make([]byte, 0, size)}
}

// putBuffer takes a buffer back; nil is nothing.
func (s *Server) putBuffer(b *buffer) {
	if b == nil {
		return
	}
	b.b = b.b[:0]
	switch cap(b.b) {
	case smallOut:
		s.smallOut.Put(b)
	case largeOut:
		s.largeOut.Put(b)
	}
}

func (b *buffer) free() int { return cap(b.b) - len(b.b) }
