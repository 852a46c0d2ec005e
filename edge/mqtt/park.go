package mqtt

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"
)

// A connection that is idle is parked. The goroutine that served it has a stack of 4 or 8 KiB, which it needed once, and a buffer; what waits
// for the client's next byte needs neither. So that goroutine ends, and one takes over that does nothing but read a byte, which
// fits into the 2 KiB that a goroutine begins with. With the byte the connection is served again.

// parkAfter is for how long nothing must have come: to park costs about as much as to read a packet.
const parkAfter = 2 * time.Second

// errIdle is why serve ends when the connection is to be parked.
var errIdle = errors.New("connection is idle")

// park ends the service of a connection that has nothing half read; the calling goroutine has nothing to do with it any more.
func (c *conn) park() {
	if c.cur != nil {
		c.drop(c.cur)
		c.cur = nil
	}
	c.srv.stats.parked.Add(1)
	c.keep(nil)
	c.start, c.end = 0, 0
	if c.keepAlive > 0 {
		c.readUntil(c.lastRead.Add(c.keepAlive))
	} else {
		c.readUntil(time.Time{})
	}
	go c.await()
}

// await waits for the first byte. Nothing else may happen here, or the stack grows.
func (c *conn) await() {
	n, err := c.nc.Read(c.first[:])
	go c.resume(n, err)
}

// resume goes on with what await got.
func (c *conn) resume(n int, err error) {
	c.srv.stats.parked.Add(-1)
	c.buf = c.srv.getSmall()
	copy(c.buf, c.first[:n])
	again, err := c.took(n, err)
	switch {
	case again:
		err = c.fill()
	case err == nil:
		c.readOn()
	}
	c.goOn(err)
}

// tidier decides when memory is given back to the system that connections needed before they were parked: while nothing happens, the
// garbage collector does not run for minutes, and what it frees it keeps.
type tidier struct {
	last  int64 // parked, when it was last looked
	done  int64 // when memory was last given back, or fewer since
	since int   // looks since then
}

const (
	tidyLeast = 500 // connections for which a collection pays
	tidyRest  = 5   // looks between two
)

// due is asked once a second. It waits until most of those that come have come.
func (t *tidier) due(parked int64) bool {
	grew := parked - t.last
	t.last, t.done = parked, min(t.done, parked)
	t.since++
	news := parked - t.done
	if t.since < tidyRest || news < max(tidyLeast, t.done/4) || grew > news/8 {
		return false
	}
	t.done, t.since = parked, 0
	return true
}

func (s *Server) tidyUp(t *tidier) {
	if t.due(s.stats.parked.Load()) {
		runtime.GC() // what lies in pools survives one collection
		debug.FreeOSMemory()
	}
}
