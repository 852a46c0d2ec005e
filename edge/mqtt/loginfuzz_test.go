package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
	"rivulet/edge/mqtt/packet"
)

// FuzzLogin sends whatever to a server on which nobody is known yet: bytes as they are, or the messages of enhanced authentication. It
// must neither panic, nor let anyone in, nor keep the connection.
func FuzzLogin(f *testing.F) {
	g := &guarded{}
	o := g.options(auth.Config{JWT: authtest.JWT(), Anonymous: auth.AnonymousNo})
	server := o.server
	o.server = func(o *Options) {
		server(o)
		o.ConnectTimeout, o.CloseTimeout = 5*time.Second, 10*time.Millisecond
	}
	g.rig = newRig(f, o)
	if err := g.auth.AddUser(f.Context(), auth.NewUser{Name: "ann", Password: "ann"}); err != nil {
		f.Fatal(err)
	}
	connect := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte("c")}
	f.Add(connect.Append(nil), "", []byte{}, []byte{})
	credentials(&connect, "ann", "wrong")
	f.Add(connect.Append(nil), "", []byte{0xe0, 0}, []byte{})
	f.Add([]byte{}, auth.SHA256, []byte("n,,n=ann,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add([]byte{}, auth.SHA512, []byte("y,,n=ann,r=abc"), []byte{})
	f.Add([]byte{}, auth.MechanismPlain, []byte("\x00ann\x00wrong"), []byte{})
	f.Add([]byte{}, auth.MechanismOAuthBearer, []byte("n,,\x01auth=Bearer e.e.e\x01\x01"), []byte{1})
	f.Fuzz(func(t *testing.T, raw []byte, method string, first, second []byte) {
		nc, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := &peer{t: t, nc: nc, v: packet.V5}
		if len(raw) > 0 {
			_, _ = p.nc.Write(raw) // it may be refused before it is whole
			_, _ = p.nc.Write(first)
		} else {
			c := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte("c")}
			withMethod(method, first)(&c)
			a := packet.Disconnect{Reason: packet.ContinueAuthentication}
			a.Properties.AuthMethod, a.Properties.AuthData = []byte(method), second
			a.Properties.Mark(packet.PropAuthMethod, packet.PropAuthData)
			_, _ = p.nc.Write(a.Append(c.Append(nil), packet.AUTH, packet.V5))
		}
		if half, ok := p.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		for {
			kind, body, err := p.read()
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("the connection is kept")
				}
				if !errors.Is(err, io.EOF) {
					t.Logf("the connection ends: %v", err)
				}
				return
			}
			if packet.TypeOf(kind) == packet.CONNACK && len(body) > 1 && body[1] == 0 {
				t.Fatalf("let in: %x %q %q %q", raw, method, first, second)
			}
		}
	})
}
