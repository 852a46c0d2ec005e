package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/mqtt/packet"
)

// Options of a server. The zero value of every field but Broker is its default.
type Options struct {
	Broker *edge.Broker
	Log    *slog.Logger
	Now    func() time.Time
	Auth   *auth.Authority // nil: everyone is anonymous and may do everything that the broker's authorizer lets them

	MaxConnections      int           // this and what follows are limits (SetLimits), but for times; default 10000; each idle one costs some 7 KiB
	MaxPacket           int           // bytes; default 1 MiB
	MaxQueued           int           // bytes that wait to be written to one subscriber before it falls behind; default 1 MiB
	MaxQueuedAll        int           // the same for all together; beyond, each gets 16 KiB; default 64 MiB
	MaxInFlightBytes    int           // bytes of one publisher's messages that wait for their commit; default 4 MiB
	ReceiveMaximum      uint16        // QoS 1 and 2 messages a client may have unacknowledged (MQTT 5); default 8192
	MaxInFlight         int           // QoS 1 messages that one subscriber may leave unacknowledged; default 1024
	MaxSubscriptions    int           // of one client; default 10000
	MaxAllSubscriptions int           // of all connected clients; default 1 million
	MaxTopicLevels      int           // of a topic or a filter; default 128
	TopicAliases        uint16        // that a client may set up; default 256
	ConnectTimeout      time.Duration // from accept to the end of TLS, CONNECT and authentication; default 10 s
	MaxKeepAlive        time.Duration // longer ones are lowered (MQTT 5); default none
	MaxSessionExpiry    time.Duration // longer ones are lowered; default none: sessions may be kept for ever
	CloseTimeout        time.Duration // for a client to read why it is disconnected; default 2 s
	SysInterval         time.Duration // between figures on $SYS; default 10 s, negative: none
	parkAfter           time.Duration // see park.go
	Version             string        // of the program, for $SYS
	ResponsePrefix      string        // clients that ask for response information get this and their id (MQTT 5); default none

	Rate           Rate // what one client may publish; default: as much as is taken
	RateAll        Rate // what all together may
	RateDisconnect bool // a client that exceeds Rate is disconnected (MQTT 5: 0x96); default: it is read more slowly
}

func (o *Options) defaults() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&o.MaxConnections, 10000)
	def(&o.MaxPacket, 1<<20)
	def(&o.MaxQueued, 1<<20)
	def(&o.MaxQueuedAll, 64<<20)
	def(&o.MaxInFlightBytes, 4<<20)
	def(&o.MaxInFlight, 1024)
	def(&o.MaxSubscriptions, 10000)
	def(&o.MaxAllSubscriptions, 1_000_000)
	def(&o.MaxTopicLevels, 128)
	o.MaxPacket = min(o.MaxPacket, packet.MaxSize)
	o.MaxInFlight = min(o.MaxInFlight, 65535)
	if o.ReceiveMaximum == 0 {
		o.ReceiveMaximum = 8192
	}
	if o.TopicAliases == 0 {
		o.TopicAliases = 256
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = 2 * time.Second
	}
	if o.SysInterval == 0 {
		o.SysInterval = 10 * time.Second
	}
	if o.parkAfter == 0 {
		o.parkAfter = parkAfter
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Server is the MQTT front end of one broker.
type Server struct {
	o        Options                 // but for its limits
	bounds   atomic.Pointer[Options] // of which the limits hold
	broker   *edge.Broker
	log      *slog.Logger
	tree     tree
	dispatch dispatcher
	reader   logReader
	shares   map[string]*share // by $share/NAME/FILTER; guarded by dispatch.mu
	stats    counters
	queued   atomic.Int64 // bytes in all outboxes
	rate     sharedBucket
	slices   sync.Pool // *slice
	smallOut sync.Pool // *buffer of smallOut bytes
	largeOut sync.Pool // *buffer of largeOut bytes
	small    sync.Pool // *[]byte of smallBuffer bytes, to read into
	large    sync.Pool // *[]byte of largeBuffer bytes

	sys     sysTopics
	began   time.Time
	detach  func()          // from routes with `store: none`
	unwatch func()          // from users and rules
	ctx     context.Context // ends when Close has waited long enough
	cancel  context.CancelFunc
	stop    chan struct{} // closed by Close: the background goroutines end
	wg      sync.WaitGroup

	mu         sync.Mutex // guards what follows
	started    bool
	closed     bool
	listeners  map[net.Listener]struct{}
	conns      map[*conn]struct{}
	clients    map[string]*conn         // by client id, from CONNECT until the session is put away
	claims     map[string]chan struct{} // client ids that nobody may connect with for a moment; closed when it is over
	wills      map[string]*delayedWill
	assigned   uint64
	milestoned time.Time // when the last milestone was kept
}

// New makes a server; Serve starts it.
func New(o Options) *Server {
	o.defaults()
	s := &Server{
		o: o, broker: o.Broker, log: o.Log, stop: make(chan struct{}), reader: readerOf(o.Broker),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, clients: map[string]*conn{}, wills: map[string]*delayedWill{},
		shares: map[string]*share{},
	}
	s.bounds.Store(&o)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.dispatch.init(s)
	s.sys.loads, s.began = newLoads(), o.Now()
	s.assigned = uint64(o.Now().UnixNano())
	s.unwatch = func() {}
	if o.Auth != nil {
		s.unwatch = o.Auth.Watch(s.recheck)
	}
	return s
}

// limits are the options of which the limits hold now.
func (s *Server) limits() *Options { return s.bounds.Load() }

// SetLimits has the limits among o hold, from Max… to Rate…, and ResponsePrefix; 0 is the default. Rates, the numbers of connections and of
// subscriptions, the levels of topics and how long sessions last hold at once; what was agreed with a client, and what may wait for it, from
// its next connection on. Nobody is disconnected, and no subscription ends.
func (s *Server) SetLimits(o Options) {
	o.defaults()
	s.bounds.Store(&o)
	s.broker.PermissionsChanged() // connections remember topics with too many levels
}

// Serve accepts connections until the listener fails, ctx ends or Close is called; the latter two return nil. Several
// listeners may be served at once. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.begin(l) {
		return errors.Join(net.ErrClosed, l.Close())
	}
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	unhook := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept tells
	defer unhook()
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			s.accept(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		var temporary interface{ Temporary() bool } // out of file descriptors: it passes when clients leave
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return errors.Join(fmt.Errorf("accept MQTT connection: %w", err), l.Close())
		}
		s.log.Warn("cannot accept MQTT connection", "err", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-s.stop:
			return l.Close()
		}
		pause = min(2*pause, time.Second)
	}
}

