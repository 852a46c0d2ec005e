package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"rivulet/edge"
)

// Options of a bridge.
type Options struct {
	Name      string // names its state in the store, its session there, and its figures
	Broker    *edge.Broker
	URL       string   // tcp://, ssl:// (or tls://, mqtts://), ws://, wss://HOST:PORT, unix:///PATH
	Subscribe []string // filters, there
	QoS       byte     // 0 to 2
	ClientID  string   // default rivulet-EDGE-NAME; the session there belongs to it

	User string
	// Password and TLS are asked for at every connect, so that what they read can be changed without a restart; nil: none.
	Password func() (string, error)
	TLS      func() (*tls.Config, error)

	Strip  string // is taken off the beginning of topics that have it
	Prefix string // is then put before them

	LimitBytes int64         // payload and topic bytes a second, so that catching up starves nobody; 0: no limit
	InFlight   int           // messages between the socket and their commit; default 1024
	KeepAlive  time.Duration // default 30 s; a link that answers no ping for as long again is given up
	BackOff    time.Duration // the longest; default 1 min
	Log        *slog.Logger
	Now        func() time.Time
	Rand       *rand.Rand // for the jitter
}

func (o *Options) defaults() {
	if o.ClientID == "" {
		o.ClientID = "rivulet-" + o.Broker.Edge() + "-" + o.Name
	}
	if o.InFlight == 0 {
		o.InFlight = 1024
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 30 * time.Second
	}
	if o.BackOff == 0 {
		o.BackOff = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
}

// Check finds what is wrong with options, apart from Broker.
func Check(o Options) error {
	if o.Name == "" || strings.ContainsAny(o.Name, "/\x00") {
		return fmt.Errorf("name %q: want one without / in it", o.Name)
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return fmt.Errorf("broker %q: %w", o.URL, err)
	}
	switch u.Scheme {
	case "tcp", "mqtt", "ssl", "tls", "mqtts", "ws", "wss":
		if u.Port() == "" || u.Hostname() == "" {
			return fmt.Errorf("broker %q: want %s://HOST:PORT", o.URL, u.Scheme)
		}
	case "unix":
		if u.Path == "" {
			return fmt.Errorf("broker %q: want unix:///PATH", o.URL)
		}
	default:
		return fmt.Errorf("broker %q: want tcp, ssl, ws, wss or unix://…", o.URL)
	}
	if u.User != nil {
		return errors.New("broker: user and password have keys of their own")
	}
	if len(o.Subscribe) == 0 {
		return errors.New("subscribe is missing: say which topics of the other broker come here")
	}
	for _, f := range o.Subscribe {
		if err := edge.CheckFilter(f); err != nil {
			return err
		}
	}
	if o.QoS > 2 {
		return fmt.Errorf("qos %d: want 0, 1 or 2", o.QoS)
	}
	if o.KeepAlive != 0 && (o.KeepAlive < time.Second || o.KeepAlive > 65535*time.Second) { // MQTT-3.1.2.10: whole seconds, two bytes
		return fmt.Errorf("keep_alive %s: want 1s to 18h", o.KeepAlive)
	}
	if strings.ContainsAny(o.Prefix+o.Strip, "+#\x00") || strings.HasPrefix(o.Prefix, "$") {
		return fmt.Errorf("prefix %q, strip %q: they are parts of topics, without + and #, and not of $SYS", o.Prefix, o.Strip)
	}
	return nil
}
