package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/gate"
	edgehttp "rivulet/edge/http"
	"rivulet/edge/kafka"
	"rivulet/edge/mqtt"
	"rivulet/edge/mqtt/listener"
	"rivulet/plugins"
	"rivulet/storage"
)

// frontEnd speaks one protocol on any number of listeners.
type frontEnd interface {
	Serve(ctx context.Context, l net.Listener) error
	Close(ctx context.Context) error
}

// way is one open way in.
type way struct {
	name     string // as in listeners
	addr     string // bound
	listener net.Listener
	front    frontEnd

	advertised string
}

// server is one broker with everything around it. Two of them run in one process: nothing here is global.
type server struct {
	cfg  *config.Config
	log  *slog.Logger
	took time.Duration // to start

	store *storage.Store
	auth  *auth.Authority
	audit *auditTopic
	// brokerOpened tells the authority whose connections forget what they were allowed when rules change.
	brokerOpened func(*edge.Broker)
	broker       *edge.Broker
	certs        []*certificates // of the listeners with TLS
	http         *edgehttp.Server
	devices      *mqtt.Server
	fronts       []frontEnd // in the order in which they are closed
	ways         []way
	gates        map[string]*gate.Gate // before the ways in, by protocol
	uplinks      *uplinks
	bridges      *bridges
	served       bool // the front ends have the listeners

	running   sync.WaitGroup
	reloading sync.Mutex                     // held by reload, which owns cfg then
	load      func() (*config.Config, error) // reads the configuration again; nil: there is none to read
	setLevel  func(*config.Config)           // of the log

	failed  chan struct{} // closed when a listener fails for good
	once    sync.Once
	failure error
}

