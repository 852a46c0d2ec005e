package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/mqtt/packet"
)

// conn is one network connection. Its fields belong to the goroutine of run, unless a comment says otherwise.
type conn struct {
	srv        *Server
	o          *Options // of which the limits held when it came
	nc         net.Conn
	ctx        context.Context // ends with the connection: it frees a reader that waits for the store
	cancel     context.CancelFunc
	overLimit  bool // one too many: it is told so
	registered bool // in Server.clients

	// Set by CONNECT, then constant.
	id         string
	version    packet.Version
	bridge     bool
	principal  edge.Principal                 // of the goroutine of run; a login that is renewed replaces it
	shown      atomic.Pointer[edge.Principal] // the same for others; nil until the client is known
	tls        *tls.ConnectionState           // nil: the connection is not encrypted
	method     string                         // of enhanced authentication; "": none was asked for
	exchange   *auth.Exchange                 // re-authentication under way
	expiry     *time.Timer                    // ends the connection when the login ends; nil: it does not
	keepAlive  time.Duration                  // 1.5 times what was agreed on; 0: none
	maxSend    int                            // largest packet the client takes
	tails      *[3][2][]byte                  // encoded headers behind mqtt.topic, by QoS and retain, of a message without properties
	aliasesOut uint16                         // topic aliases the client takes
	problems   bool                           // it wants to read reasons
	rate       bucket

	sess     atomic.Pointer[session]
	detached chan struct{}           // closed when the session is put away
	why      atomic.Pointer[closing] // why others want this connection to end

	// Reading.
	buf       []byte // start:end is what was read and not parsed
	start     int
	end       int
	first     [1]byte // is read into while the connection is parked, when there is no buf
	quiet     int     // reads in a row that would have fitted into a small buffer
	lastRead  time.Time
	overdue   bool   // what was to come within keepAlive did not, and gets a last chance
	came      uint64 // packets of this read
	cur       *slice
	acked     []uint16 // packet ids that this read's PUBACKs name
	completed []uint16 // those that its PUBCOMPs name
	targets   targetCache
	aliases   map[uint16]string // topic aliases the client set up
	qos2      map[uint16]struct{}
	released  releasedIDs
	will      *will

	out      outbox
	room     chan struct{} // poked when slices are finished, and when something was written
	inFlight atomic.Int64  // bytes of slices that are not finished
	unacked  atomic.Int64  // QoS 1 and 2 messages received and not yet acknowledged
}

// closing is why a connection ends from our side.
type closing struct{ err *packet.Error }

const (
	smallBuffer = 2 << 10 // enough for pings, acknowledgements and what most devices send at once
	largeBuffer = 64 << 10
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, o: s.limits(), nc: nc, detached: make(chan struct{}), room: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	return c
}

// shut asks the connection to end with a reason; any goroutine may call it, and it does not block.
func (c *conn) shut(e *packet.Error) {
	if c.why.CompareAndSwap(nil, &closing{e}) {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		c.cancel()
	}
}

// errLeft means that the client is gone or said goodbye: there is nobody to tell.
var errLeft = errors.New("client left")

// run is the connection's life, up to when it is parked.
func (c *conn) run() {
	c.srv.stats.accepted.Add(1)
	c.buf = c.srv.getSmall()
	c.goOn(c.connect())
}

// goOn serves the connection, if all is well so far, until it is parked or ends.
func (c *conn) goOn(err error) {
	if err == nil {
		err = c.serve()
	}
	if errors.Is(err, errIdle) {
		c.park()
		return
	}
	c.close(err)
}

