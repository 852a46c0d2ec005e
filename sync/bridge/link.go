package bridge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"rivulet/edge"
)

// link is one connection.
type link struct {
	b      *Bridge
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	gone   context.Context // ends when the socket is to be closed, after what settles has settled
	hangUp context.CancelFunc
	queue  chan mqtt.Message
	client mqtt.Client
}

const connectTimeout = 10 * time.Second

// connection connects, subscribes, and returns when the connection is lost and all that came over it has settled. up is how long
// it lasted.
func (b *Bridge) connection(ctx context.Context) (up time.Duration, err error) {
	l := &link{b: b, queue: make(chan mqtt.Message, b.o.InFlight)}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.gone, l.hangUp = context.WithCancel(context.Background())
	defer l.hangUp()
	defer l.cancel(nil)
	o, err := l.options()
	if err != nil {
		return 0, err
	}
	l.client = mqtt.NewClient(o)
	var settled sync.WaitGroup
	b.inFlight.Store(0)
	settled.Go(l.store)
	defer func() {
		l.cancel(nil) // ends store
		settled.Wait()
		if !l.client.IsConnectionOpen() {
			l.hangUp() // it may wait for CONNACK, and would not end before
		}
		l.client.Disconnect(0)
	}()
	token := l.client.Connect().(*mqtt.ConnectToken)
	if err := await(l.ctx, token); err != nil {
		if errors.Is(err, packets.ErrorRefusedBadProtocolVersion) && l.withoutBit() {
			return 0, fmt.Errorf("connect: %w; it is asked without the bridge bit next", err)
		}
		return 0, fmt.Errorf("connect: %w", err)
	}
	if err := l.subscribe(token.SessionPresent()); err != nil {
		return 0, err
	}
	from := b.o.Now()
	b.mu.Lock()
	b.connects++
	b.since = from
	b.mu.Unlock()
	b.enter(StateRunning, nil)
	b.o.Log.Info("bridge is connected", "bridge", b.o.Name, "broker", b.o.URL, "resumed", token.SessionPresent())
	<-l.ctx.Done()
	b.mu.Lock()
	b.since = time.Time{}
	if ctx.Err() == nil {
		b.lost++
	}
	b.mu.Unlock()
	return b.o.Now().Sub(from), context.Cause(l.ctx)
}

// withoutBit gives the bridge bit up.
func (l *link) withoutBit() bool {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	was := !l.b.plain
	l.b.plain = true
	return was
}

func (l *link) options() (*mqtt.ClientOptions, error) {
	b := l.b
	password := ""
	if b.o.Password != nil {
		var err error
		if password, err = b.o.Password(); err != nil {
			return nil, err
		}
	}
	o := mqtt.NewClientOptions().AddBroker(b.o.URL).SetClientID(b.o.ClientID).SetCleanSession(false).SetUsername(b.o.User).SetPassword(password).
		SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetAutoAckDisabled(true).SetConnectTimeout(connectTimeout).
		SetKeepAlive(b.o.KeepAlive).SetPingTimeout(b.o.KeepAlive).SetWriteTimeout(b.o.KeepAlive).
		SetDefaultPublishHandler(l.received).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { l.cancel(errors.Join(errClosed, err)) }).
		SetCustomOpenConnectionFn(l.dial)
	if b.o.TLS != nil {
		tc, err := b.o.TLS()
		if err != nil {
			return nil, err
		}
		o.SetTLSConfig(tc)
	}
	o.ProtocolVersion = 0x84 // 3.1.1, from a bridge
	b.mu.Lock()
	if b.plain {
		o.ProtocolVersion = 4
	}
	b.mu.Unlock()
	return o, nil
}

