package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// link is one connection.
type link struct {
	b      *Bridge
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	gone   context.Context // ends when the socket is to be closed, after what settles has settled
	hangUp context.CancelFunc
	queue  chan mqtt.Message
	queued atomic.Int64  // bytes in queue
	room   chan struct{} // poked when something leaves it
	client mqtt.Client
	tap    *tap         // of dial, for who knows that it is connected
	asked  atomic.Int32 // filters of the SUBSCRIBE under way

	session session // of ask, answered and subscribe, which come one after the other
	unsure  bool    // the session may be another than the one that is known here

	seeing  sync.Mutex // guards what follows, and is held while packets are dealt with
	over    bool
	answers int // CONNACKs

	cut      sync.Mutex // guards cutShort
	cutShort []uint64   // which messages the tap cut short, by their place among those that came over this connection
	came     uint64     // messages; the handler's
}

const connectTimeout = 10 * time.Second

// settleTimeout bounds how long an orderly end waits for the other side to take acknowledgements. Without them it sends messages again.
const settleTimeout = 5 * time.Second

// connection connects, subscribes, and returns when the connection is lost and all that came over it has settled. up is how long
// it lasted.
func (b *Bridge) connection(ctx context.Context) (up time.Duration, err error) {
	l := &link{b: b, queue: make(chan mqtt.Message, b.o.InFlight), room: make(chan struct{}, 1)}
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
		late := time.AfterFunc(settleTimeout, l.hangUp)
		settled.Wait()
		if !l.client.IsConnectionOpen() {
			l.hangUp() // it may wait for CONNACK, and would not end before
		}
		l.client.Disconnect(uint(settleTimeout.Milliseconds())) // behind the acknowledgements; it returns when all are written
		late.Stop()
		l.seeing.Lock()
		l.over = true // what a reader that is late sees is no business of the next connection
		l.seeing.Unlock()
	}()
	token := l.client.Connect().(*mqtt.ConnectToken)
	if err := await(l.ctx, token); err != nil {
		if errors.Is(err, packets.ErrorRefusedBadProtocolVersion) && l.withoutBit() {
			return 0, fmt.Errorf("connect: %w; it is asked without the bridge bit next", err)
		}
		return 0, fmt.Errorf("connect: %w", err)
	}
	settled.Go(l.ping)
	if err := l.subscribe(); err != nil {
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

// never is how long paho waits for a PINGRESP: the tap knows better.
const never = 1000 * time.Hour

// ping tells the other side that this one lives, also while nothing that it sends is read or acknowledged. Paho does so as long as it is
// answered.
func (l *link) ping() {
	tick := time.NewTicker(l.b.o.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.tap.ping(); err != nil {
				l.cancel(fmt.Errorf("ping: %w", err))
				return
			}
		case <-l.ctx.Done():
			return
		}
	}
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
		SetKeepAlive(b.o.KeepAlive).SetPingTimeout(never).SetWriteTimeout(b.o.KeepAlive).
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
	if err := l.ctx.Err(); err != nil { // a WebSocket's dialer does not know ctx
		return nil, errors.Join(err, nc.Close())
	}
	context.AfterFunc(l.gone, func() { _ = nc.Close() }) // it is closed already, as a rule
	if err := l.ask(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	l.tap = newTap(nc, l.b.o.KeepAlive, l.seen, l.tooLarge)
	return l.tap, nil
}

var (
	errOver  = errors.New("the connection is given up")
	errTwice = errors.New("the other broker sent a second CONNACK")
)

// seen deals with what paho would answer by itself, and with what it would trip over.
func (l *link) seen(list []seen) error {
	l.seeing.Lock()
	defer l.seeing.Unlock()
	if l.over {
		return errOver
	}
	var released []uint16
	for _, s := range list {
		switch s.kind {
		case packetPubrel:
			released = append(released, s.id)
		case packetConnack:
			if l.answers++; l.answers > 1 {
				return errTwice
			}
			if err := l.answered(l.ctx, s); err != nil {
				return err
			}
		case packetSuback:
			if s.codes > int(l.asked.Load()) {
				return fmt.Errorf("subscribe: the other broker answers for %d filters, it was asked for %d", s.codes, l.asked.Load())
			}
		}
	}
	return l.b.ids.forget(l.ctx, released)
}

// tooLarge is told which message the tap has cut short.
func (l *link) tooLarge(n uint64) {
	l.cut.Lock()
	defer l.cut.Unlock()
	l.cutShort = append(l.cutShort, n)
}

// cutMessage is a message that nobody reads whole: it is larger than what can be stored.
type cutMessage struct{ mqtt.Message }

// maxQueued bounds the bytes between the socket and the batches; one message more may be there.
const maxQueued = 4 << 20

// received is paho's handler; it is called for one message after the other.
func (l *link) received(_ mqtt.Client, m mqtt.Message) {
	l.came++
	l.cut.Lock()
	if len(l.cutShort) > 0 && l.cutShort[0] == l.came {
		m, l.cutShort = cutMessage{m}, l.cutShort[1:]
	}
	l.cut.Unlock()
	for l.queued.Load() >= maxQueued {
		select {
		case <-l.room:
		case <-l.ctx.Done():
			return
		}
	}
	if l.ctx.Err() != nil {
		return // it is sent again, unless it is QoS 0
	}
	l.b.received.Add(1)
	l.b.inFlight.Add(1)
	l.queued.Add(size(m))
	select {
	case l.queue <- m:
	case <-l.ctx.Done():
		l.b.inFlight.Add(-1)
	}
}

// taken is called for what leaves the queue.
func (l *link) taken(m mqtt.Message) {
	l.queued.Add(-size(m))
	select {
	case l.room <- struct{}{}:
	default:
	}
}

func size(m mqtt.Message) int64 { return int64(len(m.Topic()) + len(m.Payload())) }

// subscribe makes the session's subscriptions what is configured. A session that has them already is left alone: who subscribes
// again is sent everything retained again.
func (l *link) subscribe() error {
	b, have := l.b, l.session
	want := session{Broker: b.o.URL, ClientID: b.o.ClientID, Filters: slices.Sorted(slices.Values(b.o.Subscribe)), QoS: b.o.QoS}
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
		l.asked.Store(int32(len(add)))
		token := l.client.SubscribeMultiple(add, nil).(*mqtt.SubscribeToken)
		if err := await(l.ctx, token); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		result := token.Result()
		for f := range add {
			switch granted, ok := result[f]; {
			case !ok:
				return fmt.Errorf("subscribe to %s: the other broker does not say whether it grants it", f)
			case granted > 2:
				return fmt.Errorf("subscribe to %s: the other broker refuses", f)
			case granted < want.QoS:
				b.o.Log.Warn("bridge was granted less than it asked for", "bridge", b.o.Name, "filter", f, "qos", granted)
			}
		}
	}
	return l.keep(l.ctx, want, nil)
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
