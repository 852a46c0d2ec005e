package listener

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listening is a WebSocket listener on a free port.
func listening(t *testing.T, o WebSocketOptions) (net.Listener, string) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := WebSocket(tcp, o)
	t.Cleanup(func() { _ = l.Close() })
	return l, tcp.Addr().String()
}

// pair is a client of the library and our side of its connection.
func pair(t *testing.T) (*websocket.Conn, net.Conn) {
	t.Helper()
	l, addr := listening(t, WebSocketOptions{})
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	client, resp, err := websocket.Dial(t.Context(), "ws://"+addr+"/mqtt", &websocket.DialOptions{
		Subprotocols: []string{"other", "mqtt"}, HTTPClient: &http.Client{Transport: &http.Transport{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := client.Subprotocol(); p != "mqtt" {
		t.Errorf("subprotocol %q", p)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	server := <-accepted
	t.Cleanup(func() { _ = server.Close(); _ = client.CloseNow() })
	return client, server
}

func TestBinaryFramesAreAStream(t *testing.T) {
	client, server := pair(t)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 300_000} {
		want := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		sent := make(chan error, 1)
		go func() { sent <- client.Write(t.Context(), websocket.MessageBinary, want) }()
		got := make([]byte, size)
		if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v, same: %v", size, err, bytes.Equal(got, want))
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := server.Write(want)
			sent <- err
		}()
		client.SetReadLimit(1 << 20)
		kind, back, err := client.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(back, want) {
			t.Fatalf("back, %d bytes: %v %v %d", size, err, kind, len(back))
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// A deadline interrupts a Read and harms nothing: the server's keep-alive is built on that.
func TestDeadlineHarmsNothing(t *testing.T) {
	client, server := pair(t)
	_ = server.SetReadDeadline(time.Unix(1, 0))
	if _, err := server.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Time{})
	if err := client.Write(t.Context(), websocket.MessageBinary, []byte("later")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "later" {
		t.Fatal(string(got), err)
	}
}

func TestPingAndClose(t *testing.T) {
	client, server := pair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 100))
		ended <- err
	}()
	closing := client.CloseRead(t.Context())
	for range 3 {
		if err := client.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Fatal(err)
	}
	<-closing.Done()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Fatalf("after a Close frame: %v", err)
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write behind our Close frame: %v", err)
	}
}

func TestCloseWriteLetsThePeerRead(t *testing.T) {
	client, server := pair(t)
	if _, err := server.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := server.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := client.Read(t.Context()); err != nil || string(got) != "last words" {
		t.Fatal(string(got), err)
	}
	if _, _, err := client.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the peer's answer: %v", err)
	}
}

// MQTT-6.0.0-1.
func TestTextFrameEndsIt(t *testing.T) {
	client, server := pair(t)
	if err := client.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	var e *frameError
	if _, err := server.Read(make([]byte, 10)); !errors.As(err, &e) || e.status != closeUnsupported {
		t.Fatal(err)
	}
	if _, _, err := client.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Fatal(err)
	}
}

func TestHandshake(t *testing.T) {
	l, addr := listening(t, WebSocketOptions{Origins: []string{"https://dash.example"}})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	good := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqttv3.1, mqtt",
	}
	for _, c := range []struct {
		name, path string
		change     map[string]string
		want       string
	}{
		{"RFC 6455's own example", "/mqtt", nil, "101 Switching Protocols"},
		{"root", "/", nil, "101 Switching Protocols"},
		{"elsewhere", "/other", nil, "404 Not Found"},
		{"a browser's visit", "/", map[string]string{"Connection": "close", "Upgrade": ""}, "426 Upgrade Required"},
		{"old version", "/", map[string]string{"Sec-WebSocket-Version": "8"}, "426 Upgrade Required"},
		{"short key", "/", map[string]string{"Sec-WebSocket-Key": "AAAA"}, "400 Bad Request"},
		{"no subprotocol", "/", map[string]string{"Sec-WebSocket-Protocol": ""}, "400 Bad Request"},
		{"another subprotocol", "/", map[string]string{"Sec-WebSocket-Protocol": "soap"}, "400 Bad Request"},
		{"own origin", "/", map[string]string{"Origin": "http://" + addr}, "101 Switching Protocols"},
		{"listed origin", "/", map[string]string{"Origin": "https://dash.example"}, "101 Switching Protocols"},
		{"a stranger's page", "/", map[string]string{"Origin": "https://evil.example"}, "403 Forbidden"},
		{"a page without origin", "/", map[string]string{"Origin": "null"}, "403 Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			head := "GET " + c.path + " HTTP/1.1\r\nHost: " + addr + "\r\n"
			for k, v := range good {
				if w, ok := c.change[k]; ok {
					v = w
				}
				head += k + ": " + v + "\r\n"
			}
			if o := c.change["Origin"]; o != "" {
				head += "Origin: " + o + "\r\n"
			}
			if _, err := nc.Write([]byte(head + "\r\n")); err != nil {
				t.Fatal(err)
			}
			_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
			answer, _ := io.ReadAll(nc)
			status, rest, _ := strings.Cut(string(answer), "\r\n")
			if status != "HTTP/1.1 "+c.want {
				t.Fatalf("%s, want %s", status, c.want)
			}
			if strings.HasPrefix(c.want, "101") && (!strings.Contains(rest, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") || !strings.Contains(rest, "Sec-WebSocket-Protocol: mqttv3.1\r\n")) {
				t.Error(rest)
			}
		})
	}
}

// What a client sends with its handshake, before our answer, is not lost, in one frame or in pieces.
func TestEarlyData(t *testing.T) {
	l, addr := listening(t, WebSocketOptions{})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	head := "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	if _, err := nc.Write(append([]byte(head), masked(opBinary, true, []byte("early"))...)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "early" {
		t.Fatal(string(got), err)
	}
}

func TestSecureWebSocketBehindProxy(t *testing.T) {
	cert := selfSigned(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := WebSocket(tls.NewListener(Proxy(tcp), &tls.Config{Certificates: []tls.Certificate{cert}}), WebSocketOptions{})
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				_, err = nc.Write(proxyHeader(t, "203.0.113.9:4711"))
			}
			return nc, err
		},
	}
	client, _, err := websocket.Dial(t.Context(), "wss://"+tcp.Addr().String()+"/mqtt", &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: tr},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.CloseNow() }()
	server := <-accepted
	defer func() { _ = server.Close() }()
	if a := server.RemoteAddr().String(); a != "203.0.113.9:4711" {
		t.Errorf("client is %s", a)
	}
	if err := client.Write(t.Context(), websocket.MessageBinary, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}
