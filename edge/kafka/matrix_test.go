package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
)

// The permission matrix: each request that is served × each resource that it asks about × who asks. Rows are in
// matrixrows_test.go; a request without a row fails the test.

// row is one request, and what it takes to be served.
type row struct {
	key     kmsg.Key
	what    string // when a request has several rows
	version int16
	prepare func(b *broker) // what the request is about, made anew before each time
	req     func(b *broker) kmsg.Request
	// needs are what the user must be allowed, in the order in which the request asks, and what it answers without. None: everyone
	// who has logged in may do it; and with open, everyone.
	needs []need
	open  bool
	code  func(kmsg.Response) int16 // what the answer says
	ok    int16                     // what it says to who is allowed
}

type need struct {
	rule string // without allow and user: "write topic t"
	code int16
	// implied by another of the row's: only a rule that denies it keeps it from the user.
	implied bool
	// unless is another right that would do as well.
	unless string
}

// unseen is the code of what an answer leaves out for who may not see it.
const unseen int16 = -100

// asker is one who asks.
type asker struct {
	name  string
	rules []string
	want  int16
	login func(m *matrix) *rawClient
}

// matrix is a broker with a TLS listener, too.
type matrix struct {
	*broker
	ca     *authtest.CA
	secure string
}

func newMatrix(t *testing.T) *matrix {
	m := &matrix{broker: startSecure(t, auth.Config{}, nil, Options{})}
	var err error
	if m.ca, err = authtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	c, err := m.ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.secure = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(context.Background(), tls.NewListener(l, c)) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *matrix) byPassword(user string) *rawClient {
	r := dial(m.broker)
	if code, _ := r.authenticate(plain.Auth{User: user, Pass: user}.AsMechanism(), 2); code != 0 {
		m.t.Fatalf("%s: %v", user, kerr.ErrorForCode(code))
	}
	return r
}

func (m *matrix) byCertificate(user string) *rawClient {
	c, err := m.ca.Client(user)
	if err != nil {
		m.t.Fatal(err)
	}
	nc, err := (&tls.Dialer{Config: c}).DialContext(m.t.Context(), "tcp", m.secure)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	return &rawClient{t: m.t, nc: nc}
}

func as(user string) func(*matrix) *rawClient {
	return func(m *matrix) *rawClient { return m.byPassword(user) }
}

func byCertificate(user string) func(*matrix) *rawClient {
	return func(m *matrix) *rawClient { return m.byCertificate(user) }
}

func anonymously(m *matrix) *rawClient { return dial(m.broker) }

// askers are those who try a row, and what each is to get.
func (r *row) askers() []asker {
	all, first := make([]string, len(r.needs)), r.ok
	for i, n := range r.needs {
		all[i] = "allow " + withUser(n.rule, "ann")
	}
	if len(r.needs) > 0 {
		first = r.needs[0].code
	}
	list := []asker{
		{"anonymous", nil, first, anonymously},
		{"wrong user", all, first, as("bob")},
		{"wrong user by certificate", all, first, byCertificate("bob")},
		{"user without a record, by certificate", all, first, byCertificate("nobody")},
		{"right user", all, r.ok, as("ann")},
		{"right user by certificate", all, r.ok, byCertificate("ann")},
		{"who may do everything", []string{"allow all user eve"}, r.ok, as("eve")},
	}
	for i, n := range r.needs {
		denied := []string{"allow all user eve", "deny " + withUser(n.rule, "eve")}
		if n.unless != "" {
			denied = append(denied, "deny "+withUser(n.unless, "eve"))
		}
		list = append(list, asker{"denied " + n.rule, denied, n.code, as("eve")})
		if n.implied {
			continue
		}
		rest := append(append([]string{}, all[:i]...), all[i+1:]...)
		list = append(list, asker{"without " + n.rule, rest, n.code, as("ann")})
	}
	return list
}

// withUser puts the user into a rule.
func withUser(rule, user string) string {
	var actions, kind, name string
	_, _ = fmt.Sscan(rule, &actions, &kind, &name) // a cluster has no name
	return actions + " user " + user + " " + kind + " " + name
}

func (m *matrix) holds(rules []string, anonymous auth.Anonymous) {
	m.t.Helper()
	c := auth.Config{Anonymous: anonymous}
	for _, text := range rules {
		r, err := auth.ParseRule(text)
		if err != nil {
			m.t.Fatal(err)
		}
		c.Rules = append(c.Rules, r)
	}
	if err := m.auth.Reload(c); err != nil {
		m.t.Fatal(err)
	}
}

