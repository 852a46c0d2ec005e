package listener

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// WebSocketOptions of a listener.
type WebSocketOptions struct {
	// Origins are the web pages that may connect, as scheme://host[:port] or "*"; those of the listener's own host always may.
	// Programs that are no browsers send no Origin and are not asked for one.
	Origins []string
	Timeout time.Duration // for TLS and the HTTP request; default 10 s
	Log     *slog.Logger
}

// WebSocket serves HTTP on l and returns a listener of what is upgraded there, on the paths / and /mqtt, with the subprotocol
// mqtt. Closing it closes l; connections that were accepted stay.
func WebSocket(l net.Listener, o WebSocketOptions) net.Listener {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &webSocketListener{Listener: l, o: o, conns: make(chan net.Conn), ended: make(chan struct{}), closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", w.upgrade)
	mux.HandleFunc("GET /mqtt", w.upgrade)
	w.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // of handshakes that did not work out, mostly port scans
	}
	w.server.SetKeepAlivesEnabled(false)
	go w.serve()
	return w
}

type webSocketListener struct {
	net.Listener
	o      WebSocketOptions
	server *http.Server
	conns  chan net.Conn
	err    error         // why Serve ended, once ended is closed
	ended  chan struct{} // the HTTP server has returned
	closed chan struct{} // Close was called
	once   sync.Once
}

func (w *webSocketListener) serve() {
	w.err = w.server.Serve(w.Listener)
	close(w.ended)
}

// Accept returns the next connection that was upgraded.
func (w *webSocketListener) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	case <-w.ended:
		return nil, w.err
	}
}

// Close ends the HTTP server and waits for it, and with it for requests that are being answered.
func (w *webSocketListener) Close() error {
	var err error
	w.once.Do(func() {
		close(w.closed)
		err = w.server.Close()
		<-w.ended
	})
	return err
}

// Subprotocols that are MQTT; the second is what clients of 3.1 ask for.
var subprotocols = []string{"mqtt", "mqttv3.1"}

// upgrade answers the opening handshake (RFC 6455, 4.2).
func (w *webSocketListener) upgrade(rw http.ResponseWriter, r *http.Request) {
	protocol := ""
	if i := slices.IndexFunc(tokens(r.Header, "Sec-WebSocket-Protocol"), func(p string) bool { return slices.Contains(subprotocols, p) }); i >= 0 {
		protocol = tokens(r.Header, "Sec-WebSocket-Protocol")[i]
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	switch {
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		rw.Header().Set("Upgrade", "websocket")
		http.Error(rw, "this is MQTT over WebSocket; connect with an MQTT client", http.StatusUpgradeRequired)
		return
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		rw.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(rw, "WebSocket version 13 is needed", http.StatusUpgradeRequired)
		return
	case err != nil || len(raw) != 16:
		http.Error(rw, "Sec-WebSocket-Key is not 16 bytes in base64", http.StatusBadRequest)
		return
	case protocol == "":
		http.Error(rw, "the client must offer the subprotocol mqtt (MQTT-6.0.0-3)", http.StatusBadRequest)
		return
	case !w.welcome(r):
		http.Error(rw, "pages of this origin may not connect; list it in the listener's origins", http.StatusForbidden)
		w.o.Log.Warn("WebSocket refused", "origin", r.Header.Get("Origin"), "host", r.Host, "addr", r.RemoteAddr)
		return
	}
	hijacker, ok := rw.(http.Hijacker)
	if !ok {
		http.Error(rw, "WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	nc, buf, err := hijacker.Hijack()
	if err != nil {
		w.o.Log.Debug("cannot upgrade to WebSocket", "addr", r.RemoteAddr, "err", err)
		return
	}
	c := &webSocket{Conn: nc}
	if n := buf.Reader.Buffered(); n > 0 { // it did not wait for our answer
		early, _ := buf.Reader.Peek(n)
		c.early = bytes.Clone(early)
	}
	_ = nc.SetDeadline(time.Now().Add(w.o.Timeout))
	_, err = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(key) + "\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n"))
	_ = nc.SetDeadline(time.Time{})
	if err != nil {
		_ = nc.Close()
		return
	}
	select {
	case w.conns <- c:
	case <-w.closed:
		_ = c.Close()
	}
}

// welcome keeps pages of strangers from using a visitor's browser to reach a broker that trusts loopback.
func (w *webSocketListener) welcome(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(w.o.Origins, "*") || slices.Contains(w.o.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// acceptKey is Sec-WebSocket-Accept (RFC 6455, 4.2.2); SHA-1 is what it says, nothing hangs on it.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tokens are the values of a header that is a list.
func tokens(h http.Header, name string) (list []string) {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			list = append(list, strings.TrimSpace(t))
		}
	}
	return list
}

func hasToken(h http.Header, name, want string) bool {
	return slices.ContainsFunc(tokens(h, name), func(t string) bool { return strings.EqualFold(t, want) })
}
