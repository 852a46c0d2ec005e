package listener

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"rivulet/edge/gate"
)

// proxyHeader is what a proxy sends for a client.
func proxyHeader(t testing.TB, client string) []byte {
	t.Helper()
	a, err := netip.ParseAddrPort(client)
	if err != nil {
		t.Fatal(err)
	}
	ip, family := a.Addr().AsSlice(), byte(proxyTCP4)
	if len(ip) == 16 {
		family = proxyTCP6
	}
	body := append(append([]byte(nil), ip...), make([]byte, len(ip))...)
	body = binary.BigEndian.AppendUint16(body, a.Port())
	body = append(body, 0, 0)
	body = append(body, 4, 0, 1, 0) // a TLV that nobody asked for
	b := append([]byte(proxySignature), 0x21, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

// proxiedPair is a connection's near end and our side of it.
func proxiedPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Proxy(tcp)
	defer func() { _ = l.Close() }()
	if near, err = net.Dial("tcp", tcp.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

func TestProxyTellsTheClient(t *testing.T) {
	for _, client := range []string{"192.0.2.7:1000", "[2001:db8::7]:1000"} {
		near, far := proxiedPair(t)
		b := append(proxyHeader(t, client), "hello"...)
		// A deadline in the middle of the header loses nothing of it.
		if _, err := near.Write(b[:20]); err != nil {
			t.Fatal(err)
		}
		_ = far.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := far.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		_ = far.SetReadDeadline(time.Time{})
		if _, err := near.Write(b[20:]); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello" {
			t.Fatal(string(got), err)
		}
		if a := far.RemoteAddr().String(); a != client {
			t.Errorf("client is %s, want %s", a, client)
		}
	}
}

func TestProxySpeaksForItself(t *testing.T) {
	near, far := proxiedPair(t)
	local := append([]byte(proxySignature), 0x20, 0x00, 0, 0)
	if _, err := near.Write(append(local, 'x')); err != nil {
		t.Fatal(err)
	}
	if n, err := far.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if far.RemoteAddr().String() != near.LocalAddr().String() {
		t.Errorf("a health check comes from %s", far.RemoteAddr())
	}
}

func TestProxyHeaderIsNeeded(t *testing.T) {
	short := proxyHeader(t, "192.0.2.7:1000")
	short[15] = 8
	for name, b := range map[string][]byte{
		"CONNECT":    {0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'c'},
		"version 1":  []byte("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"),
		"version 3":  append([]byte(proxySignature), 0x31, 0x11, 0, 12, 0, 0, 0, 0),
		"command 2":  append([]byte(proxySignature), 0x22, 0x11, 0, 0),
		"too long":   append([]byte(proxySignature), 0x21, 0x11, 0xFF, 0xFF),
		"cut off":    short,
		"not enough": []byte(proxySignature),
	} {
		near, far := proxiedPair(t)
		if _, err := near.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = near.(*net.TCPConn).CloseWrite()
		for range 2 { // and it stays refused
			if n, err := far.Read(make([]byte, 10)); n != 0 || err == nil {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
	}
}

func FuzzProxy(f *testing.F) {
	f.Add(proxyHeader(f, "192.0.2.7:1000"))
	f.Add(proxyHeader(f, "[2001:db8::7]:1"))
	f.Add(append([]byte(proxySignature), 0x20, 0x00, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < proxyPrefix {
			return
		}
		n, err := proxyLength(b)
		if err != nil || len(b) < proxyPrefix+n {
			return
		}
		if addr, err := parseProxy(b[:proxyPrefix+n]); err == nil && addr != nil && !addr.(*net.TCPAddr).AddrPort().IsValid() {
			t.Fatalf("%x gave %v", b, addr)
		}
	})
}

// The address that the header tells is the one that the gate counts.
func TestGateCountsTheProxiedClient(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := gate.New(gate.Options{Proxied: true, PerAddress: 1})
	l := Proxy(g.Listener(tcp))
	defer func() { _ = l.Close() }()
	read := func(client string) (far net.Conn, err error) {
		near, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = near.Close() })
		if _, err := near.Write(append(proxyHeader(t, client), 'x')); err != nil {
			t.Fatal(err)
		}
		if far, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = far.Close() })
		_, err = far.Read(make([]byte, 1))
		return far, err
	}
	first, err := read("192.0.2.7:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read("192.0.2.7:2"); !errors.Is(err, errTooMany) {
		t.Errorf("a second connection: %v", err)
	}
	if _, err := read("192.0.2.8:3"); err != nil {
		t.Errorf("another client: %v", err)
	}
	_ = first.Close()
	if _, err := read("192.0.2.7:4"); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
	if s := g.Stats(); s.RefusedAddress != 1 {
		t.Errorf("figures %+v", s)
	}
}