// startServer opens the store, the broker over it, the ways in, and the uplinks. ctx bounds the start alone.
func startServer(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *server, err error) {
	from := time.Now()
	s := &server{cfg: cfg, log: log, failed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	// The store first: it takes the data directory's lock, so that nothing else here meets another process.
	limits, o := cfg.Storage.Limits(), cfg.Storage.Options()
	o.Dir, o.ScrubRate, o.Log = cfg.DataDir, scrubRate(cfg.Storage.Scrub), log
	s.store, err = storage.Open(ctx, o)
	if err != nil {
		if errors.Is(err, storage.ErrLocked) {
			err = fmt.Errorf("%w; stop that process, or choose another --data-dir", err)
		}
		return nil, err
	}
	for _, p := range s.store.Problems() {
		log.Error("damage was set aside when the store was opened", "file", p.File, "topic", p.Topic, "where", p.Where, "detail", p.Detail)
	}
	if err := s.openAuthority(); err != nil {
		return nil, err
	}
	if err := s.openBroker(ctx, limits); err != nil {
		return nil, err
	}
	// Listeners last, so that who connects is served at once. Uplinks after them: the centre may be far away, or in this process.
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	if err := s.startLinks(); err != nil {
		return nil, err
	}
	if err := s.openFronts(); err != nil {
		return nil, err
	}
	s.served = true
	for _, w := range s.ways {
		s.running.Go(func() { s.serve(w) })
	}
	s.http.SetReady(true)
	s.took = time.Since(from)
	return s, nil
}

// startLinks checks all uplinks and bridges before it starts any.
func (s *server) startLinks() error {
	up, err := wantedUplinks(s.cfg, s.broker, s.log)
	if err != nil {
		return err
	}
	from, err := wantedBridges(s.cfg, s.broker, s.log)
	if err != nil {
		return err
	}
	s.uplinks, s.bridges = newUplinks(s.log), newBridges()
	if _, err := s.uplinks.replace(up); err != nil {
		return err
	}
	s.store.SetHold(s.uplinks.holds)
	s.store.SetMirrored(s.mirrored)
	_, err = s.bridges.replace(from)
	return err
}

// scrubRate is the configuration's as the store takes it: 0 is its default there, and none here.
func scrubRate(r *config.Rate) int64 {
	switch {
	case r == nil:
		return 0
	case *r == 0:
		return -1
	}
	return int64(*r)
}

func (s *server) openBroker(ctx context.Context, limits config.Limits) (err error) {
	o := edge.Options{
		Edge: s.cfg.Edge, Store: s.store, Authorize: s.auth, Log: s.log,
		PluginDir: filepath.Join(s.cfg.DataDir, "plugins"),
		Plugins: plugins.Options{
			CacheDir: filepath.Join(s.cfg.DataDir, "plugins", "cache"), MemoryLimit: limits.PluginMemory, Log: s.log,
		},
	}
	o.Routes = edgeRoutes(s.cfg)
	for _, t := range s.cfg.Topics {
		o.Topics = append(o.Topics, t.Edge())
	}
	if s.broker, err = edge.Open(ctx, o); err != nil {
		return err
	}
	s.brokerOpened(s.broker)
	s.audit = openAudit(s.broker, s.auth)
	files, err := readPlugins(s.cfg)
	if err != nil {
		return err
	}
	_, err = declarePlugins(ctx, s.broker, files)
	return err
}

// listen opens every way in, before any is served: a port that is taken must not leave half a broker.
func (s *server) listen(ctx context.Context) error {
	l := &s.cfg.Listeners
	for _, w := range []struct {
		name string
		l    config.Listener
	}{
		{"mqtt", l.MQTT},
		{"mqtts", l.MQTTS},
		{"ws", l.WS},
		{"wss", l.WSS},
		{"kafka", l.Kafka},
		{"kafkas", l.Kafkas},
		{"http", l.HTTP},
		{"https", l.HTTPS},
	} {
		if !w.l.Open() {
			continue
		}
		ln, err := openListener(ctx, w.l)
		if err != nil {
			return fmt.Errorf("open listener %s: %w; free the port, or choose another address (listeners.%s.addr)", w.name, err, w.name)
		}
		s.ways = append(s.ways, way{name: w.name, addr: w.l.Addr, listener: ln, advertised: w.l.Advertised})
		opened := &s.ways[len(s.ways)-1]
		if w.l.Socket() == "" {
			opened.addr = ln.Addr().String()
		}
		// The gate first, so that nothing is spent on who is refused; then in the order in which the bytes are packed: TCP, PROXY, TLS,
		// WebSocket.
		g := s.gate(w.name, w.l.ProxyProtocol)
		if w.l.TLS != nil {
			opened.listener = g.HandshakeListener(opened.listener)
		} else {
			opened.listener = g.Listener(opened.listener)
		}
		if w.l.ProxyProtocol {
			opened.listener = listener.Proxy(opened.listener)
		}
		if w.l.TLS != nil {
			c := &certificates{name: w.name, turn: s.auth.Heavy}
			if err := c.load(*w.l.TLS); err != nil {
				return fmt.Errorf("open listener %s: %w", w.name, err)
			}
			s.certs = append(s.certs, c)
			opened.listener = tls.NewListener(opened.listener, c.server())
		}
		if w.name == "ws" || w.name == "wss" {
			opened.listener = listener.WebSocket(opened.listener, listener.WebSocketOptions{Origins: w.l.Origins, Log: s.log})
		}
	}
	return s.listenAdmin(ctx)
}

// openListener binds a TCP address, or a unix socket, which the owner and the group of the file may connect to. A socket file that
// nobody listens on any more, left by a process that was killed, is replaced.
func openListener(ctx context.Context, l config.Listener) (net.Listener, error) {
	path := l.Socket()
	if path == "" {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", l.Addr)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		nc, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return nil, errors.Join(fmt.Errorf("%s is another process's", path), nc.Close())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			_ = os.Remove(path) // Listen tells if it is still there
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// maxSocketPath is what fits into a sockaddr_un everywhere.
const maxSocketPath = 100

// listenAdmin opens the socket by which the owner of the data directory reaches the API without a password.
func (s *server) listenAdmin(ctx context.Context) error {
	path := filepath.Join(s.cfg.DataDir, "admin.sock")
	if len(path) > maxSocketPath {
		s.log.Warn("no admin socket: the data directory's path is too long for one", "path", path)
		return nil
	}
	// It appears under its name with its mode: made in a folder of ours alone, and moved. An earlier process' is replaced: the lock is ours.
	dir := filepath.Join(s.cfg.DataDir, ".a")
	hidden := filepath.Join(dir, "s")
	ln, err := func() (net.Listener, error) {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			return nil, err
		}
		ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", hidden)
		if err != nil {
			return nil, err
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false) // that would be the hidden name
		return ln, errors.Join(os.Chmod(hidden, 0o600), os.Rename(hidden, path), os.Remove(dir))
	}()
	if errors.Is(err, syscall.ENOSPC) { // what is stored can be read and sent to the centre without it, and room can be made over HTTP
		s.log.Warn("no admin socket: the disk is full", "path", path, "err", err)
		if err = os.RemoveAll(dir); ln != nil {
			err = errors.Join(err, ln.Close())
		}
		return err
	}
	if ln != nil {
		s.ways = append(s.ways, way{name: "admin", addr: path, listener: adminSocket{ln, path}})
	}
	if err != nil {
		return fmt.Errorf("open admin socket: %w", err)
	}
	return nil
}

// adminSocket takes its file with it.
type adminSocket struct {
	net.Listener
	path string
}

func (a adminSocket) Close() error {
	err := a.Listener.Close()
	if err == nil {
		_ = os.Remove(a.path) // an end that does not get here leaves it to the next start
	}
	return err
}

func (s *server) openFronts() error {
	addresses := map[string]string{}
	for _, w := range s.ways {
		addresses[w.name] = w.addr
	}
	s.devices = mqtt.New(s.mqttOptions())
	s.http = edgehttp.New(edgehttp.Options{
		Broker: s.broker, Auth: s.auth, Uplinks: s.uplinks, Bridges: s.bridges, MQTT: mqttFront{s.devices}, Version: version(), Addresses: addresses, Reload: s.reload,
		Gates: s.gates, Log: s.log,
	})
	s.fronts = append(s.fronts, s.devices)
	for i := range s.ways {
		w := &s.ways[i]
		switch w.name {
		case "mqtt", "mqtts", "ws", "wss": // one, since a session may go from one to the other
			w.front = s.devices
		case "kafka", "kafkas": // one each, since each tells its clients its own address
			k, err := kafka.New(kafka.Options{
				Broker: s.broker, Auth: s.auth, Advertised: w.advertised, LoginTimeout: time.Duration(s.cfg.Limits.LoginTimeout), Log: s.log,
			})
			if err != nil {
				return err
			}
			w.front = k
			s.fronts = append(s.fronts, k)
		case "admin":
			w.front = ownersDoor{s.http}
		default:
			w.front = s.http
		}
	}
	s.fronts = append(s.fronts, s.http)
	return nil
}

// serve runs one way in. Serve returns nil when the front end is closed.
func (s *server) serve(w way) {
	err := w.front.Serve(context.Background(), w.listener)
	if err == nil || errors.Is(err, net.ErrClosed) { // the latter when it was closed before it began
		return
	}
	s.once.Do(func() {
		s.failure = fmt.Errorf("listener %s: %w", w.name, err)
		close(s.failed)
	})
}

// address of a way in, "" when it is closed.
func (s *server) address(name string) string {
	for _, w := range s.ways {
		if w.name == name {
			return w.addr
		}
	}
	return ""
}

// Stop undoes the start in reverse, each step for a reason. It may be called after a start that failed half way.
func (s *server) Stop(ctx context.Context) error {
	var errs []error
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if s.http != nil {
		s.http.SetReady(false) // whoever spreads load looks here
	}
	// Who sends comes first: each front end acknowledges what is committed and takes no more. HTTP is last of them, so that the
	// end can be watched.
	for _, f := range s.fronts {
		keep(f.Close(ctx))
	}
	if !s.served {
		for _, w := range s.ways {
			keep(w.listener.Close())
		}
	}
	s.running.Wait()
	// A reload that is under way ends first, and none begins after it.
	s.reloading.Lock()
	s.load = nil
	s.reloading.Unlock()
	// Bridges acknowledge at the other side what is committed here, so before the broker closes.
	if s.bridges != nil {
		s.bridges.stop()
	}
	// Uplinks only read, and keep their positions in the store: before it closes, after the last record came.
	if s.uplinks != nil {
		s.uplinks.stop()
	}
	if s.audit != nil {
		s.audit.close() // what was done until here is written
	}
	if s.broker != nil {
		keep(s.broker.Close())
	}
	// The store seals what is in memory and lets the directory go: last, since everything above writes to it.
	if s.store != nil {
		keep(s.store.Close())
	}
	keep(s.failure)
	return errors.Join(errs...)
}