func TestPermissionMatrix(t *testing.T) {
	m := newMatrix(t)
	for _, r := range matrixRows() {
		name := r.key.Name()
		if r.what != "" {
			name += " " + r.what
		}
		t.Run(name, func(t *testing.T) {
			for _, a := range r.askers() {
				m.t = t
				m.broker.t = t
				m.holds(a.rules, auth.AnonymousYes)
				if got := m.ask(&r, &a); got != a.want {
					t.Errorf("%s: %s, want %s", a.name, codeName(got), codeName(a.want))
				}
			}
			// Where everyone has to log in, who has not gets no answer.
			m.holds([]string{"allow all"}, auth.AnonymousNo)
			r.checkUnknown(t, m)
		})
	}
	m.broker.t = t
	for _, key := range missingRows(matrixRows()) {
		t.Errorf("%s has no row in the permission matrix", key.Name())
	}
}

// missingRows lists requests that are served and have no row.
func missingRows(rows []row) (missing []kmsg.Key) {
	covered := map[kmsg.Key]bool{}
	for _, r := range rows {
		covered[r.key] = true
	}
	for _, a := range newAPITable() {
		if a != nil && !covered[a.key] {
			missing = append(missing, a.key)
		}
	}
	return missing
}

// TestMatrixNotices: a request without a row is found, and so are a hole and a false refusal.
func TestMatrixNotices(t *testing.T) {
	rows := matrixRows()
	if got := missingRows(rows[1:]); len(got) != 1 || got[0] != rows[0].key {
		t.Errorf("a missing row is found as %v", got)
	}
	m := newMatrix(t)
	for _, r := range rows {
		if r.key != kmsg.Fetch {
			continue
		}
		for _, a := range r.askers() {
			rules := []string{"allow all"} // a hole
			if a.want == r.ok {
				rules = []string{"deny all"}
			}
			m.holds(rules, auth.AnonymousYes)
			if m.ask(&r, &a) == a.want {
				t.Errorf("%s: what is wrong is not noticed", a.name)
			}
		}
	}
}

func (m *matrix) ask(r *row, a *asker) int16 {
	m.t.Helper()
	if r.prepare != nil {
		r.prepare(m.broker)
	}
	c := a.login(m)
	defer c.close()
	req := r.req(m.broker)
	c.send(req, r.version)
	resp := req.ResponseKind()
	c.decode(resp, c.corr)
	return r.code(resp)
}

// checkUnknown sends a request without a login.
func (r *row) checkUnknown(t *testing.T, m *matrix) {
	t.Helper()
	c := dial(m.broker)
	defer c.close()
	req := r.req(m.broker)
	c.send(req, r.version)
	_, err := c.tryReceive()
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error("who has not logged in is kept waiting")
	}
	if (err == nil) != r.open {
		t.Errorf("who has not logged in: answered %v, want %v", err == nil, r.open)
	}
}

func codeName(code int16) string {
	switch code {
	case 0:
		return "NONE"
	case unseen:
		return "left out"
	}
	if err := kerr.TypedErrorForCode(code); err != nil {
		return err.Message
	}
	return fmt.Sprint(code)
}

// create makes a topic, unless it is there.
func (b *broker) create(name string) {
	b.t.Helper()
	if _, err := b.edge.CreateTopic(b.t.Context(), edge.TopicSpec{Name: name, Partitions: 1}); err != nil && !errors.Is(err, edge.ErrTopicExists) {
		b.t.Fatal(err)
	}
}

func (b *broker) remove(name string) {
	b.t.Helper()
	if err := b.store.DeleteTopic(b.t.Context(), name); err != nil && !errors.Is(err, edge.ErrNoTopic) {
		b.t.Fatal(err)
	}
}

// offset makes a group with a committed offset.
func (b *broker) offset(group string) {
	b.t.Helper()
	b.create("t")
	c := edge.OffsetCommit{Group: group, Generation: -1, Offsets: []edge.GroupOffset{{Topic: "t"}}}
	if err := b.edge.Groups().CommitOffsets(b.t.Context(), &c); err != nil {
		b.t.Fatal(err)
	}
}

// producer begins with a transactional id.
func (b *broker) producer(id string) (pid int64, epoch int16) {
	b.t.Helper()
	pid, epoch, err := b.edge.Txns().Init(b.t.Context(), edge.InitProducer{TxnID: id, Timeout: time.Minute, ProducerID: -1, Epoch: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	return pid, epoch
}