// close is the end of the connection.
func (c *conn) close(err error) {
	s := c.srv
	defer s.wg.Done()
	if c.cur != nil && !c.cur.empty() { // what came before the packet that was wrong
		if e := c.submit(); e != nil && err == nil {
			err = e
		}
	}
	if w := c.why.Load(); w != nil {
		err = w.err
	}
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.detach()
	c.finish(err)
	c.cancel()
	c.keep(nil)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// serve reads until the connection ends or is idle.
func (c *conn) serve() error {
	for {
		if err := c.parse(); err != nil {
			return err
		}
		if c.out.queued.Load() > c.pushBack() {
			if err := c.awaitReading(); err != nil {
				return err
			}
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// pushBack is how much may wait to be written to a client that is still read: what a subscriber may have waiting, and as much again of
// answers.
func (c *conn) pushBack() int64 { return 2 * int64(c.o.MaxQueued) }

// awaitReading waits until the client has read some of what waits for it. Its packets are left to the kernel meanwhile: each may want an
// answer, so that who sends and never reads would fill the memory.
func (c *conn) awaitReading() error {
	var silent <-chan time.Time
	if c.keepAlive > 0 {
		t := time.NewTimer(c.keepAlive)
		defer t.Stop()
		silent = t.C
	}
	for c.out.queued.Load() > c.pushBack() {
		select {
		case <-c.room:
		case <-silent:
			return &packet.Error{Reason: packet.QuotaExceeded, Detail: "the client sends and does not read what it is sent"}
		case <-c.ctx.Done():
			return c.ended()
		}
	}
	return nil
}

// parse handles every whole packet that was read and submits what came of it.
func (c *conn) parse() error {
	c.takeReleased()
	err := c.packets()
	c.srv.stats.packetsIn.Add(c.came)
	c.came = 0
	if len(c.acked) > 0 { // also when a DISCONNECT follows them
		if e := c.sess.Load().acknowledged(c.acked); e != nil && err == nil {
			err = e
		}
		c.acked = c.acked[:0]
	}
	if err == nil && c.cur != nil && !c.cur.empty() {
		err = c.submit()
	}
	if len(c.completed) > 0 { // after what PUBRECs changed was submitted: the ids may be used again from here on
		c.sess.Load().completedQoS2(c.completed)
		c.completed = c.completed[:0]
	}
	return err
}

func (c *conn) packets() error {
	for c.start < c.end {
		size, body, err := packet.Split(c.buf[c.start:c.end])
		if err != nil {
			return err
		}
		if size > c.o.MaxPacket {
			return &packet.Error{Reason: packet.PacketTooLarge, Detail: "packet is larger than the server takes (MQTT-3.2.2-15)"}
		}
		if body == nil {
			c.grow(size)
			return nil
		}
		first := c.buf[c.start]
		c.start += size
		c.came++
		if err := c.handle(first, body); err != nil {
			return err
		}
	}
	return nil
}

// handle dispatches one packet of a connected client.
func (c *conn) handle(first byte, body []byte) error {
	switch packet.TypeOf(first) {
	case packet.PUBLISH:
		return c.onPublish(first, body)
	case packet.PUBACK:
		var a packet.Ack
		err := a.Decode(c.version, first, body)
		c.acked = append(c.acked, a.ID)
		return err
	case packet.PUBREL:
		return c.onPubrel(first, body)
	case packet.PUBREC:
		return c.onPubrec(first, body)
	case packet.PUBCOMP:
		return c.onPubcomp(first, body)
	case packet.SUBSCRIBE:
		return c.onSubscribe(first, body)
	case packet.UNSUBSCRIBE:
		return c.onUnsubscribe(first, body)
	case packet.PINGREQ:
		if err := packet.CheckPing(first, body); err != nil {
			return err
		}
		c.send(func(dst []byte) []byte { return packet.AppendPing(dst, packet.PINGRESP) })
		return nil
	case packet.DISCONNECT:
		return c.onDisconnect(first, body)
	case packet.AUTH:
		return c.onAuth(first, body)
	case packet.CONNECT:
		return &packet.Error{Reason: packet.ProtocolError, Detail: "second CONNECT (MQTT-3.1.0-2)"}
	}
	return &packet.Error{Reason: packet.ProtocolError, Detail: "unexpected " + packet.TypeOf(first).String()}
}

func (c *conn) onDisconnect(first byte, body []byte) error {
	var d packet.Disconnect
	if err := d.Decode(c.version, first, body); err != nil {
		return err
	}
	if d.Properties.Has(packet.PropSessionExpiry) {
		if err := c.sess.Load().changeExpiry(d.Properties.SessionExpiry); err != nil {
			return err
		}
	}
	if d.Reason != packet.DisconnectWithWill && c.will != nil {
		c.will = nil
		c.srv.forgetWill(c.id)
	}
	return errLeft
}

// fill reads once. It returns an error when the connection is to end, or to be parked.
func (c *conn) fill() error {
	c.compact()
	for {
		n, err := c.nc.Read(c.buf[c.end:])
		if more, err := c.took(n, err); !more {
			return err
		}
	}
}

// took deals with what a read yielded. It returns true when that was nothing, and the connection is to be read on.
func (c *conn) took(n int, err error) (again bool, _ error) {
	if n > 0 {
		c.end += n
		c.lastRead = c.srv.o.Now()
		c.overdue = false
		c.srv.stats.bytesIn.Add(uint64(n))
		c.fit(n)
		return false, nil
	}
	switch {
	case err == nil:
		return true, nil
	case c.why.Load() != nil:
		return false, c.why.Load().err
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline is moved only when it strikes: a timer is touched once in a while, not once a read.
		now := c.srv.o.Now()
		switch {
		case c.keepAlive == 0 || now.Before(c.lastRead.Add(c.keepAlive)):
			if c.end == 0 && !now.Before(c.lastRead.Add(c.srv.o.parkAfter)) {
				return false, errIdle
			}
			c.readOn()
			return true, nil
		case !c.overdue: // we may have been late to read, waiting for the store: what has come already counts
			c.overdue = true
			c.readUntil(now.Add(grace))
			return true, nil
		}
		return false, &packet.Error{Reason: packet.KeepAliveTimeout, Detail: "nothing came for 1.5 keep-alive intervals (MQTT-3.1.2-22)"}
	case errors.Is(err, io.EOF):
		return false, errLeft
	}
	return false, errors.Join(errLeft, err)
}

// grace is what a client that seems silent gets on top, so that its packets are read if they are there.
const grace = 50 * time.Millisecond

// readOn sets the read deadline of a connection that is not parked: to when it is to be looked at whether it is idle, or the keep-alive ends.
func (c *conn) readOn() {
	look := c.lastRead.Add(c.srv.o.parkAfter)
	if now := c.srv.o.Now(); !now.Before(look) { // a packet is half read
		look = now.Add(c.srv.o.parkAfter)
	}
	if end := c.lastRead.Add(c.keepAlive); c.keepAlive > 0 && end.Before(look) {
		look = end
	}
	c.readUntil(look)
}

// readUntil sets the read deadline to t by the server's clock, zero for none, but keeps the one that shut has set.
func (c *conn) readUntil(t time.Time) {
	var at time.Time
	if !t.IsZero() {
		at = time.Now().Add(t.Sub(c.srv.o.Now()))
	}
	_ = c.nc.SetReadDeadline(at)
	if c.why.Load() != nil {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// compact moves an incomplete packet to the start of the buffer.
func (c *conn) compact() {
	if c.start > 0 {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
}

// grow makes room for a packet of size bytes, 0 when that is not known yet.
func (c *conn) grow(size int) {
	if size <= len(c.buf) {
		return
	}
	if size > largeBuffer {
		c.move(make([]byte, size))
	} else {
		c.move(c.srv.getLarge())
	}
}

// fit chooses the buffer by what comes: a large one while much comes, a small one else.
func (c *conn) fit(n int) {
	switch {
	case len(c.buf) < largeBuffer && c.end == len(c.buf):
		c.move(c.srv.getLarge())
		c.quiet = 0
	case len(c.buf) > smallBuffer && n < smallBuffer/2:
		if c.quiet++; c.quiet > 16 && c.end-c.start <= smallBuffer {
			c.move(c.srv.getSmall())
		}
	default:
		c.quiet = 0
	}
}

// move changes to another buffer and takes along what was not parsed.
func (c *conn) move(next []byte) {
	n := copy(next, c.buf[c.start:c.end])
	c.keep(next)
	c.start, c.end = 0, n
}

func (s *Server) getSmall() []byte {
	if b, _ := s.small.Get().(*[]byte); b != nil {
		return *b
	}
	return make([]byte, smallBuffer)
}

func (s *Server) getLarge() []byte {
	if b, _ := s.large.Get().(*[]byte); b != nil {
		return *b
	}
	return make([]byte, largeBuffer)
}

// keep changes to another buffer, or none, and gives the old one back.
func (c *conn) keep(next []byte) {
	old := c.buf
	switch len(old) {
	case smallBuffer:
		c.srv.small.Put(&old)
	case largeBuffer:
		c.srv.large.Put(&old)
	}
	c.buf = next
}

// detach ends the session's part: it waits for what is being committed, puts the session away and publishes the will.
func (c *conn) detach() {
	c.awaitCommits()
	if !c.registered {
		return
	}
	s := c.sess.Load()
	if s != nil {
		s.leave()
	}
	if s != nil && c.will != nil { // before the client may come back with another one
		c.srv.releaseWill(c.will, s)
	}
	c.srv.mu.Lock()
	delete(c.srv.clients, c.id)
	c.srv.mu.Unlock()
	close(c.detached)
}

// awaitCommits waits until every slice is finished and its acknowledgements are in the outbox.
func (c *conn) awaitCommits() {
	for {
		c.out.mu.Lock()
		c.collectAcks()
		left := len(c.out.waiting)
		if len(c.out.bufs) > 0 {
			c.startWriter()
		}
		c.out.mu.Unlock()
		if left == 0 {
			return
		}
		<-c.room
	}
}

// finish writes what is left, says why the connection ends and closes it such that the client can read it: what it sent
// meanwhile must be read, else the kernel resets the connection and the client loses what it had not read.
func (c *conn) finish(err error) {
	defer func() { _ = c.nc.Close() }() // nothing to lose any more
	timeout := c.srv.o.CloseTimeout
	_ = c.nc.SetWriteDeadline(time.Now().Add(timeout))
	var e *packet.Error
	told := errors.As(err, &e)
	if told {
		c.logEnd(e)
		if c.version >= packet.V5 && c.sess.Load() != nil {
			d := packet.Disconnect{Reason: e.Reason}
			d.Properties.ReasonString = []byte(e.Detail)
			d.Properties.Mark(packet.PropReasonString)
			c.send(func(dst []byte) []byte {
				if n := len(d.Append(nil, packet.DISCONNECT, c.version)); n > c.maxSend {
					d.Properties = packet.Properties{}
				}
				return d.Append(dst, packet.DISCONNECT, c.version)
			})
		}
	}
	<-c.flushed()
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !told || !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(timeout))
	scratch := c.buf
	for drained := 0; drained < 4<<20; {
		n, err := c.nc.Read(scratch)
		drained += n
		if err != nil {
			return
		}
	}
}

func (c *conn) logEnd(e *packet.Error) {
	attrs := []any{"client", c.id, "addr", c.nc.RemoteAddr().String(), "why", e.Detail, "reason", byte(e.Reason)}
	switch e.Reason {
	case packet.SessionTakenOver, packet.ServerShuttingDown, packet.KeepAliveTimeout:
		c.srv.log.Info("MQTT connection closed", attrs...)
	default:
		c.srv.stats.malformed.Add(1)
		c.srv.log.Warn("MQTT connection closed", attrs...)
	}
}
