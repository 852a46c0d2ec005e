package mqtt

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"testing"
	"time"

	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
	"rivulet/edge/mqtt/packet"
)

// scramClient is the client's side of RFC 5802.
type scramClient struct {
	t              *testing.T
	h              func() hash.Hash
	user, password string
	bare           string
	verifier       string // what the server must prove
}

func newScram(t *testing.T, method, user, password string) *scramClient {
	s := &scramClient{t: t, h: sha256.New, user: user, password: password}
	if method == auth.SHA512 {
		s.h = sha512.New
	}
	s.bare = "n=" + user + ",r=fyko+d2lbbFgONRv9qkxdawL"
	return s
}

func (s *scramClient) first() []byte { return []byte("n,," + s.bare) }

func (s *scramClient) sum(key []byte, text string) []byte {
	m := hmac.New(s.h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func (s *scramClient) final(challenge []byte) []byte {
	s.t.Helper()
	fields := map[byte]string{}
	for f := range strings.SplitSeq(string(challenge), ",") {
		fields[f[0]] = f[2:]
	}
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.Atoi(fields['i'])
	if err != nil {
		s.t.Fatal(err)
	}
	salted, err := pbkdf2.Key(s.h, s.password, salt, n, s.h().Size())
	if err != nil {
		s.t.Fatal(err)
	}
	without := "c=biws,r=" + fields['r']
	message := s.bare + "," + string(challenge) + "," + without
	key := s.sum(salted, "Client Key")
	stored := s.h()
	stored.Write(key)
	proof := s.sum(stored.Sum(nil), message)
	for i := range proof {
		proof[i] ^= key[i]
	}
	s.verifier = "v=" + base64.StdEncoding.EncodeToString(s.sum(s.sum(salted, "Server Key"), message))
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof))
}

func withMethod(method string, data []byte) func(*packet.Connect) {
	return func(c *packet.Connect) {
		c.Properties.AuthMethod, c.Properties.AuthData = []byte(method), data
		c.Properties.Mark(packet.PropAuthMethod, packet.PropAuthData)
	}
}

func (p *peer) sendConnect(id string, change func(*packet.Connect)) {
	p.t.Helper()
	c := packet.Connect{Version: p.v, CleanStart: true, KeepAlive: 60, ClientID: []byte(id)}
	change(&c)
	p.write(c.Append(nil))
}

func (p *peer) sendAuth(reason packet.Reason, method string, data []byte) {
	p.t.Helper()
	a := packet.Disconnect{Reason: reason}
	if method != "" {
		a.Properties.AuthMethod = []byte(method)
		a.Properties.Mark(packet.PropAuthMethod)
	}
	if data != nil {
		a.Properties.AuthData = data
		a.Properties.Mark(packet.PropAuthData)
	}
	p.write(a.Append(nil, packet.AUTH, p.v))
}

func (p *peer) wantAuth(reason packet.Reason, method string) []byte {
	p.t.Helper()
	first, body := p.want(packet.AUTH)
	var a packet.Disconnect
	if err := a.Decode(p.v, first, body); err != nil {
		p.t.Fatal(err)
	}
	if a.Reason != reason || string(a.Properties.AuthMethod) != method {
		p.t.Fatalf("AUTH 0x%02x %s, want 0x%02x %s", byte(a.Reason), a.Properties.AuthMethod, byte(reason), method)
	}
	return a.Properties.AuthData
}

// scramLogin connects by SCRAM and checks what the server proves.
func (g *guarded) scramLogin(t *testing.T, method, user, password, id string) (*peer, packet.Connack) {
	t.Helper()
	p := g.dial(packet.V5)
	s := newScram(t, method, user, password)
	p.sendConnect(id, withMethod(method, s.first()))
	p.sendAuth(packet.ContinueAuthentication, method, s.final(p.wantAuth(packet.ContinueAuthentication, method)))
	ack := p.wantConnack()
	if ack.Reason == packet.Success && (string(ack.Properties.AuthMethod) != method || string(ack.Properties.AuthData) != s.verifier) {
		t.Errorf("CONNACK says %s %q", ack.Properties.AuthMethod, ack.Properties.AuthData) // MQTT-4.12.0-5
	}
	return p, ack
}

func TestMQTT_4_12_ScramLogin(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user ann mqtt a/{client}")
	for _, method := range []string{auth.SHA256, auth.SHA512} {
		p, ack := g.scramLogin(t, method, "ann", "ann", "c")
		if ack.Reason != packet.Success {
			t.Fatalf("%s: 0x%02x", method, byte(ack.Reason))
		}
		p.stored("a/c", "x", nil)
		p.wantAck(packet.PUBACK, p.publish("a/d", "x", 1, nil), packet.NotAuthorized)
		p.disconnect()
		for _, c := range [][2]string{{"ann", "bob"}, {"zoe", "zoe"}} {
			p, ack := g.scramLogin(t, method, c[0], c[1], "c")
			if ack.Reason != packet.BadUserNameOrPassword {
				t.Errorf("%s as %s: 0x%02x", method, c[0], byte(ack.Reason))
			}
			p.wantEnd(packet.Success)
		}
	}
}

