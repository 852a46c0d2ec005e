package mqtt

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
	"rivulet/edge/mqtt/packet"
)

// The permission matrix: each packet that does something × each resource that it asks about × who sends it, in each version. A
// packet that is handled and has no row fails the test.

// packetRow is one thing that a client may want to do.
type packetRow struct {
	packet packet.Type
	what   string
	need   string // "publish mqtt a/x"; "": nothing but a login
	v5     bool   // only there
	// connect changes CONNECT; do does it, and reports whether it was done, and how it was answered.
	connect func(*packet.Connect)
	do      func(g *guarded, p *peer) (done bool, reason packet.Reason)
	// refused is the answer in MQTT 5 and, before that, in 3.1 and 3.1.1.
	refused, refusedOld packet.Reason
}

func packetRows() []packetRow {
	publish := func(qos byte, change func(*packet.Publish)) func(g *guarded, p *peer) (bool, packet.Reason) {
		return func(g *guarded, p *peer) (bool, packet.Reason) {
			before := g.stored()
			reason := p.attempt("a/x", qos, change)
			p.stored("free/x", "behind it", nil) // what came before it is in the log now, or never will be
			return g.stored()-before == 2, reason
		}
	}
	subscribe := func(filter string) func(g *guarded, p *peer) (bool, packet.Reason) {
		return func(g *guarded, p *peer) (bool, packet.Reason) {
			reason := p.subscribe(filter, 1, nil)[0]
			return !reason.Failed() && g.srv.Stats().Subscriptions > 0, reason
		}
	}
	const denied = packet.NotAuthorized
	return []packetRow{
		{packet: packet.PUBLISH, what: "QoS 0", need: "publish mqtt a/x", do: publish(0, nil)},
		{packet: packet.PUBLISH, what: "QoS 1", need: "publish mqtt a/x", do: publish(1, nil), refused: denied},
		{packet: packet.PUBLISH, what: "QoS 2", need: "publish mqtt a/x", do: publish(2, nil), refused: denied},
		{packet: packet.PUBLISH, what: "retained", need: "publish mqtt a/x", do: publish(1, func(m *packet.Publish) { m.Retain = true }), refused: denied},
		{
			packet: packet.PUBLISH, what: "by alias", need: "publish mqtt a/x", v5: true, refused: denied,
			do: func(g *guarded, p *peer) (bool, packet.Reason) {
				alias := func(m *packet.Publish) {
					m.Properties.TopicAlias = 1
					m.Properties.Mark(packet.PropTopicAlias)
				}
				p.attempt("a/x", 1, alias)
				before := g.stored()
				reason := p.attempt("", 1, alias)
				return g.stored() > before, reason
			},
		},
		{packet: packet.SUBSCRIBE, need: "subscribe mqtt a/x", do: subscribe("a/x"), refused: denied, refusedOld: packet.Unspecified},
		{packet: packet.SUBSCRIBE, what: "by wildcards", need: "subscribe mqtt a/+/#", do: subscribe("a/+/x"), refused: denied, refusedOld: packet.Unspecified},
		{packet: packet.SUBSCRIBE, what: "shared", need: "subscribe mqtt a/x", do: subscribe("$share/g/a/x"), refused: denied, refusedOld: packet.Unspecified},
		{
			packet: packet.CONNECT, what: "with a will", need: "publish mqtt a/x", refused: denied, refusedOld: denied,
			connect: func(c *packet.Connect) { c.HasWill, c.WillTopic, c.WillPayload = true, []byte("a/x"), []byte("gone") },
			do:      func(*guarded, *peer) (bool, packet.Reason) { return true, packet.Success },
		},
		{packet: packet.CONNECT, do: func(*guarded, *peer) (bool, packet.Reason) { return true, packet.Success }},
		{packet: packet.PINGREQ, do: func(_ *guarded, p *peer) (bool, packet.Reason) { p.wantNothing(); return true, packet.Success }},
		{
			packet: packet.UNSUBSCRIBE, what: "of what it does not have", v5: true,
			do: func(_ *guarded, p *peer) (bool, packet.Reason) { return true, p.unsubscribe("a/x")[0] },
		},
		{packet: packet.DISCONNECT, do: func(_ *guarded, p *peer) (bool, packet.Reason) { p.disconnect(); return true, packet.Success }},
	}
}

