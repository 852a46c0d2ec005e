package bridge

import "time"

// State of a bridge.
type State string

// The states.
const (
	StateStopped    State = "stopped"    // Run is not running
	StateConnecting State = "connecting" // or waiting to try again, see Error
	StateRunning    State = "running"    // connected, and every filter was granted
	StatePaused     State = "paused"     // not connected, until it is resumed
	StateWaiting    State = "waiting"    // connected, but the store takes nothing at present, see Error
)

// Status is a snapshot of a bridge.
type Status struct {
	Kind      string   `json:"kind"` // bridge
	Name      string   `json:"name"`
	State     State    `json:"state"`
	Error     string   `json:"error,omitempty"`    // the last one, while it holds
	ErrorAt   string   `json:"error_at,omitempty"` // RFC 3339
	Broker    string   `json:"broker"`
	ClientID  string   `json:"client_id"`
	Subscribe []string `json:"subscribe"`
	QoS       byte     `json:"qos"`
	Bridge    bool     `json:"bridge_bit"`        // the other side knows that this is a bridge
	Since     string   `json:"since,omitempty"`   // RFC 3339: connected
	LastAt    string   `json:"last_at,omitempty"` // RFC 3339: a message was committed
	InFlight  int      `json:"in_flight"`         // received, not committed
	Attempts  uint64   `json:"attempts"`          // to connect
	Connects  uint64   `json:"connects"`          // that succeeded
	Lost      uint64   `json:"lost_connections"`  // that ended by themselves
	Received  uint64   `json:"received"`          // messages, those that came again included
	Committed uint64   `json:"committed"`         // messages
	Bytes     uint64   `json:"bytes"`             // of their topics and payloads
	Again     uint64   `json:"again"`             // QoS 2 messages that came again and were known
	Refused   uint64   `json:"refused"`           // that cannot be stored: topic, size, or a plugin that rejects them
	Looped    uint64   `json:"looped"`            // that had been here: the prefix came round
}

// Status returns a snapshot.
func (b *Bridge) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Status{
		Kind: "bridge", Name: b.o.Name, State: b.state, Error: b.problem, ErrorAt: stamp(b.problemAt), Broker: b.o.URL, ClientID: b.o.ClientID,
		Subscribe: b.o.Subscribe, QoS: b.o.QoS, Bridge: !b.plain, Since: stamp(b.since),
		InFlight: int(b.inFlight.Load()), Attempts: b.attempts.Load(), Connects: b.connects, Lost: b.lost, Received: b.received.Load(), Committed: b.committed.Load(),
		Bytes: b.bytes.Load(), Again: b.again.Load(), Refused: b.refused.Load(), Looped: b.looped.Load(),
	}
	if ms := b.lastAt.Load(); ms > 0 {
		st.LastAt = stamp(time.UnixMilli(ms))
	}
	return st
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// enter changes the state. An error holds until the bridge runs again.
func (b *Bridge) enter(state State, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = state
	switch {
	case err != nil:
		b.problem, b.problemAt = err.Error(), b.o.Now()
	case state == StateRunning:
		b.problem, b.problemAt = "", time.Time{}
	}
}