// begin registers the listener and starts the background goroutines with the first one.
func (s *Server) begin(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	if !s.started {
		s.started = true
		s.dispatch.begin()
		s.detach = s.broker.AttachLive(s.deliverLive)
		s.resumeWills()
		s.wg.Go(s.dispatch.run)
		s.wg.Go(s.persistLoop)
		if s.o.SysInterval > 0 {
			s.wg.Go(s.sysLoop)
		}
	}
	return true
}

func (s *Server) accept(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	most := s.limits().MaxConnections
	full := len(s.conns) >= most
	if s.closed || len(s.conns) >= most+connectionSlack {
		s.mu.Unlock()
		s.stats.refused.Add(1)
		c.cancel()
		_ = nc.Close() // nothing was said yet
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	c.overLimit = full
	go c.run() // wg is told by close
}

// connectionSlack is how many connections beyond the limit are told so with a CONNACK; further ones are just closed.
const connectionSlack = 64

// Close stops accepting, acknowledges what is being committed, tells clients and closes. When ctx ends first it cuts them off.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.unwatch()
	var errs []error
	for l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener: %w", err))
		}
	}
	for c := range s.conns {
		c.shut(&packet.Error{Reason: packet.ServerShuttingDown, Detail: "server is shutting down"})
	}
	s.stopWills()
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		close(s.stop)
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.nc.Close() // time is up
		}
		s.mu.Unlock()
		<-done
		errs = append(errs, ctx.Err())
	}
	s.cancel()
	if s.detach != nil {
		s.detach()
	}
	return errors.Join(errs...)
}

// counters of a server.
type counters struct {
	accepted, refused, malformed  atomic.Uint64
	published, delivered          atomic.Uint64
	denied, refusedFull, unknown  atomic.Uint64
	oversize, expired, fellBehind atomic.Uint64
	throttled, overtaken, missed  atomic.Uint64
	liveDropped                   atomic.Uint64
	parked                        atomic.Int64  // now
	packetsIn, otherOut           atomic.Uint64 // otherOut: packets that are no PUBLISH
	logins, sessionsExpired       atomic.Uint64
	bytesIn, bytesOut             atomic.Uint64
}

// Stats of a server: counters since New, and gauges.
type Stats struct {
	Connections     int    // now
	Clients         int    // connected, with a session
	Subscriptions   int    // of connected clients
	QueuedBytes     int64  // waiting to be written
	Accepted        uint64 // connections
	Refused         uint64 // connections
	Malformed       uint64 // connections closed for what they sent
	Published       uint64 // messages received
	Delivered       uint64 // messages sent
	Unknown         uint64 // connections refused for who they said they are
	Denied          uint64 // publishes, wills and subscriptions not authorized
	RefusedFull     uint64 // publishes refused because the store takes nothing
	Oversize        uint64 // deliveries larger than the client takes
	Expired         uint64 // deliveries whose message had expired
	FellBehind      uint64 // times a subscriber had no room and went on from the log
	Overtaken       uint64 // sessions that came back when retention had dropped what they did not have yet
	Missed          uint64 // records of all topics that it had dropped, about
	Throttled       uint64 // times a publisher had to wait, or was disconnected, for exceeding its rate or that of all
	LiveDropped     uint64 // deliveries of messages without log to subscribers that had no room
	Shares          int    // shared subscriptions with a position
	PacketsIn       uint64 // of all types
	PacketsOut      uint64
	Logins          uint64 // connections whose CONNECT was accepted
	SessionsExpired uint64
	BytesIn         uint64 // on sockets
	BytesOut        uint64
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	connections, clients := len(s.conns), len(s.clients)
	s.mu.Unlock()
	s.dispatch.mu.Lock()
	shares := len(s.shares)
	s.dispatch.mu.Unlock()
	c := &s.stats
	return Stats{
		Shares: shares, PacketsIn: c.packetsIn.Load(), PacketsOut: c.delivered.Load() + c.otherOut.Load(), Logins: c.logins.Load(),
		SessionsExpired: c.sessionsExpired.Load(),
		Connections:     connections, Clients: clients, Subscriptions: s.tree.len(), QueuedBytes: s.queued.Load(),
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Malformed: c.malformed.Load(),
		Published: c.published.Load(), Delivered: c.delivered.Load(), Unknown: c.unknown.Load(), Denied: c.denied.Load(), RefusedFull: c.refusedFull.Load(),
		Oversize: c.oversize.Load(), Expired: c.expired.Load(), FellBehind: c.fellBehind.Load(), LiveDropped: c.liveDropped.Load(),
		Throttled: c.throttled.Load(), Overtaken: c.overtaken.Load(), Missed: c.missed.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
	}
}
