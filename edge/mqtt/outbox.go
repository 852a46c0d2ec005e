package mqtt

import (
	"sync"
	"sync/atomic"
)

// outbox is what waits to be written to one client. Whoever appends starts the goroutine that writes, unless one is at it;
// it takes all there is in one write, and ends when there is nothing.
type outbox struct {
	queued atomic.Int64 // bytes in buf and in the write that is going on

	mu      sync.Mutex // guards what follows
	buf     []byte     // from the pool; nil when empty
	writing bool
	failed  bool          // a write failed: nothing is taken any more
	idle    chan struct{} // closed when a writer ends, for those that wait; nil when nobody does
	waiting []*slice      // slices whose acknowledgements are due, in the order of arrival
}

// send has put append packets to the outbox.
func (c *conn) send(put func(dst []byte) []byte) {
	c.out.mu.Lock()
	before := len(c.out.buf)
	c.out.buf = put(c.buffer())
	c.counted(len(c.out.buf) - before)
	c.startWriter()
	c.out.mu.Unlock()
}

// hand gives a filled buffer to the outbox, which keeps it.
func (c *conn) hand(buf []byte) {
	c.out.mu.Lock()
	if len(c.out.buf) == 0 {
		c.srv.putBuffer(c.out.buf)
		c.out.buf = buf
	} else {
		c.out.buf = append(c.out.buf, buf...)
		c.srv.putBuffer(buf)
	}
	c.counted(len(buf))
	c.startWriter()
	c.out.mu.Unlock()
}

// wake sees to it that acknowledgements that became due are written.
func (c *conn) wake() {
	c.out.mu.Lock()
	c.startWriter()
	c.out.mu.Unlock()
}

// buffer is what to append to, with out.mu held.
func (c *conn) buffer() []byte {
	if c.out.buf == nil {
		c.out.buf = c.srv.getBuffer()
	}
	return c.out.buf
}

func (c *conn) counted(n int) {
	c.out.queued.Add(int64(n))
	c.srv.queued.Add(int64(n))
}

// startWriter is called with out.mu held.
func (c *conn) startWriter() {
	if !c.out.writing {
		c.out.writing = true
		go c.write()
	}
}

// write runs until there is nothing to write.
func (c *conn) write() {
	for {
		c.out.mu.Lock()
		c.collectAcks()
		buf := c.out.buf
		c.out.buf = nil
		if len(buf) == 0 || c.out.failed {
			c.counted(-len(buf))
			c.srv.putBuffer(buf)
			c.out.writing = false
			if c.out.idle != nil {
				close(c.out.idle)
				c.out.idle = nil
			}
			c.out.mu.Unlock()
			return
		}
		c.out.mu.Unlock()
		_, err := c.nc.Write(buf)
		c.srv.stats.bytesOut.Add(uint64(len(buf)))
		c.counted(-len(buf))
		c.srv.putBuffer(buf)
		if err != nil {
			c.out.mu.Lock()
			c.out.failed = true
			c.out.mu.Unlock()
			_ = c.nc.Close() // the reader finds out and ends the connection
			continue
		}
		if s := c.sess.Load(); s != nil {
			s.roomMade()
		}
	}
}

// collectAcks takes the acknowledgements of all finished slices at the head of the queue. It is called with out.mu held.
func (c *conn) collectAcks() {
	n := 0
	for n < len(c.out.waiting) && c.out.waiting[n].finished.Load() {
		n++
	}
	if n == 0 {
		return
	}
	before := len(c.out.buf)
	for _, sl := range c.out.waiting[:n] {
		c.out.buf = sl.appendAcks(c.buffer())
		c.inFlight.Add(-int64(sl.charged))
		c.srv.putSlice(sl)
	}
	c.counted(len(c.out.buf) - before)
	rest := copy(c.out.waiting, c.out.waiting[n:])
	clear(c.out.waiting[rest:])
	c.out.waiting = c.out.waiting[:rest]
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// flushed returns a channel that is closed when all that was appended so far is written or lost.
func (c *conn) flushed() <-chan struct{} {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.startWriter()
	if c.out.idle == nil {
		c.out.idle = make(chan struct{})
	}
	return c.out.idle
}

// maxPooled is how large a buffer may be to be kept for others.
const maxPooled = 128 << 10

func (s *Server) getBuffer() []byte {
	if b, _ := s.buffers.Get().(*[]byte); b != nil {
		return (*b)[:0]
	}
	return make([]byte, 0, 512)
}

func (s *Server) putBuffer(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooled {
		s.buffers.Put(&b)
	}
}
