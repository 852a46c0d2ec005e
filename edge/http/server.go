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
}

// Bounds of what a client may cost.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
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
	s := &Server{o: o, broker: o.Broker, log: o.Log, now: o.Now, started: o.Now(), sessions: sessions{now: o.Now}}
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
		return errors.Join(fmt.Errorf("close HTTP server: %w", err), s.http.Close())
	}
	return nil
}