// The will of a CONNECT whose login takes several packets is the one that it stated.
func TestWillOfAnEnhancedLogin(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish,subscribe user ann mqtt #")
	watcher := g.connect(packet.V5, "w", as("ann"))
	watcher.subscribe("will/#", 1, nil)
	p := g.dial(packet.V5)
	s := newScram(t, auth.SHA256, "ann", "ann")
	p.sendConnect("c", func(c *packet.Connect) {
		withMethod(auth.SHA256, s.first())(c)
		c.HasWill, c.WillTopic, c.WillPayload = true, []byte("will/c"), []byte(strings.Repeat("gone ", 100))
		c.WillProperties.ContentType = []byte("text/plain")
		c.WillProperties.Mark(packet.PropContentType)
	})
	p.sendAuth(packet.ContinueAuthentication, auth.SHA256, s.final(p.wantAuth(packet.ContinueAuthentication, auth.SHA256)))
	if ack := p.wantConnack(); ack.Reason != packet.Success {
		t.Fatalf("0x%02x", byte(ack.Reason))
	}
	_ = p.nc.Close()
	if m := watcher.wantPublish(); string(m.Payload) != strings.Repeat("gone ", 100) || string(m.Properties.ContentType) != "text/plain" {
		t.Errorf("will %q %q", m.Payload, m.Properties.ContentType)
	}
}

func TestEnhancedByToken(t *testing.T) {
	g := guard(t, auth.Config{JWT: authtest.JWT()})
	p := g.dial(packet.V5)
	p.sendConnect("c", withMethod(auth.MechanismOAuthBearer, []byte("n,,\x01auth=Bearer "+authtest.Token("ann", time.Hour)+"\x01\x01")))
	if ack := p.wantConnack(); ack.Reason != packet.Success || string(ack.Properties.AuthMethod) != auth.MechanismOAuthBearer {
		t.Fatalf("0x%02x", byte(ack.Reason))
	}
	// As a password it is as good.
	g.connect(packet.V311, "d", func(c *packet.Connect) { credentials(c, "ann", authtest.Token("ann", time.Hour)) })
	if _, a := g.connack(packet.V311, "e", func(c *packet.Connect) { credentials(c, "bob", authtest.Token("ann", time.Hour)) }); a.Reason != packet.BadUserNameOrPassword {
		t.Errorf("another user's token: 0x%02x", byte(a.Reason))
	}
}

func TestMQTT_4_12_Protocol(t *testing.T) {
	g := guard(t, auth.Config{})
	s := func() []byte { return newScram(t, auth.SHA256, "ann", "ann").first() }
	for name, c := range map[string]struct {
		then func(p *peer)
		want packet.Reason
	}{
		"another method":     {func(p *peer) { p.sendAuth(packet.ContinueAuthentication, auth.SHA512, []byte("x")) }, packet.ProtocolError}, // MQTT-4.12.0-5
		"no method":          {func(p *peer) { p.sendAuth(packet.ContinueAuthentication, "", nil) }, packet.ProtocolError},
		"re-authentication":  {func(p *peer) { p.sendAuth(packet.ReAuthenticate, auth.SHA256, []byte("x")) }, packet.ProtocolError},
		"PUBLISH":            {func(p *peer) { p.publish("t", "x", 0, nil) }, packet.ProtocolError},   // MQTT-3.1.2-30
		"a second CONNECT":   {func(p *peer) { p.sendConnect("c", as("ann")) }, packet.ProtocolError}, // MQTT-3.1.0-2
		"nonsense":           {func(p *peer) { p.sendAuth(packet.ContinueAuthentication, auth.SHA256, []byte("x")) }, packet.BadUserNameOrPassword},
		"a malformed packet": {func(p *peer) { p.write([]byte{0xf1, 0}) }, packet.MalformedPacket},
	} {
		t.Run(name, func(t *testing.T) {
			p := g.dial(packet.V5)
			p.t = t
			p.sendConnect("c", withMethod(auth.SHA256, s()))
			p.wantAuth(packet.ContinueAuthentication, auth.SHA256)
			c.then(p)
			if ack := p.wantConnack(); ack.Reason != c.want {
				t.Errorf("CONNACK 0x%02x, want 0x%02x", byte(ack.Reason), byte(c.want))
			}
			p.wantEnd(packet.Success)
		})
	}
	p := g.dial(packet.V5)
	p.sendConnect("c", withMethod("GSSAPI", nil))
	if ack := p.wantConnack(); ack.Reason != packet.BadAuthenticationMethod {
		t.Errorf("an unknown method: 0x%02x", byte(ack.Reason))
	}
	p = g.dial(packet.V5)
	p.sendConnect("c", withMethod(auth.SHA256, s()))
	p.wantAuth(packet.ContinueAuthentication, auth.SHA256)
	p.write((&packet.Disconnect{}).Append(nil, packet.DISCONNECT, packet.V5)) // it thinks better of it
	p.wantEnd(packet.Success)
	// Where there are no users, no method can be good.
	r := newRig(t, rigOptions{})
	p = r.dial(packet.V5)
	p.sendConnect("c", withMethod(auth.SHA256, s()))
	if ack := p.wantConnack(); ack.Reason != packet.BadAuthenticationMethod {
		t.Errorf("without users: 0x%02x", byte(ack.Reason))
	}
	plain := r.connect(packet.V5, "p", nil)
	plain.sendAuth(packet.ReAuthenticate, auth.SHA256, s()) // MQTT-4.12.0-6
	plain.wantEnd(packet.ProtocolError)
	for _, v := range []packet.Version{packet.V31, packet.V311} {
		old := r.connect(v, "o", nil)
		old.write([]byte{0xf0, 0})
		old.wantEnd(packet.ProtocolError)
	}
}