// unasked are packets that go on with what another one began, which was asked about.
func unasked() []packet.Type {
	return []packet.Type{packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP, packet.AUTH}
}

// attempt publishes and returns the answer; a QoS 2 message that is taken is released, too.
func (p *peer) attempt(topic string, qos byte, change func(*packet.Publish)) packet.Reason {
	p.t.Helper()
	id := p.publish(topic, "x", qos, change)
	if qos == 0 {
		return packet.Success
	}
	typ := packet.PUBACK
	if qos == 2 {
		typ = packet.PUBREC
	}
	first, body := p.want(typ)
	var a packet.Ack
	if err := a.Decode(p.v, first, body); err != nil || a.ID != id {
		p.t.Fatal(a.ID, err)
	}
	if qos == 2 && !a.Reason.Failed() {
		p.write(packet.AppendAck(nil, packet.PUBREL, p.v, id, packet.Success))
		p.wantAck(packet.PUBCOMP, id, packet.Success)
	}
	return a.Reason
}

// stored is how many records the log has.
func (g *guarded) stored() (n int64) {
	for _, t := range g.broker.Store().Topics() {
		for _, p := range t.Partitions {
			_, _, high := p.Offsets()
			n += high
		}
	}
	return n
}

// sender connects as somebody; the peer is nil when CONNECT is refused.
type sender struct {
	name    string
	rules   []string
	allowed bool
	connect func(g *guarded, row *packetRow, v packet.Version) (*peer, packet.Connack)
}

func byPassword(user string) func(g *guarded, row *packetRow, v packet.Version) (*peer, packet.Connack) {
	return func(g *guarded, row *packetRow, v packet.Version) (*peer, packet.Connack) {
		return g.connack(v, "c", func(c *packet.Connect) {
			if user != "" {
				credentials(c, user, user)
			}
			if row.connect != nil {
				row.connect(c)
			}
		})
	}
}

func withCertificate(ca *authtest.CA, user string) func(g *guarded, row *packetRow, v packet.Version) (*peer, packet.Connack) {
	return func(g *guarded, row *packetRow, v packet.Version) (*peer, packet.Connack) {
		p := g.certified(g.t.(*testing.T), ca, user)
		p.v = v
		return p, p.login("c", row.connect)
	}
}

func (r *packetRow) senders(ca *authtest.CA) []sender {
	allow := []string{"allow publish mqtt free/#"}
	free := r.need == ""
	if !free {
		allow = append(allow, "allow "+withUser(r.need, "ann"))
	}
	return []sender{
		{"anonymous", allow, free, byPassword("")},
		{"wrong user", allow, free, byPassword("bob")},
		{"wrong user by certificate", allow, free, withCertificate(ca, "bob")},
		{"right user", allow, true, byPassword("ann")},
		{"right user by certificate", allow, true, withCertificate(ca, "ann")},
		{"denied by rule", []string{"allow all user eve", "deny " + withUser(cmp.Or(r.need, "publish mqtt other"), "eve")}, free, byPassword("eve")},
		{"who may do everything", []string{"allow all user eve"}, true, byPassword("eve")},
	}
}

// withUser puts the user into "publish mqtt a/x".
func withUser(rule, user string) string {
	action, resource, _ := strings.Cut(rule, " ")
	return action + " user " + user + " " + resource
}

func (g *guarded) holds(anonymous auth.Anonymous, rules ...string) {
	g.t.Helper()
	c := auth.Config{Anonymous: anonymous}
	for _, text := range rules {
		r, err := auth.ParseRule(text)
		if err != nil {
			g.t.Fatal(err)
		}
		c.Rules = append(c.Rules, r)
	}
	if err := g.auth.Reload(c); err != nil {
		g.t.Fatal(err)
	}
	g.broker.PermissionsChanged()
}