// dial opens the connection and puts the tap on it.
func (l *link) dial(uri *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, connectTimeout)
	defer cancel()
	var nc net.Conn
	var err error
	switch uri.Scheme {
	case "ws", "wss":
		nc, err = mqtt.NewWebsocket(uri.String(), o.TLSConfig, connectTimeout, nil, nil)
	case "ssl", "tls", "mqtts":
		nc, err = (&tls.Dialer{Config: o.TLSConfig}).DialContext(ctx, "tcp", uri.Host)
	case "unix":
		nc, err = (&net.Dialer{}).DialContext(ctx, "unix", uri.Path)
	default:
		nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", uri.Host)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(l.gone, func() { _ = nc.Close() }) // it is closed already, as a rule
	return newTap(nc, l.seen), nil
}

// seen deals with what paho would answer by itself.
func (l *link) seen(list []seen) error {
	var released []uint16
	for _, s := range list {
		switch {
		case s.kind == packetPubrel:
			released = append(released, s.id)
		case !s.resumed:
			if err := l.b.ids.clear(l.ctx); err != nil {
				return err
			}
		}
	}
	return l.b.ids.forget(l.ctx, released)
}

// received is paho's handler; it is called for one message after the other.
func (l *link) received(_ mqtt.Client, m mqtt.Message) {
	l.b.received.Add(1)
	l.b.inFlight.Add(1)
	select {
	case l.queue <- m:
	case <-l.ctx.Done():
		l.b.inFlight.Add(-1) // it is sent again, unless it is QoS 0
	}
}

// subscriptionSpace of the store holds, by bridge name, what the session at the other side has subscribed to.
const subscriptionSpace = "bridge.subscriptions"

type subscribed struct {
	Broker   string   `json:"broker"`
	ClientID string   `json:"client_id"`
	Filters  []string `json:"filters"`
	QoS      byte     `json:"qos"`
}

// subscribe makes the session's subscriptions what is configured. A session that has them already is left alone: who subscribes
// again is sent everything retained again.
func (l *link) subscribe(resumed bool) error {
	b, st := l.b, l.b.o.Broker.Store()
	want := subscribed{b.o.URL, b.o.ClientID, slices.Sorted(slices.Values(b.o.Subscribe)), b.o.QoS}
	var have subscribed
	if resumed {
		value, err := st.Get(subscriptionSpace, b.o.Name)
		if err != nil {
			return fmt.Errorf("read subscriptions: %w", err)
		}
		if value != nil {
			if err := json.Unmarshal(value, &have); err != nil {
				return fmt.Errorf("read subscriptions: %w", err)
			}
		}
		if have.Broker != want.Broker || have.ClientID != want.ClientID {
			have = subscribed{}
		}
	}
	if drop := slices.DeleteFunc(slices.Clone(have.Filters), func(f string) bool { return slices.Contains(want.Filters, f) }); len(drop) > 0 {
		if err := await(l.ctx, l.client.Unsubscribe(drop...)); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
	add := map[string]byte{}
	for _, f := range want.Filters {
		if have.QoS != want.QoS || !slices.Contains(have.Filters, f) {
			add[f] = want.QoS
		}
	}
	if len(add) == 0 && len(have.Filters) == len(want.Filters) {
		return nil
	}
	if len(add) > 0 {
		token := l.client.SubscribeMultiple(add, nil).(*mqtt.SubscribeToken)
		if err := await(l.ctx, token); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		for f, granted := range token.Result() {
			switch {
			case granted > 2:
				return fmt.Errorf("subscribe to %s: the other broker refuses", f)
			case granted < want.QoS:
				b.o.Log.Warn("bridge was granted less than it asked for", "bridge", b.o.Name, "filter", f, "qos", granted)
			}
		}
	}
	value, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("encode subscriptions: %w", err)
	}
	if err := st.Do(l.ctx, &edge.Commit{Puts: []edge.Put{{Space: subscriptionSpace, Key: b.o.Name, Value: value}}}); err != nil {
		return fmt.Errorf("store subscriptions: %w", err)
	}
	return nil
}

// await waits for what paho promised.
func await(ctx context.Context, t mqtt.Token) error {
	timeout := time.NewTimer(3 * connectTimeout)
	defer timeout.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timeout.C:
		return errors.New("the other broker does not answer")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
