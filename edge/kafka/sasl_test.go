package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rivulet/edge"
	"rivulet/edge/auth"
	"rivulet/edge/auth/authtest"
)

func TestSASLMechanisms(t *testing.T) {
	b := startSecure(t, auth.Config{JWT: authtest.JWT()}, []string{"allow write,describe user ann topic t"}, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	ann, wrong := "ann", "wrong"
	bearer := func(token string) sasl.Mechanism { return oauth.Auth{Token: token}.AsMechanism() }
	for name, pair := range map[string][2]sasl.Mechanism{
		"PLAIN":         {plain.Auth{User: ann, Pass: ann}.AsMechanism(), plain.Auth{User: ann, Pass: wrong}.AsMechanism()},
		"SCRAM-SHA-256": {scram.Auth{User: ann, Pass: ann}.AsSha256Mechanism(), scram.Auth{User: ann, Pass: wrong}.AsSha256Mechanism()},
		"SCRAM-SHA-512": {scram.Auth{User: ann, Pass: ann}.AsSha512Mechanism(), scram.Auth{User: "zoe", Pass: ann}.AsSha512Mechanism()},
		"OAUTHBEARER":   {bearer(authtest.Token(ann, time.Hour)), bearer(authtest.Token(ann, time.Hour) + "x")},
	} {
		t.Run(name, func(t *testing.T) {
			produce := func(m sasl.Mechanism) error {
				cl := b.client(kgo.SASL(m), kgo.RequestRetries(0), kgo.RecordRetries(1))
				return cl.ProduceSync(withTimeout(t), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr()
			}
			if err := produce(pair[0]); err != nil {
				t.Errorf("the right one: %v", err)
			}
			r := dial(b)
			defer r.close()
			code, _ := r.authenticate(pair[1], 2)
			if code != kerr.SaslAuthenticationFailed.Code {
				t.Errorf("the wrong one: %v", kerr.ErrorForCode(code))
			}
			r.wantClosed()
		})
	}
}

// authenticate goes through SASL with requests of a version, and returns the last answer.
func (r *rawClient) authenticate(m sasl.Mechanism, version int16) (int16, *kmsg.SASLAuthenticateResponse) {
	r.t.Helper()
	hand := ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: m.Name()}, 1)
	if hand.ErrorCode != 0 {
		return hand.ErrorCode, nil
	}
	session, message, err := m.Authenticate(r.t.Context(), "host")
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.SASLAuthBytes = message
		resp := ask[*kmsg.SASLAuthenticateResponse](r, req, version)
		if resp.ErrorCode != 0 {
			return resp.ErrorCode, resp
		}
		done, next, err := session.Challenge(resp.SASLAuthBytes)
		if done {
			return 0, resp
		}
		if err != nil { // RFC 7628: a refusal is acknowledged
			next = []byte{1}
		}
		message = next
	}
}

// TestSASLHandshakeVersion0 is how kafka-python 2.0 does it: bare tokens instead of SaslAuthenticate.
func TestSASLHandshakeVersion0(t *testing.T) {
	b := startSecure(t, auth.Config{}, nil, Options{})
	for _, m := range []sasl.Mechanism{
		plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), scram.Auth{User: "ann", Pass: "ann"}.AsSha256Mechanism(),
	} {
		r := dial(b)
		if got := ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: m.Name()}, 0); got.ErrorCode != 0 {
			t.Fatalf("handshake: %+v", got)
		}
		session, message, err := m.Authenticate(t.Context(), "host")
		for done := false; !done; {
			if err != nil {
				t.Fatal(err)
			}
			r.sendBytes(message)
			done, message, err = session.Challenge(r.receive())
		}
		if got := ask[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 1); len(got.Brokers) != 1 {
			t.Errorf("%s: metadata %+v", m.Name(), got)
		}
		r.close()
	}
	r := dial(b)
	defer r.close()
	ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 0)
	r.sendBytes([]byte("\x00ann\x00wrong"))
	r.wantClosed()
}

func TestSASLStates(t *testing.T) {
	b := startSecure(t, auth.Config{}, nil, Options{})
	r := dial(b)
	if got := ask[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 3); got.ErrorCode != 0 {
		t.Errorf("ApiVersions before authentication: %+v", got)
	}
	if got := ask[*kmsg.SASLAuthenticateResponse](r, kmsg.NewPtrSASLAuthenticateRequest(), 1); got.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("SaslAuthenticate without a handshake: %+v", got)
	}
	got := ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "OTHER"}, 1)
	if got.ErrorCode != kerr.UnsupportedSaslMechanism.Code || !slices.Equal(got.SupportedMechanisms, []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}) {
		t.Errorf("another mechanism: %+v", got)
	}
	got = ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "OAUTHBEARER"}, 1)
	if got.ErrorCode != kerr.UnsupportedSaslMechanism.Code {
		t.Errorf("tokens where none are configured: %+v", got)
	}
	ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 1)
	if got := ask[*kmsg.SASLHandshakeResponse](r, &kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 1); got.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("a handshake after a handshake: %+v", got)
	}
	r.send(kmsg.NewPtrMetadataRequest(), 5)
	r.wantClosed()
	r.close()
	// A request that is larger than a login is not read before one.
	r = dial(b)
	defer r.close()
	if _, err := r.nc.Write(binary.BigEndian.AppendUint32(nil, maxUnknown+1)); err != nil {
		t.Fatal(err)
	}
	r.wantClosed()
}