// wrong lists what a row gets wrong in a version.
func (g *guarded) wrong(r *packetRow, ca *authtest.CA, v packet.Version) (faults []string) {
	fault := func(who, what string) { faults = append(faults, who+": "+what) }
	for _, s := range r.senders(ca) {
		g.holds(auth.AnonymousYes, s.rules...)
		p, ack := s.connect(g, r, v)
		done, reason := false, ack.Reason
		if ack.Reason == packet.Success {
			done, reason = r.do(g, p)
		}
		want := packet.Success
		if !s.allowed {
			if want = r.refused; v < packet.V5 {
				want = r.refusedOld
			}
		}
		switch {
		case done != s.allowed:
			fault(s.name, "done: "+map[bool]string{true: "yes", false: "no"}[done])
		case !s.allowed && reason != want || s.allowed && reason.Failed():
			fault(s.name, "answered "+(&packet.Error{Reason: reason, Detail: "reason"}).Error())
		}
		_ = p.nc.Close()
		eventually(g.t, "the client is gone", func() bool { return g.srv.Stats().Clients == 0 })
	}
	g.holds(auth.AnonymousNo, "allow all")
	if _, ack := byPassword("")(g, r, v); ack.Reason != packet.NotAuthorized {
		fault("who has not logged in", "comes in")
	}
	return faults
}

func TestPermissionMatrix(t *testing.T) {
	g := guard(t, auth.Config{})
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range packetRows() {
		t.Run(r.packet.String()+" "+r.what, func(t *testing.T) {
			versions(t, func(t *testing.T, v packet.Version) {
				if r.v5 && v < packet.V5 {
					return
				}
				g.t = t
				for _, fault := range g.wrong(&r, ca, v) {
					t.Error(fault)
				}
			})
		})
	}
	g.t = t
	for _, name := range missingPackets(t, packetRows()) {
		t.Errorf("%s is handled and has no row in the permission matrix", name)
	}
}

// missingPackets reads which packets are handled, and lists those without a row.
func missingPackets(t *testing.T, rows []packetRow) (missing []string) {
	t.Helper()
	source, err := os.ReadFile("conn.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(source), "\nfunc (c *conn) handle(")
	body, _, ends := strings.Cut(body, "\n}\n")
	cases := regexp.MustCompile(`case packet\.([A-Z]+):`).FindAllStringSubmatch(body, -1)
	if !ok || !ends || len(cases) < 8 {
		t.Fatal("cannot find which packets conn.handle takes")
	}
	for _, c := range cases {
		has := slices.ContainsFunc(rows, func(r packetRow) bool { return r.packet.String() == c[1] }) ||
			slices.ContainsFunc(unasked(), func(p packet.Type) bool { return p.String() == c[1] })
		if !has {
			missing = append(missing, c[1])
		}
	}
	return missing
}

// TestMatrixNotices: missing rows, holes and false refusals are found.
func TestMatrixNotices(t *testing.T) {
	g := guard(t, auth.Config{})
	ca, err := authtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	if got := missingPackets(t, packetRows()[8:]); !slices.Equal(got, []string{"PUBLISH", "SUBSCRIBE"}) {
		t.Errorf("missing rows are found as %v", got)
	}
	for _, r := range packetRows() {
		if r.need == "" || r.v5 {
			continue
		}
		r.need = "publish mqtt elsewhere" // as if another right were asked for
		if len(g.wrong(&r, ca, packet.V5)) == 0 {
			t.Errorf("%s %s: a false refusal is not noticed", r.packet, r.what)
		}
		r.need = "" // as if nothing were
		if len(g.wrong(&r, ca, packet.V5)) == 0 {
			t.Errorf("%s %s: a hole is not noticed", r.packet, r.what)
		}
	}
}
