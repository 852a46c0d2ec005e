package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
)

// outbox is what waits to be written to one client. Whoever appends starts the goroutine that writes, unless one is at it;
// it takes all there is in one write, and ends when there is nothing.
type outbox struct {
	queued atomic.Int64 // bytes in bufs and in the write that is going on

	mu      sync.Mutex // guards what follows
	bufs    []*buffer
	spare   []*buffer // the other array for bufs
	writing bool
	failed  bool          // a write failed: nothing is written any more
	idle    chan struct{} // closed when a writer ends, for those that wait; nil when nobody does
	waiting []*slice      // slices whose acknowledgements are due, in the order of arrival
}

// send has put append packets to the outbox; they should not be larger than some KiB.
func (c *conn) send(put func(dst []byte) []byte) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	b := c.last(256)
	before := len(b.b)
	b.b = put(b.b)
	c.srv.stats.otherOut.Add(1)
	c.counted(len(b.b) - before)
	c.startWriter()
}

// hand gives a filled buffer to the outbox, which keeps it.
func (c *conn) hand(b *buffer) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.bufs = append(c.out.bufs, b)
	c.counted(len(b.b))
	c.startWriter()
}

// handCounted gives filled buffers to the outbox that were counted before.
func (c *conn) handCounted(bufs []*buffer) {
	if len(bufs) == 0 {
		return
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.bufs = append(c.out.bufs, bufs...)
	c.startWriter()
}

// wake sees to it that acknowledgements that became due are written.
func (c *conn) wake() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.startWriter()
}

// last is a buffer at the end of the outbox with room for n bytes. It is called with out.mu held.
func (c *conn) last(n int) *buffer {
	if k := len(c.out.bufs); k > 0 && c.out.bufs[k-1].free() >= n {
		return c.out.bufs[k-1]
	}
	b := c.srv.getBuffer(n)
	c.out.bufs = append(c.out.bufs, b)
	return b
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
		bufs := c.out.bufs
		if len(bufs) == 0 {
			c.out.writing = false
			if c.out.idle != nil {
				close(c.out.idle)
				c.out.idle = nil
			}
			c.out.mu.Unlock()
			return
		}
		c.out.bufs, c.out.spare = c.out.spare, nil
		failed := c.out.failed
		c.out.mu.Unlock()
		n, err := 0, error(nil)
		if !failed {
			err = c.writeAll(bufs)
		}
		for _, b := range bufs {
			n += len(b.b)
			c.srv.putBuffer(b)
		}
		clear(bufs)
		c.counted(-n)
		c.pokeRoom()
		c.srv.stats.bytesOut.Add(uint64(n))
		c.out.mu.Lock()
		c.out.spare = bufs[:0]
		c.out.failed = failed || err != nil
		c.out.mu.Unlock()
		if err != nil {
			_ = c.nc.Close() // the reader finds out and ends the connection
		}
		if s := c.sess.Load(); s != nil {
			s.roomMade()
		}
	}
}

func (c *conn) writeAll(bufs []*buffer) error {
	if len(bufs) == 1 {
		_, err := c.nc.Write(bufs[0].b)
		return err
	}
	all := make(net.Buffers, len(bufs))
	for i, b := range bufs {
		all[i] = b.b
	}
	_, err := all.WriteTo(c.nc)
	return err
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
	acks := 0
	for _, sl := range c.out.waiting[:n] {
		acks += len(sl.acks)
		if size := sl.ackSize(); size > 0 {
			b := c.last(size)
			before := len(b.b)
			b.b = sl.appendAcks(b.b)
			c.counted(len(b.b) - before)
		} else {
			sl.appendAcks(nil)
		}
		c.inFlight.Add(-int64(sl.charged))
		c.srv.putSlice(sl)
	}
	c.srv.stats.otherOut.Add(uint64(acks))
	rest := copy(c.out.waiting, c.out.waiting[n:])
	clear(c.out.waiting[rest:])
	c.out.waiting = c.out.waiting[:rest]
	c.pokeRoom()
}

// pokeRoom wakes the connection's goroutine if it waits for acknowledgements to be collected, or for the client to read.
func (c *conn) pokeRoom() {
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