// TestReauthentication: a login by token has a lifetime, is renewed in time, and ends the connection when it is not (KIP-368).
func TestReauthentication(t *testing.T) {
	now := time.Now()
	clock := make(chan time.Time, 1)
	clock <- now
	read := func() time.Time {
		at := <-clock
		clock <- at
		return at
	}
	b := startSecure(t, auth.Config{JWT: authtest.JWT()}, []string{"allow describe user ann topic *"}, Options{Now: read})
	bearer := func(user string, life time.Duration) sasl.Mechanism {
		return oauth.Auth{Token: authtest.Token(user, life)}.AsMechanism()
	}
	r := dial(b)
	defer r.close()
	if code, resp := r.authenticate(bearer("ann", 10*time.Minute), 1); code != 0 || resp.SessionLifetimeMillis < 590_000 || resp.SessionLifetimeMillis > 631_000 {
		t.Fatalf("%v, %+v", kerr.ErrorForCode(code), resp)
	}
	if code, resp := r.authenticate(bearer("ann", 20*time.Minute), 1); code != 0 || resp.SessionLifetimeMillis < 1_190_000 {
		t.Fatalf("again: %v, %+v", kerr.ErrorForCode(code), resp)
	}
	<-clock
	clock <- now.Add(15 * time.Minute)
	ask[*kmsg.MetadataResponse](r, kmsg.NewPtrMetadataRequest(), 5) // the first token would have expired
	<-clock
	clock <- now.Add(25 * time.Minute)
	ask[*kmsg.ApiVersionsResponse](r, kmsg.NewPtrApiVersionsRequest(), 3)
	r.send(kmsg.NewPtrMetadataRequest(), 5)
	r.wantClosed()

	other := dial(b)
	defer other.close()
	if code, _ := other.authenticate(bearer("ann", time.Hour), 1); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	if code, _ := other.authenticate(bearer("bob", time.Hour), 1); code != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("another user on the same connection: %v", kerr.ErrorForCode(code))
	}
	other.wantClosed()
}

// Logins end when their user is deleted, also on connections that are idle.
func TestLoginsEnd(t *testing.T) {
	b := startSecure(t, auth.Config{}, nil, Options{})
	r, other := dial(b), dial(b)
	defer r.close()
	defer other.close()
	for user, c := range map[string]*rawClient{"ann": r, "bob": other} {
		if code, _ := c.authenticate(plain.Auth{User: user, Pass: user}.AsMechanism(), 2); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
	}
	if err := b.auth.DeleteUser(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	r.wantClosed()
	ask[*kmsg.MetadataResponse](other, kmsg.NewPtrMetadataRequest(), 5)
}

// A Fetch that waits for records gets none that come after its right, or its user, is gone.
func TestRightsEndWhileAFetchWaits(t *testing.T) {
	for name, take := range map[string]func(b *broker) error{
		"rule": func(b *broker) error {
			return b.auth.AddRules(t.Context(), auth.Rule{Deny: true, Actions: auth.Read, User: "ann", Kind: auth.KindTopic, Name: "t"})
		},
		"user": func(b *broker) error { return b.auth.DeleteUser(t.Context(), "ann") },
	} {
		t.Run(name, func(t *testing.T) {
			b := startSecure(t, auth.Config{}, []string{"allow all user bob", "allow read user ann topic *"}, Options{},
				edge.TopicSpec{Name: "t", Partitions: 1}, edge.TopicSpec{Name: "u", Partitions: 1})
			r := dial(b)
			defer r.close()
			if code, _ := r.authenticate(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), 2); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
			req := fetchRequest("t", 0, 0)
			req.Topics = append(req.Topics, fetchRequest("u", 0, 0).Topics...)
			req.MaxWaitMillis = 200000
			r.send(req, 12)
			b.awaitRead()
			if err := take(b); err != nil {
				t.Fatal(err)
			}
			// It is answered at once, not after its time.
			got := kmsg.NewPtrFetchResponse()
			got.SetVersion(12)
			began := time.Now()
			r.decode(got, 3)
			if d := time.Since(began); d > time.Minute {
				t.Errorf("answered after %v", d)
			}
			want := map[string]int16{"t": kerr.TopicAuthorizationFailed.Code}
			if name == "user" {
				want["u"] = want["t"]
			}
			for _, topic := range got.Topics {
				if p := topic.Partitions[0]; p.ErrorCode != want[topic.Topic] || len(p.RecordBatches) > 0 {
					t.Errorf("%s: %v, %d bytes", topic.Topic, kerr.ErrorForCode(p.ErrorCode), len(p.RecordBatches))
				}
			}
		})
	}
}

