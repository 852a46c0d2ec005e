package mirror

import "time"

// State of an uplink.
type State string

// The states.
const (
	StateStopped    State = "stopped"    // Run is not running
	StateConnecting State = "connecting" // and waiting to try again, see Error
	StateRunning    State = "running"
	StatePaused     State = "paused"
	StateFenced     State = "fenced" // another instance with this edge id is at work; Resume takes the link back
	StateFailed     State = "failed" // needs an operator, see Error; Resume goes on
)

// Status is a snapshot of an uplink.
type Status struct {
	Name    string   `json:"name"`
	State   State    `json:"state"`
	Error   string   `json:"error,omitempty"`    // the last one, while it holds
	ErrorAt string   `json:"error_at,omitempty"` // RFC 3339
	Brokers []string `json:"brokers"`
	Cluster string   `json:"cluster,omitempty"`  // the centre's cluster id
	TxnMode string   `json:"txn_mode,omitempty"` // TV1 or TV2: the transaction protocol in use

	Lag          int64  `json:"lag"`     // records that are durable here and not yet at the centre
	Txns         uint64 `json:"txns"`    // committed
	Aborted      uint64 `json:"aborted"` // transactions that failed
	Batches      uint64 `json:"batches"` // committed, as they were sent
	Records      uint64 `json:"records"` // committed
	Bytes        uint64 `json:"bytes"`   // of committed batches, as they were sent
	Raw          uint64 `json:"raw"`     // of these batches, those that went as they lay on disk
	Gaps         uint64 `json:"gaps"`    // records that retention or damage took before they were mirrored
	DeadLettered uint64 `json:"dead_lettered"`
	LastTxn      string `json:"last_txn,omitempty"` // RFC 3339

	// Alarms are what an operator should know, newest last, at most 20.
	Alarms     []Alarm           `json:"alarms,omitempty"`
	Partitions []PartitionStatus `json:"partitions"`
}

// Alarm is one remarkable event.
type Alarm struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// PartitionStatus is one source partition.
type PartitionStatus struct {
	Topic        string `json:"topic"`
	Partition    int32  `json:"partition"`
	To           string `json:"to"`
	Priority     int    `json:"priority"`
	End          int64  `json:"end"`      // the source's last stable offset
	Position     int64  `json:"position"` // next source offset that the centre does not have
	Lag          int64  `json:"lag"`
	Gaps         uint64 `json:"gaps,omitempty"`
	DeadLettered uint64 `json:"dead_lettered,omitempty"`
	Blocked      string `json:"blocked,omitempty"` // why nothing of it can be sent now
}
