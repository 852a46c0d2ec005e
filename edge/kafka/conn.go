package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

const (
	// maxInFlight bounds the requests of one connection that are read and not yet answered.
	maxInFlight = 128
	// maxAnswers bounds the responses of one connection that are made and not yet written, but for those to Produce and Fetch: each may
	// tell of every topic there is.
	maxAnswers = 4
	// maxOther bounds a request that brings no records: decoded, it takes many times its size.
	maxOther = 4 << 20
	// maxUnknown bounds a request of a client that has not said who it is, where that is asked for.
	maxUnknown = 32 << 10
	// bodyTimeout is for the rest of a request after its size, and writeTimeout for a response: a stuck client must not
	// hold its memory for ever.
	bodyTimeout  = 2 * time.Minute
	writeTimeout = 5 * time.Minute
	// leaveTimeout is for a client to read its last answers.
	leaveTimeout = 250 * time.Millisecond
	readBuffer   = 8 << 10
	// pooledBody is the largest request buffer that is kept for the next request.
	pooledBody = 1 << 20
)

// conn is one client's connection. Its fields belong to the reader goroutine, but for slots that are on their way to the
// writer.
type conn struct {
	s        *Server
	nc       net.Conn
	log      *slog.Logger
	who      *edge.Principal                // replaced, never changed: produces under way hold it
	shown    atomic.Pointer[edge.Principal] // who, for other goroutines; nil until the client is known
	login    loginState
	queue    chan *slot // in the order of the requests
	free     chan *slot
	calls    chan *produceCall
	answers  chan struct{}  // holds one for each response that is made and not written
	produces sync.WaitGroup // produces under way
	limits   map[string]*topicLimits
	waiter   *edge.Waiter
	changed  chan struct{} // capacity 1; filled when users or rules have changed
	timer    *time.Timer
	fetch    fetchState
	fetching sync.WaitGroup // fetch is on its way to the client
	draining atomic.Bool
	failed   atomic.Bool // the writer could not write
}

// slot is a request's place in the order of responses.
type slot struct {
	ready    chan struct{} // capacity 1; filled when the response may be sent
	corr     int32
	body     *[]byte // of the request; nil when others keep it
	cost     int64   // of the budget
	flexible bool    // response header version 1

	// One of them is the response; none of them: there is none.
	resp    kmsg.Response
	raw     []byte // without correlation id (SASL tokens of handshake version 0)
	fetched *fetchState
	produce *produceCall
	hangUp  bool // close behind it
}

func newConn(s *Server, nc net.Conn) *conn {
	addr := nc.RemoteAddr().String()
	c := &conn{
		s: s, nc: nc, log: s.log.With("addr", addr), who: &edge.Principal{Addr: addr},
		queue: make(chan *slot, maxInFlight), free: make(chan *slot, maxInFlight), waiter: edge.NewWaiter(), changed: make(chan struct{}, 1),
		calls: make(chan *produceCall, maxInFlight), answers: make(chan struct{}, maxAnswers), limits: map[string]*topicLimits{},
	}
	return c
}

// errHangUp ends a connection without a word in the log.
var errHangUp = errors.New("hang up")

// serve runs the connection until the client goes, errs, or the server closes.
func (c *conn) serve() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	err := c.arrive()
	if err == nil {
		err = c.read()
	}
	close(c.queue)
	<-written
	c.leave()
	c.produces.Wait()
	switch {
	case err == nil, c.draining.Load(), errors.Is(err, errHangUp), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, os.ErrDeadlineExceeded), isReset(err):
		c.log.Debug("Kafka connection closed", "err", err)
	default:
		c.log.Warn("Kafka connection closed", "client", c.who.Client, "err", err)
	}
}

// leave closes the connection. When it is ours to end, the client is let read what was answered: closing over bytes that it
// sent meanwhile would reset the connection, and take the answers with it.
func (c *conn) leave() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.draining.Load() && half.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(leaveTimeout))
		_, _ = io.CopyN(io.Discard, c.nc, int64(c.s.o.MaxRequest))
	}
	_ = c.nc.Close()
}