// TestMQTT_4_12_1 is re-authentication: messages go on meanwhile, and a failure is the end.
func TestMQTT_4_12_1_ReAuthentication(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user ann mqtt #")
	again := func(p *peer, user, password string) (final func()) {
		s := newScram(t, auth.SHA256, user, password)
		p.sendAuth(packet.ReAuthenticate, auth.SHA256, s.first())
		answer := s.final(p.wantAuth(packet.ContinueAuthentication, auth.SHA256))
		return func() { p.sendAuth(packet.ContinueAuthentication, auth.SHA256, answer) }
	}
	p, _ := g.scramLogin(t, auth.SHA256, "ann", "ann", "c")
	final := again(p, "ann", "ann")
	p.stored("t", "meanwhile", nil)
	final()
	p.wantAuth(packet.Success, auth.SHA256)
	p.stored("t", "afterwards", nil)
	again(p, "ann", "wrong")()
	p.wantEnd(packet.NotAuthorized)

	p, _ = g.scramLogin(t, auth.SHA256, "ann", "ann", "c")
	again(p, "bob", "bob")()
	p.wantEnd(packet.NotAuthorized)

	p, _ = g.scramLogin(t, auth.SHA256, "ann", "ann", "c")
	p.sendAuth(packet.ContinueAuthentication, auth.SHA256, []byte("x"))
	p.wantEnd(packet.ProtocolError)

	p, _ = g.scramLogin(t, auth.SHA256, "ann", "ann", "c")
	p.sendAuth(packet.ReAuthenticate, auth.SHA512, []byte("x"))
	p.wantEnd(packet.ProtocolError)
}

// A login by token ends when the token does, unless it is renewed.
func TestTokenEndsTheConnection(t *testing.T) {
	g := guard(t, auth.Config{JWT: &auth.JWT{Keys: [][]byte{authtest.KeySet()}, Leeway: time.Millisecond}})
	p := g.connect(packet.V5, "c", func(c *packet.Connect) { credentials(c, "ann", authtest.Token("ann", 3*time.Second)) })
	p.wantEnd(packet.MaximumConnectTime)
}

// certified serves TLS, where clients may show a certificate.
func (g *guarded) certified(t *testing.T, ca *authtest.CA, user string) *peer {
	t.Helper()
	near, far := tcpPair(t)
	server, err := ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client(user)
	if err != nil {
		t.Fatal(err)
	}
	g.srv.accept(tls.Server(far, server))
	return &peer{t: t, nc: tls.Client(near, client), v: packet.V5}
}

func TestLoginByCertificate(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user dev-1 mqtt {user}/#", "allow publish user ann mqtt ann/#")
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	dev := g.certified(t, ca, "dev-1")
	if ack := dev.login("c", nil); ack.Reason != packet.Success {
		t.Fatalf("0x%02x %s", byte(ack.Reason), ack.Properties.ReasonString)
	}
	dev.stored("dev-1/x", "x", nil)
	dev.wantAck(packet.PUBACK, dev.publish("dev-2/x", "x", 1, nil), packet.NotAuthorized)
	// What the client says goes over its certificate.
	ann := g.certified(t, ca, "dev-1")
	if ack := ann.login("d", as("ann")); ack.Reason != packet.Success {
		t.Fatalf("0x%02x", byte(ack.Reason))
	}
	ann.stored("ann/x", "x", nil)
	if ack := g.certified(t, ca, "dev-1").login("e", func(c *packet.Connect) { credentials(c, "ann", "wrong") }); ack.Reason != packet.BadUserNameOrPassword {
		t.Errorf("a certificate beside a wrong password: 0x%02x", byte(ack.Reason))
	}
	if ack := g.certified(t, ca, "").login("f", nil); ack.Reason != packet.NotAuthorized {
		t.Errorf("no certificate: 0x%02x", byte(ack.Reason))
	}
	if err := g.auth.UpdateUser(t.Context(), "ann", func(u *auth.User) error { u.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	ann.wantEnd(packet.NotAuthorized)
	if ack := g.certified(t, ca, "ann").login("g", nil); ack.Reason != packet.BadUserNameOrPassword {
		t.Errorf("a disabled user's certificate: 0x%02x", byte(ack.Reason))
	}
}
