package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"rivulet/edge"
	"rivulet/edge/auth"
)

// nodeID is the id of the only node.
const nodeID = 0

// Options of a server. The zero value of every field but Broker is its default.
type Options struct {
	Broker *edge.Broker
	// Advertised is the host:port that clients are told to connect to. Empty: the address that they reached.
	Advertised   string
	Auth         *auth.Authority // nil: everyone is anonymous and may do everything that the broker's authorizer lets them
	LoginTimeout time.Duration   // from accept to the end of TLS and SASL; default 30 s
	NoAutoCreate bool            // topics are not made on first use
	MaxRequest   int             // bytes of one request; default 100 MiB
	MaxBuffered  int64           // bytes of all requests under way; default 128 MiB, and at least MaxRequest
	MaxFetch     int             // bytes of one Fetch's batches, whatever the client asks for; default 16 MiB
	MaxConns     int             // default 10,000
	// ClampReplication takes a replication factor above 1 for 1, where Kafka refuses what it cannot provide.
	ClampReplication bool
	IdleTimeout      time.Duration // a connection without requests is closed; default 10 min
	Now              func() time.Time
	Log              *slog.Logger
}

// Server serves Kafka clients. All methods may be called by many goroutines.
type Server struct {
	o       Options
	broker  *edge.Broker
	groups  *edge.Groups
	txns    *edge.Txns
	log     *slog.Logger
	now     func() time.Time
	apis    apiTable
	errors  errorTable
	budget  *semaphore.Weighted
	bodies  sync.Pool    // *[]byte, of requests
	fetched atomic.Int64 // bytes of batches in Fetch responses
	host    string       // advertised; "": where the client connected to
	port    int32

	unwatch func()          // from users and rules
	ctx     context.Context // of the connections' requests
	stop    context.CancelFunc
	wg      sync.WaitGroup // connections

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// New makes a server. It refuses an advertised address without a port.
func New(o Options) (*Server, error) {
	o.MaxRequest = cmp.Or(o.MaxRequest, 100<<20)
	o.MaxBuffered = max(cmp.Or(o.MaxBuffered, 128<<20), int64(o.MaxRequest))
	o.MaxFetch = cmp.Or(o.MaxFetch, 16<<20)
	o.MaxConns = cmp.Or(o.MaxConns, 10000)
	o.LoginTimeout = cmp.Or(o.LoginTimeout, 30*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o: o, broker: o.Broker, groups: o.Broker.Groups(), txns: o.Broker.Txns(), log: o.Log, now: o.Now, apis: newAPITable(), errors: errorCodes(),
		budget: semaphore.NewWeighted(o.MaxBuffered), listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	if o.Advertised != "" {
		host, port, err := splitAddr(o.Advertised)
		if err != nil {
			return nil, fmt.Errorf("advertise Kafka address: %w", err)
		}
		s.host, s.port = host, port
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.unwatch = func() {}
	if o.Auth != nil {
		s.unwatch = o.Auth.Watch(s.recheck)
	}
	return s, nil
}

func splitAddr(addr string) (host string, port int32, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q: want host:port", addr)
	}
	return host, int32(n), nil
}

// Serve accepts connections until ctx ends, the listener fails, or Close; after the first and the last it returns nil. It
// closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.addListener(l) {
		return l.Close()
	}
	defer s.dropListener(l)
	end := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer end()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			s.start(nc)
		case errors.Is(err, net.ErrClosed):
			return nil
		case isTemporary(err):
			// Out of file descriptors, as a rule: those who are connected go on, and newcomers wait.
			s.log.Warn("cannot accept a Kafka connection", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("accept Kafka connection: %w", err)
		}
	}
}

func isTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) dropListener(l net.Listener) {
	_ = l.Close()
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
}

// start serves nc on goroutines of its own.
func (s *Server) start(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	ok := !s.closed && len(s.conns) < s.o.MaxConns
	if ok {
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		s.log.Warn("Kafka connection refused: too many", "addr", nc.RemoteAddr().String(), "limit", s.o.MaxConns)
		_ = nc.Close()
		return
	}
	go func() {
		defer s.wg.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// Connections is how many clients are connected.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close stops listening and reading, ends what waits, answers what is under way, and closes the connections; when ctx
// ends they are cut.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	s.unwatch()
	s.stop()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
