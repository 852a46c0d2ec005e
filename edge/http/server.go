package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/gate"
)

// Options of a server. The zero value of every field but Broker is its default.
type Options struct {
	Broker  *edge.Broker
	Auth    *auth.Authority // nil: everyone is anonymous
	Uplinks Uplinks         // nil: there are none
	Bridges Bridges         // nil: there are none
	MQTT    MQTT            // nil: nothing is known of it
	// Reload reads the configuration again; nil: not possible here.
	Reload    func(ctx context.Context) (Reloaded, error)
	Gates     map[string]*gate.Gate // of the listeners, for the metrics: by protocol
	Version   string                // of the program
	Addresses map[string]string     // of the listeners by protocol, for whoever wants to connect
	Now       func() time.Time
	Log       *slog.Logger
}

// Server serves HTTP. All methods may be called by many goroutines.
type Server struct {
	o       Options
	broker  *edge.Broker
	log     *slog.Logger
	now     func() time.Time
	started time.Time
	ready   atomic.Bool
	table   []route
	http    *http.Server

	sessions sessions

	ctx  context.Context // of event streams, which would keep Close waiting
	stop context.CancelFunc

	patience patience

	bodies atomic.Int64  // bytes of requests that are being read or worked on
	active atomic.Int64  // requests
	left   chan struct{} // poked when one has ended
}

// Bounds of what a client may cost.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	cutTimeout    = 5 * time.Second // for handlers whose connections were cut
	maxHeader     = 64 << 10
)

// New makes a server. It answers /readyz with 503 until SetReady.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, broker: o.Broker, log: o.Log, now: o.Now, started: o.Now(), sessions: sessions{now: o.Now}, left: make(chan struct{}, 1), patience: patience{openBodyTimeout, bodyPatience, answerPatience}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.table = s.routes()
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       markOwner,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // bad requests are the client's news
	}
	return s
}

// SetReady says whether the broker takes records: true when everything is up, false when the end begins.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Serve accepts connections until ctx ends, the listener fails, or Close; after the first and the last it returns nil. It
// closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	end := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer end()
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve HTTP: %w", err)
}

// Close lets requests under way finish until ctx ends. Event streams end at once.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		err = errors.Join(fmt.Errorf("close HTTP server: %w", err), s.http.Close())
		s.settle(cutTimeout)
		return err
	}
	return nil
}

// settle waits until no request is worked on, since the store is closed next. Those whose connections were cut end soon.
func (s *Server) settle(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for s.active.Load() > 0 {
		select {
		case <-s.left:
		case <-t.C:
			s.log.Error("requests do not end", "requests", s.active.Load())
			return
		}
	}
}
