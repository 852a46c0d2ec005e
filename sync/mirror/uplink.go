package mirror

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Uplink mirrors topics to one central cluster. Its exported methods may be called by many goroutines.
type Uplink struct {
	o        Options
	txid     string // transactional id
	group    string // consumer group whose offsets carry the positions
	instance string // names this run

	lanes  atomic.Pointer[[]*lane]          // by priority, highest first
	laneOf atomic.Pointer[map[uint32]*lane] // by partition id
	total  counters
	poke   chan struct{} // capacity 1: Pause or Resume was called

	// Owned by Run.
	epoch          uint64 // of the store's topics, at updateLanes
	targets        map[string]*target
	progressTarget *target
	turn           int // round robin among lanes
	g              gatherer
	bucket         bucket
	budget         int           // bytes of a burst, less than Size on a slow link
	txnTimeout     time.Duration // of a transaction, more than Options.txnTimeout once a single record took longer
	fails          int           // in a row
	forgiven       bool
	shadowed       time.Time
	targetsAt      time.Time
	renewedAt      time.Time
	renew          time.Duration // commit all positions again after so long
	rawSeen        int64         // raw bytes of all lanes that were there at the last gathering
	ratio          float64       // bytes on the wire per raw byte

	mu        sync.Mutex // guards what follows
	paused    bool
	resumed   bool // since the uplink was parked
	state     State
	lastErr   string
	lastErrAt time.Time
	lastTxn   time.Time
	cluster   string
	txnMode   string
	alarms    []Alarm
}

type counters struct {
	txns, aborted, batches, records, bytes, raw, gaps, dead atomic.Uint64
}

// New checks o. Nothing is dialled before Run.
func New(o Options) (*Uplink, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	u := &Uplink{
		o:              o,
		txid:           "rivulet/" + o.Edge + "/" + o.Name,
		group:          "rivulet-" + o.Edge + "-" + o.Name,
		instance:       fmt.Sprintf("%016x", o.Rand()),
		poke:           make(chan struct{}, 1),
		progressTarget: &target{name: progressTopic, maxBytes: maxRequest},
		bucket:         bucket{rate: float64(o.LimitBytes)},
		budget:         o.Size,
		txnTimeout:     o.txnTimeout,
		ratio:          0.25,
		renew:          refreshOffsets,
		state:          StateStopped,
	}
	u.lanes.Store(new([]*lane))
	u.laneOf.Store(new(map[uint32]*lane))
	return u, nil
}

// Pause lets the present transaction end and stops sending. Resume sends again; it also takes a fenced or failed uplink
// back to work. Neither waits.
func (u *Uplink) Pause() { u.setPaused(true) }

// Resume is the opposite of Pause.
func (u *Uplink) Resume() { u.setPaused(false) }

func (u *Uplink) setPaused(p bool) {
	u.mu.Lock()
	u.paused, u.resumed = p, !p
	u.mu.Unlock()
	select {
	case u.poke <- struct{}{}:
	default:
	}
}

func (u *Uplink) setState(s State) {
	u.mu.Lock()
	u.state = s
	if s == StateRunning {
		u.lastErr = ""
	}
	u.mu.Unlock()
}

// alarm notes what an operator should know. The same one again only moves to the end.
func (u *Uplink) alarm(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	u.o.Log.Warn("uplink alarm", "what", text)
	const most = 20
	u.mu.Lock()
	defer u.mu.Unlock()
	u.alarms = slices.DeleteFunc(u.alarms, func(a Alarm) bool { return a.Text == text })
	u.alarms = append(u.alarms, Alarm{u.o.Now(), text})
	u.alarms = u.alarms[max(0, len(u.alarms)-most):]
}

// Status is cheap enough for a metrics scrape.
func (u *Uplink) Status() Status {
	s := Status{
		Name:         u.o.Name,
		Brokers:      u.o.Brokers,
		Txns:         u.total.txns.Load(),
		Aborted:      u.total.aborted.Load(),
		Batches:      u.total.batches.Load(),
		Records:      u.total.records.Load(),
		Bytes:        u.total.bytes.Load(),
		Raw:          u.total.raw.Load(),
		Gaps:         u.total.gaps.Load(),
		DeadLettered: u.total.dead.Load(),
	}
	u.mu.Lock()
	s.State, s.Error, s.Cluster, s.TxnMode = u.state, u.lastErr, u.cluster, u.txnMode
	if s.Error != "" {
		s.ErrorAt = u.lastErrAt.UTC().Format(time.RFC3339)
	}
	if !u.lastTxn.IsZero() {
		s.LastTxn = u.lastTxn.UTC().Format(time.RFC3339)
	}
	s.Alarms = slices.Clone(u.alarms)
	u.mu.Unlock()
	lanes := *u.lanes.Load()
	s.Partitions = make([]PartitionStatus, len(lanes))
	for i, l := range lanes {
		_, stable, _ := l.src.Offsets()
		p := PartitionStatus{
			Topic: l.topic, Partition: l.index, To: l.target.name, Priority: int(l.priority.Load()),
			End: stable, Position: l.position.Load(), Gaps: l.gaps.Load(), DeadLettered: l.dead.Load(),
		}
		p.Lag = max(0, p.End-p.Position)
		if why := l.blocked.Load(); why != nil {
			p.Blocked = *why
		}
		s.Lag += p.Lag
		s.Partitions[i] = p
	}
	return s
}