// drain stops the reader; what is under way is answered.
func (c *conn) drain() {
	c.draining.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// read reads and handles requests until it cannot.
func (c *conn) read() error {
	r := bufio.NewReaderSize(c.nc, readBuffer)
	for {
		if c.failed.Load() {
			return errHangUp
		}
		if r.Buffered() == 0 {
			if err := c.deadline(c.s.o.IdleTimeout); err != nil {
				return err
			}
		}
		sl, err := c.readRequest(r)
		if err != nil {
			return err
		}
		err = c.handle(sl)
		if err != nil {
			// The slot is not on its way yet: its memory is all that there is to give back.
			c.release(sl)
			return err
		}
	}
}

// deadline sets the read deadline, unless the connection is being drained.
func (c *conn) deadline(d time.Duration) error {
	at := time.Now().Add(d)
	if c.mustAuthenticate() { // however slowly its bytes drip in
		if last := c.login.opened.Add(c.s.o.LoginTimeout); last.Before(at) {
			at = last
		}
	}
	err := c.nc.SetReadDeadline(at)
	if c.draining.Load() {
		return errHangUp
	}
	return err
}

// readRequest reads one request into a slot.
func (c *conn) readRequest(r *bufio.Reader) (*slot, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(prefix[:]))
	limit := c.s.o.MaxRequest
	if c.mustAuthenticate() {
		limit = min(limit, maxUnknown)
	}
	if size > maxOther {
		// The key tells whether it may be that large.
		if key, err := r.Peek(2); err != nil || int16(binary.BigEndian.Uint16(key)) != kmsg.Produce.Int16() {
			limit = min(limit, maxOther)
		}
	}
	if size < 0 || int(size) > limit {
		return nil, fmt.Errorf("request of %d bytes, at most %d are allowed", size, limit)
	}
	if err := c.s.budget.Acquire(c.s.ctx, int64(size)); err != nil {
		return nil, errHangUp
	}
	sl := c.slot()
	sl.cost = int64(size)
	sl.body = c.s.body(int(size))
	if r.Buffered() < int(size) {
		if err := c.deadline(bodyTimeout); err != nil {
			c.release(sl)
			return nil, err
		}
	}
	if _, err := io.ReadFull(r, *sl.body); err != nil {
		c.release(sl)
		return nil, fmt.Errorf("read request: %w", err)
	}
	return sl, nil
}

// body returns a buffer of n bytes.
func (s *Server) body(n int) *[]byte {
	if b, _ := s.bodies.Get().(*[]byte); b != nil {
		if cap(*b) >= n {
			*b = (*b)[:n]
			return b
		}
		if n <= pooledBody {
			s.bodies.Put(b)
		}
	}
	b := make([]byte, n, max(n, 4<<10))
	return &b
}

func (c *conn) slot() *slot {
	select {
	case sl := <-c.free:
		return sl
	default:
		return &slot{ready: make(chan struct{}, 1)}
	}
}

// release gives back what a slot holds, and the slot.
func (c *conn) release(sl *slot) {
	c.s.budget.Release(sl.cost)
	if sl.body != nil && cap(*sl.body) <= pooledBody {
		c.s.bodies.Put(sl.body)
	}
	*sl = slot{ready: sl.ready}
	select {
	case c.free <- sl:
	default:
	}
}

// send puts a slot in the order of responses. done says that its response is complete; else it becomes so when ready is
// filled.
func (c *conn) send(sl *slot, done bool) {
	if done {
		sl.ready <- struct{}{}
	}
	c.queue <- sl
}

// ctx is for what a request waits for.
func (c *conn) ctx() context.Context { return c.s.ctx }

// write sends responses in order until the queue is closed. After a failure it goes on only to give back the slots.
func (c *conn) write() {
	var w responseWriter
	for sl := range c.queue {
		select {
		case <-sl.ready:
		default:
			c.flush(&w) // nothing that is complete waits for what is not
			<-sl.ready
		}
		if !c.failed.Load() {
			w.add(sl)
			if sl.fetched != nil || len(w.buf) >= writeChunk || len(c.queue) == 0 {
				c.flush(&w)
			}
		}
		hangUp := sl.hangUp
		if sl.fetched != nil {
			c.sent(sl.fetched)
		}
		if sl.produce != nil {
			sl.produce.recycle()
		}
		if sl.resp != nil {
			<-c.answers
		}
		c.release(sl)
		if hangUp {
			c.flush(&w)
			c.fail()
		}
	}
	c.flush(&w)
}

func (c *conn) flush(w *responseWriter) {
	if w.empty() || c.failed.Load() {
		return
	}
	err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = w.writeTo(c.nc)
	}
	if err != nil {
		c.log.Debug("cannot write to Kafka client", "err", err)
		c.fail()
	}
}

// fail ends the connection from the writer's side.
func (c *conn) fail() {
	c.failed.Store(true)
	_ = c.nc.Close()
}
