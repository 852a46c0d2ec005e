package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
)

// Delivery is how an uplink keeps its promise.
type Delivery string

// Transactional is exactly once for readers with isolation level read_committed.
const Transactional Delivery = "transactional"

// OnLostPosition says what to do when the centre has forgotten where this uplink was, although the store remembers it.
type OnLostPosition string

// The policies for a lost position.
const (
	// ResumeLocal goes on where the store's shadow says: at most one transaction in doubt is sent twice.
	ResumeLocal OnLostPosition = "resume_local"
	// Fail parks the uplink until Resume or a restart; Resume goes on from the shadow.
	Fail OnLostPosition = "fail"
	// FromStart sends everything that the log still has: duplicates rather than doubt.
	FromStart OnLostPosition = "from_start"
)

// Rule sends topics up.
type Rule struct {
	// Topic is a name, or a pattern in which * stands for any run of characters. Patterns never match internal topics, names do.
	// The first rule that matches a topic holds.
	Topic string
	// To is the name at the centre, in which {topic} and {edge} are replaced; default {topic}.
	To string
	// Priority, 0 to 9, higher first; 0: the topic's own (rivulet.priority).
	Priority int
}

// Options of an uplink. Broker, Edge, Name, Brokers and Up are needed; the zero value of the others is their default.
type Options struct {
	Broker         *edge.Broker
	Edge           string         // id of this edge
	Name           string         // name of the uplink; with Edge it is the transactional id
	Brokers        []string       // host:port of the central cluster
	KgoOpts        []kgo.Opt      // TLS, SASL, dialer
	Up             []Rule         // at least one
	Delivery       Delivery       // default Transactional
	OnLostPosition OnLostPosition // default ResumeLocal
	Takeover       bool           // fence another instance with this edge id instead of giving way to it

	// LimitBytes a second on the wire, averaged; 0: no limit. Default 0.
	LimitBytes int64
	// Age ends the gathering of a burst: a record waits so long for company. Default 5 s. Small values cost transactions:
	// about three writes at the centre's coordinator and one marker in every partition, each.
	Age time.Duration
	// Size, in bytes on the wire, ends the gathering before Age does. Default 1 MiB, at most 8 MiB.
	Size int

	// RetryMin and RetryMax bound the pause after a failure, which doubles and is jittered. Defaults 500 ms and 30 s.
	RetryMin, RetryMax time.Duration

	Now  func() time.Time // default time.Now
	Log  *slog.Logger     // default: discarded
	Rand func() uint64    // for jitter and instance ids; default math/rand/v2

	txnTimeout time.Duration // the centre ends a transaction that is open for so long; default 10 s. Tests are less patient
}

// Bounds and defaults that are not settings.
const (
	maxGather      = 8 << 20          // encoded bytes that are gathered for one burst
	maxRequest     = 1 << 20          // of batches in one ProduceRequest, unless a single one is larger
	mergeBytes     = 512 << 10        // raw bytes that small batches are put together up to
	smallBatch     = 16 << 10         // a compressed batch below this is put together with its neighbours; sealed ones are rarely
	maxInFlight    = 5                // ProduceRequests to one leader; Kafka remembers so many batches of a producer
	maxMetadata    = 4096             // Kafka's offset.metadata.max.bytes
	refreshTargets = 30 * time.Second // look at the centre's topics again
	refreshOffsets = 24 * time.Hour   // commit positions again although nothing moved: the centre forgets them after a week
)

// validate fills in defaults.
func (o *Options) validate() error {
	switch {
	case o.Broker == nil:
		return errors.New("create uplink: no broker given")
	case o.Edge == "" || o.Name == "":
		return errors.New("create uplink: edge id and name must not be empty")
	case len(o.Brokers) == 0:
		return fmt.Errorf("create uplink %s: no central brokers given", o.Name)
	case len(o.Up) == 0:
		return fmt.Errorf("create uplink %s: no topics given", o.Name)
	case o.Delivery == "idempotent":
		return fmt.Errorf("create uplink %s: delivery idempotent is not available; use transactional", o.Name)
	case o.Size < 0 || o.Size > maxGather:
		return fmt.Errorf("create uplink %s: size %d is not between 1 and %d bytes", o.Name, o.Size, maxGather)
	case o.LimitBytes < 0:
		return fmt.Errorf("create uplink %s: limit must not be negative", o.Name)
	}
	switch o.Delivery {
	case "":
		o.Delivery = Transactional
	case Transactional:
	default:
		return fmt.Errorf("create uplink %s: unknown delivery %q", o.Name, o.Delivery)
	}
	switch o.OnLostPosition {
	case "":
		o.OnLostPosition = ResumeLocal
	case ResumeLocal, Fail, FromStart:
	default:
		return fmt.Errorf("create uplink %s: unknown on_lost_position %q", o.Name, o.OnLostPosition)
	}
	up := make([]Rule, len(o.Up))
	for i, r := range o.Up {
		if r.Topic == "" {
			return fmt.Errorf("create uplink %s: rule %d has no topic", o.Name, i+1)
		}
		if r.Priority < 0 || r.Priority > 9 {
			return fmt.Errorf("create uplink %s: priority %d of %s is not between 0 and 9", o.Name, r.Priority, r.Topic)
		}
		if r.To == "" {
			r.To = "{topic}"
		}
		if strings.Contains(r.Topic, "*") && !strings.Contains(r.To, "{topic}") {
			return fmt.Errorf("create uplink %s: %s may match many topics, so its target %q needs {topic}", o.Name, r.Topic, r.To)
		}
		up[i] = r
	}
	o.Up = up
	if o.Age <= 0 {
		o.Age = 5 * time.Second
	}
	if o.Size == 0 {
		o.Size = 1 << 20
	}
	if o.RetryMin <= 0 {
		o.RetryMin = 500 * time.Millisecond
	}
	if o.RetryMax <= 0 {
		o.RetryMax = max(30*time.Second, o.RetryMin)
	}
	if o.txnTimeout == 0 {
		o.txnTimeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Log = o.Log.With("uplink", o.Name)
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	return nil
}
