package mqtt

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
)

// guarded is a rig with users and rules.
type guarded struct {
	*rig
	auth *auth.Authority
}

// guard starts a server on which rules hold, with the users ann, bob and eve, each with its name as password.
func guard(t testing.TB, c auth.Config, rules ...string) *guarded {
	t.Helper()
	g := &guarded{}
	for _, text := range rules {
		r, err := auth.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Rules = append(c.Rules, r)
	}
	g.rig = newRig(t, g.options(c))
	for _, name := range []string{"ann", "bob", "eve"} {
		if err := g.auth.AddUser(t.Context(), auth.NewUser{Name: name, Password: name}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *guarded) options(c auth.Config) rigOptions {
	var store *storage.Store
	return rigOptions{
		broker: func(o *edge.Options) {
			store = o.Store
			a, err := auth.New(auth.Options{Store: store, Edge: "test", Config: c})
			if err != nil {
				panic(err)
			}
			g.auth, o.Authorize = a, a
		},
		server: func(o *Options) {
			o.Auth = g.auth
			g.auth.Watch(o.Broker.PermissionsChanged)
		},
	}
}

// as logs in with the user's name as password.
func as(user string) func(*packet.Connect) {
	return func(c *packet.Connect) { credentials(c, user, user) }
}

func credentials(c *packet.Connect, user, password string) {
	c.HasUser, c.User, c.HasPassword, c.Password = true, []byte(user), true, []byte(password)
}

func TestLogin(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user ann mqtt #")
	versions(t, func(t *testing.T, v packet.Version) {
		g.connect(v, "c", as("ann")).disconnect()
		for name, c := range map[string]struct {
			change func(*packet.Connect)
			want   packet.Reason
		}{
			"nothing":        {nil, packet.NotAuthorized},
			"wrong password": {func(c *packet.Connect) { credentials(c, "ann", "bob") }, packet.BadUserNameOrPassword},
			"no such user":   {func(c *packet.Connect) { credentials(c, "zoe", "zoe") }, packet.BadUserNameOrPassword},
			"empty password": {func(c *packet.Connect) { credentials(c, "ann", "") }, packet.BadUserNameOrPassword},
		} {
			p, a := g.connack(v, "c", c.change)
			if a.Reason != c.want {
				t.Errorf("%s: reason 0x%02x, want 0x%02x", name, byte(a.Reason), byte(c.want))
			}
			p.wantEnd(packet.Success)
		}
	})
	if s := g.srv.Stats(); s.Unknown != 12 {
		t.Errorf("%d refusals counted", s.Unknown)
	}
}

func TestAnonymousWhereAllowed(t *testing.T) {
	g := guard(t, auth.Config{Anonymous: auth.AnonymousYes}, "allow publish user anonymous mqtt open/#", "allow publish user ann mqtt #")
	c := g.connect(packet.V5, "c", nil)
	c.stored("open/x", "yes", nil)
	c.wantAck(packet.PUBACK, c.publish("shut/x", "no", 1, nil), packet.NotAuthorized)
	if _, a := g.connack(packet.V5, "d", func(c *packet.Connect) { credentials(c, "ann", "wrong") }); a.Reason != packet.BadUserNameOrPassword {
		t.Errorf("a wrong password is as good as none: 0x%02x", byte(a.Reason))
	}
}

// Too many failures from an address: it is told so, and nothing is checked any more.
func TestThrottledLogin(t *testing.T) {
	g := guard(t, auth.Config{})
	wrong := func(c *packet.Connect) { credentials(c, "ann", "wrong") }
	for n := 0; ; n++ {
		if _, a := g.connack(packet.V5, "c", wrong); a.Reason == packet.ConnectionRateExceeded {
			break
		} else if a.Reason != packet.BadUserNameOrPassword || n > 100 {
			t.Fatalf("try %d: 0x%02x", n, byte(a.Reason))
		}
	}
	if _, a := g.connack(packet.V311, "c", wrong); a.Reason != packet.ServerUnavailable {
		t.Errorf("3.1.1: 0x%02x", byte(a.Reason))
	}
}

// A client id is its user's: another cannot take it over, neither from a connection nor from the store.
func TestClientIDBelongsToItsUser(t *testing.T) {
	g := guard(t, auth.Config{Anonymous: auth.AnonymousYes}, "allow publish,subscribe mqtt #")
	stay := func(user string) func(*packet.Connect) {
		return func(c *packet.Connect) {
			if user != "" {
				credentials(c, user, user)
			}
			c.CleanStart = false
			if c.Version >= packet.V5 {
				c.Properties.SessionExpiry = 3600
				c.Properties.Mark(packet.PropSessionExpiry)
			}
		}
	}
	versions(t, func(t *testing.T, v packet.Version) {
		id := "owned" + v.String()
		first := g.connect(v, id, stay("ann"))
		first.subscribe("x/"+id, 1, nil)
		refused := func(when string) {
			t.Helper()
			for _, who := range []func(*packet.Connect){stay("eve"), stay(""), as("eve")} {
				if _, a := g.connack(v, id, who); a.Reason != packet.NotAuthorized {
					t.Errorf("%s: another user gets 0x%02x", when, byte(a.Reason))
				}
			}
		}
		refused("connected")
		first.wantNothing() // it is still there
		second := g.connect(v, id, stay("ann"))
		first.wantEnd(packet.SessionTakenOver)
		second.disconnect()
		refused("stored")
		_, a := g.connack(v, id, stay("ann"))
		if v > packet.V31 && !a.SessionPresent {
			t.Error("the session is gone")
		}
	})
	// What was made before anyone had to log in goes over to who logs in first.
	g.connect(packet.V311, "old", stay("")).disconnect()
	g.connect(packet.V311, "old", stay("ann")).disconnect()
	if _, a := g.connack(packet.V311, "old", stay("")); a.Reason != packet.NotAuthorized {
		t.Errorf("back to nobody: 0x%02x", byte(a.Reason))
	}
}

func TestWillIsAuthorized(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user ann mqtt wills/{client}")
	versions(t, func(t *testing.T, v packet.Version) {
		with := func(topic string) func(*packet.Connect) {
			return func(c *packet.Connect) {
				credentials(c, "ann", "ann")
				c.HasWill, c.WillTopic, c.WillPayload = true, []byte(topic), []byte("gone")
			}
		}
		if _, a := g.connack(v, "c", with("wills/d")); a.Reason != packet.NotAuthorized {
			t.Errorf("another client's will: 0x%02x", byte(a.Reason))
		}
		g.connect(v, "c", with("wills/c")).disconnect()
	})
}

// A rule that is taken away ends what it allowed, without a reconnect: publishing and subscriptions.
func TestRulesChange(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user bob mqtt #")
	allow := func() {
		r, err := auth.ParseRule("allow publish,subscribe user ann mqtt a/#")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.auth.AddRules(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	allow()
	ann, bob := g.connect(packet.V5, "ann", as("ann")), g.connect(packet.V5, "bob", as("bob"))
	eventuallyAllowed := func(want packet.Reason) {
		t.Helper()
		eventually(t, "the rule holds", func() bool {
			id := ann.publish("a/own", "x", 1, nil)
			for {
				first, body := ann.want2(t, packet.PUBACK, packet.PUBLISH)
				if packet.TypeOf(first) == packet.PUBLISH {
					continue
				}
				var a packet.Ack
				if err := a.Decode(ann.v, first, body); err != nil || a.ID != id {
					t.Fatal(err)
				}
				return a.Reason == want
			}
		})
	}
	eventuallyAllowed(packet.Success)
	if got := ann.subscribe("a/news", 0, nil); got[0].Failed() {
		t.Fatalf("SUBACK 0x%02x", byte(got[0]))
	}
	bob.stored("a/news", "one", nil)
	ann.wantMessage("a/news", "one", 0)
	if _, err := g.auth.DeleteRules(t.Context(), func(r auth.Rule) bool { return r.User == "ann" }); err != nil {
		t.Fatal(err)
	}
	eventuallyAllowed(packet.NotAuthorized)
	eventually(t, "the subscription ends", func() bool { return g.srv.Stats().Subscriptions == 0 })
	bob.stored("a/news", "two", nil)
	ann.wantNothing()
	allow()
	eventuallyAllowed(packet.Success)
	if got := ann.subscribe("a/news", 0, nil); got[0].Failed() {
		t.Fatalf("SUBACK 0x%02x", byte(got[0]))
	}
	bob.stored("a/news", "three", nil)
	ann.wantMessage("a/news", "three", 0)
}

// want2 reads a packet of one of two types.
func (p *peer) want2(t *testing.T, a, b packet.Type) (first byte, body []byte) {
	t.Helper()
	first, body, err := p.read()
	if err != nil || packet.TypeOf(first) != a && packet.TypeOf(first) != b {
		t.Fatalf("want %s or %s, got %s, %v", a, b, packet.TypeOf(first), err)
	}
	return first, body
}

// What a session subscribed to is asked about again when it is resumed.
func TestResumedSubscriptionsAreAuthorized(t *testing.T) {
	g := guard(t, auth.Config{}, "allow publish user bob mqtt #")
	r, err := auth.ParseRule("allow subscribe user ann mqtt a/#")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.auth.AddRules(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	stay := func(c *packet.Connect) {
		credentials(c, "ann", "ann")
		c.CleanStart = false
	}
	ann := g.connect(packet.V311, "ann", stay)
	ann.subscribe("a/news", 1, nil)
	ann.disconnect()
	if _, err := g.auth.DeleteRules(t.Context(), func(auth.Rule) bool { return true }); err != nil {
		t.Fatal(err)
	}
	bob := g.connect(packet.V311, "bob", as("bob"))
	bob.stored("a/news", "secret", nil)
	ann = g.connect(packet.V311, "ann", stay)
	ann.wantNothing()
	ann.disconnect()
	if err := g.auth.AddRules(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	ann = g.connect(packet.V311, "ann", stay)
	bob.stored("a/news", "back", nil)
	for m := ann.wantPublish(); string(m.Payload) != "back"; m = ann.wantPublish() {
		t.Logf("%s", m.Payload)
	}
}

// Users who are deleted, or whose password changed, are disconnected.
func TestLoginsEnd(t *testing.T) {
	g := guard(t, auth.Config{})
	a, b, other := g.connect(packet.V5, "a", as("ann")), g.connect(packet.V5, "b", as("bob")), g.connect(packet.V5, "e", as("eve"))
	if err := g.auth.DeleteUser(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	a.wantEnd(packet.NotAuthorized)
	if err := g.auth.SetPassword(t.Context(), "bob", "other"); err != nil {
		t.Fatal(err)
	}
	b.wantEnd(packet.NotAuthorized)
	other.wantNothing()
}

// CONNECT may not be as large as other packets while nobody knows whose it is, and has to come whole in time.
func TestConnectIsBounded(t *testing.T) {
	g := &guarded{}
	o := g.options(auth.Config{})
	server := o.server
	o.server = func(o *Options) {
		server(o)
		o.ConnectTimeout = 50 * time.Millisecond
	}
	g.rig = newRig(t, o)
	p := g.dial(packet.V5)
	p.write([]byte{0x10, 0xff, 0xff, 0x3f, 0, 4, 'M', 'Q', 'T', 'T'}) // 1 MiB follows, or not
	endsWithoutWords(t, p)
	p = g.dial(packet.V5)
	p.write([]byte{0x10, 100, 0, 4, 'M', 'Q'})
	endsWithoutWords(t, p)
	if s := g.srv.Stats(); s.Clients != 0 {
		t.Errorf("figures %+v", s)
	}
}

// tcpPair is both ends of a connection.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = near.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { _ = near.Close() })
	return near, far
}

// TestTLSHandshakeIsBounded: who opens a TCP connection to a TLS listener and says nothing is not kept.
func TestTLSHandshakeIsBounded(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.ConnectTimeout = 50 * time.Millisecond }})
	near, far := tcpPair(t)
	r.srv.accept(tls.Server(far, &tls.Config{MinVersion: tls.VersionTLS12}))
	if _, err := near.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is kept: %v", err)
	}
}