// TestLoginIsBounded: who says nothing, or says it too slowly, is not kept.
func TestLoginIsBounded(t *testing.T) {
	b := startSecure(t, auth.Config{}, nil, Options{LoginTimeout: 50 * time.Millisecond})
	quiet, slow := dial(b), dial(b)
	defer quiet.close()
	defer slow.close()
	if _, err := slow.nc.Write([]byte{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	quiet.wantClosed()
	slow.wantClosed()
}

func TestThrottledLogin(t *testing.T) {
	b := startSecure(t, auth.Config{}, nil, Options{})
	for n := 0; ; n++ {
		r := dial(b)
		code, resp := r.authenticate(plain.Auth{User: "ann", Pass: "wrong"}.AsMechanism(), 1)
		r.close()
		if code != kerr.SaslAuthenticationFailed.Code || n > 100 {
			t.Fatalf("try %d: %v", n, kerr.ErrorForCode(code))
		}
		if *resp.ErrorMessage != "authentication failed: "+auth.ErrDenied.Error() {
			break // it says how long to wait
		}
	}
}

// FuzzSASL sends whatever to a server on which nobody is known yet: it must neither panic nor let anyone in.
func FuzzSASL(f *testing.F) {
	b := startSecure(f, auth.Config{JWT: authtest.JWT()}, nil, Options{LoginTimeout: 5 * time.Second})
	for _, mechanism := range b.auth.Mechanisms() {
		f.Add(mechanism, []byte("\x00ann\x00wrong"), []byte("c=biws,r=x,p=AAAA"), false)
		f.Add(mechanism, []byte("n,,n=ann,r=abc"), []byte("\x01"), true)
		f.Add(mechanism, []byte("n,,\x01auth=Bearer e.e.e\x01\x01"), []byte{}, false)
	}
	f.Fuzz(func(t *testing.T, mechanism string, first, second []byte, bare bool) {
		var d net.Dialer
		nc, err := d.DialContext(context.Background(), "tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		r := &rawClient{t: t, nc: nc}
		defer r.close()
		if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		version := int16(1)
		if bare {
			version = 0
		}
		r.send(&kmsg.SASLHandshakeRequest{Mechanism: mechanism}, version)
		for _, m := range [][]byte{first, second} {
			if bare {
				r.put(m)
				continue
			}
			req := kmsg.NewPtrSASLAuthenticateRequest()
			req.SASLAuthBytes = m
			req.SetVersion(2)
			r.put(encodeRequest(req, 2, 5))
		}
		r.put(encodeRequest(kmsg.NewPtrMetadataRequest(), 5, 4242)) // would be answered if we were in
		for {
			answer, err := r.tryReceive()
			if err != nil {
				if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
					t.Fatal("the connection is kept")
				}
				return
			}
			if len(answer) >= 4 && binary.BigEndian.Uint32(answer) == 4242 {
				t.Fatalf("%q %q %q let in", mechanism, first, second)
			}
		}
	})
}

// put sends a request; the server may have hung up.
func (r *rawClient) put(b []byte) {
	_, _ = r.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

// A client may change its id with every request: rules with {client} go by the one of the request.
func TestClientIDInRules(t *testing.T) {
	b := startSecure(t, auth.Config{}, []string{"allow describe user ann topic {client}"}, Options{}, edge.TopicSpec{Name: "test", Partitions: 1}, edge.TopicSpec{Name: "other", Partitions: 1})
	r := dial(b)
	defer r.close()
	r.authenticate(plain.Auth{User: "ann", Pass: "ann"}.AsMechanism(), 2)
	for _, client := range []string{"test", "other", "test"} {
		for _, topic := range []string{"test", "other"} {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
			req.SetVersion(1)
			r.corr++
			raw := binary.BigEndian.AppendUint16([]byte{0, 3, 0, 1, 0, 0, 0, byte(r.corr)}, uint16(len(client)))
			r.sendBytes(req.AppendTo(append(raw, client...)))
			resp := kmsg.NewPtrMetadataResponse()
			resp.SetVersion(1)
			r.decode(resp, r.corr)
			if allowed := resp.Topics[0].ErrorCode == 0; allowed != (client == topic) {
				t.Errorf("client %s, topic %s: allowed %v", client, topic, allowed)
			}
		}
	}
}
