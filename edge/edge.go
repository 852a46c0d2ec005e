// Package edge is the broker: topics, routes and the path of a record from a front end to the log. It knows no protocol.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rivulet/plugins"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// The log's types that front ends use; they import edge, never storage.
type (
	Topic      = storage.Topic
	Partition  = storage.Partition
	Frame      = storage.Frame
	FrameBatch = storage.FrameBatch
	Put        = storage.Put
	Waiter     = storage.Waiter
	Aborted    = storage.Aborted
	Marker     = storage.Marker
	Producer   = storage.Producer
	Commit     = storage.Commit
	Append     = storage.Append
)

// Errors that front ends translate into their protocol's codes, in one table each. Those of the log are storage's own.
var (
	ErrNotAuthorized = errors.New("not authorized")
	ErrInvalidTopic  = errors.New("invalid topic name")
	ErrRejected      = errors.New("record was rejected by a plugin")
	ErrInternal      = errors.New("internal topic") // names that begin with _rivulet are read-only for clients

	ErrClosed      = storage.ErrClosed
	ErrReadOnly    = storage.ErrReadOnly
	ErrFull        = storage.ErrFull
	ErrTooLarge    = storage.ErrTooLarge
	ErrTopicExists = storage.ErrTopicExists
	ErrNoTopic     = storage.ErrNoTopic
	ErrOffsetRange = storage.ErrOffsetRange
	ErrDuplicate   = storage.ErrDuplicate
	ErrOutOfOrder  = storage.ErrOutOfOrder
	ErrFenced      = storage.ErrFenced
	ErrInvalidTxn  = storage.ErrInvalidTxn
	ErrCorrupt     = storage.ErrCorrupt
	ErrTrimmed     = storage.ErrTrimmed
)

// Options of a broker.
type Options struct {
	Edge       string // id of this edge
	Store      *storage.Store
	Plugins    *plugins.Host
	PluginDir  string // where uploads are kept, by sha256
	Routes     []Route
	Topics     []TopicSpec
	Partitions int        // of a topic that is made on first use; default 4 for `mqtt`, else 1
	Authorize  Authorizer // nil: everything is allowed
	Now        func() time.Time
	Log        *slog.Logger
}

// Op is what a principal wants to do.
type Op uint8

// The operations.
const (
	OpPublish   Op = iota // resource: MQTT topic
	OpSubscribe           // resource: MQTT filter
	OpRead                // resource: log topic
	OpWrite
	OpCreate
	OpDelete
	OpAlter
	OpDescribe
	OpGroup // resource: consumer group
	OpTxn   // resource: transactional id
	OpAdmin
)

// Principal is who asks.
type Principal struct {
	Name   string // user; "" is anonymous
	Client string // MQTT client id, Kafka client id
	Addr   string
}

// Authorizer decides. It is called on hot paths: no blocking, no allocation.
type Authorizer interface {
	Allow(p *Principal, op Op, resource string) bool
}

// Route sends the MQTT topics that match to a log topic; the first match wins.
type Route struct {
	MQTT      string // filter; the n-th wildcard is captured as {n}
	Topic     string // may hold {n}
	Key       string // template; "" is the MQTT topic
	Store     bool
	Timestamp string // "" or json(path)
	Partition string // "", key, round_robin, range
}

// TopicSpec declares a topic.
type TopicSpec struct {
	Name       string
	Partitions int
	Config     map[string]string // Kafka's names; ours begin with rivulet.
}

// Broker is one edge broker. All methods may be called by many goroutines.
type Broker struct{}

// Open makes declared topics, loads attachments, retained messages and starts what runs in the background.
func Open(ctx context.Context, o Options) (*Broker, error) { panic("stub") }

// Close ends the background work. The store is the caller's.
func (b *Broker) Close() error { panic("stub") }

// Store is the broker's log, for readers: Topic, Topics, Epoch, Frames, WatchAll, Get, Scan, LastSeq.
func (b *Broker) Store() *storage.Store { panic("stub") }

// Allow asks the authorizer.
func (b *Broker) Allow(p *Principal, op Op, resource string) bool { panic("stub") }

// Epoch grows when topics, routes or attachments change. What Target returned is good while it stays the same.
func (b *Broker) Epoch() uint64 { panic("stub") }

// Target is where the messages of one MQTT topic go.
type Target struct {
	MQTT  string
	Topic *Topic
	Store bool // false: live delivery only
	// Head is the beginning of a payload: key length and key.
	Head []byte
	// TopicHeader is the encoded header mqtt.topic.
	TopicHeader []byte
	// contains unexported fields
	partition int32
	route     *Route
}

// Target resolves an MQTT topic by the routes and makes the log topic if need be. Front ends cache the answer per
// connection and Epoch. Errors: ErrInvalidTopic, storage errors.
func (b *Broker) Target(ctx context.Context, mqttTopic string) (*Target, error) { panic("stub") }

// Item is one record to store. Either Target (MQTT) or Topic with Partition (-1: by key, else round robin) is set.
type Item struct {
	Target    *Target
	Topic     *Topic
	Partition int32
	Record    batch.Record // Timestamp 0: now
	Retain    bool         // MQTT retain: the retained copy is set by what is stored (an empty value clears it)

	// Results, valid in Done.
	Err    error // ErrRejected; else nil when the Ingest's Err is nil
	Base   int64 // offset; -1 when plugins dropped it
	Placed int32 // partition index
}

// Ingest is one slice of records, in the order in which they arrived: all in one frame, or none. The records' memory
// belongs to the broker from Ingest to Done.
type Ingest struct {
	Principal *Principal
	Items     []Item
	Puts      []Put // committed in the same frame, e.g. MQTT packet ids
	// Done is called once, after the fsync or a failure, not on the caller's goroutine; it must not block.
	Done func(*Ingest)

	Err error
	Seq uint64

	state ingestState
}

type ingestState struct{}

// Ingest takes records through plugins into the log. It blocks for room (back-pressure) and while plugins run, until ctx
// ends; Ingests of one goroutine keep their order. An error means that it was not taken and Done is not called.
func (b *Broker) Ingest(ctx context.Context, in *Ingest) error { panic("stub") }

// BatchIn is one record batch of a Kafka producer for one partition.
type BatchIn struct {
	Principal *Principal
	Topic     *Topic
	Partition int32
	Batch     []byte // validated by batch.Validate; the broker keeps it until Done
	Done      func(*BatchIn)

	Err       error // storage's producer errors, ErrRejected, …
	Base      int64 // offset of the first record, -1 when plugins dropped all; with ErrDuplicate the offset of then
	Timestamp int64 // LogAppendTime, -1 for CreateTime
}

// IngestBatch is Ingest for a whole batch: without plugins its bytes are stored as they are.
func (b *Broker) IngestBatch(ctx context.Context, in *BatchIn) error { panic("stub") }

// EnsureTopic returns a topic, making it with defaults when there is none and its name is valid.
func (b *Broker) EnsureTopic(ctx context.Context, name string) (*Topic, error) { panic("stub") }

// CreateTopic checks name and configuration and makes the topic.
func (b *Broker) CreateTopic(ctx context.Context, t TopicSpec) (*Topic, error) { panic("stub") }

// Retained calls fn for every retained message whose topic matches the filter (no $-topics for a leading wildcard).
// payload is the stored record payload.
func (b *Broker) Retained(filter string, fn func(topic string, r batch.Record)) { panic("stub") }

// MQTTName is the MQTT topic under which a record of the log is delivered to MQTT subscribers, "" when it is not
// (SEMANTICS, Names and headers). The result may alias the payload.
func (b *Broker) MQTTName(p *Partition, payload batch.Payload) []byte { panic("stub") }

// Plugin is one uploaded plugin with its revisions, newest last.
type Plugin struct {
	Name      string     `json:"name"`
	Revisions []Revision `json:"revisions"`
}

// Revision is one upload.
type Revision struct {
	Number  int       `json:"revision"`
	Version string    `json:"version,omitempty"`
	SHA256  string    `json:"sha256"`
	Bytes   int       `json:"bytes"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
	Imports []string  `json:"imports,omitempty"`
}

// AttachSpec binds a plugin to a topic.
type AttachSpec struct {
	Plugin  string            `json:"plugin"`
	Topic   string            `json:"topic"`
	Stage   string            `json:"stage"` // ingest
	Outputs []string          `json:"outputs,omitempty"`
	Set     map[string]string `json:"set,omitempty"`
	OnError plugins.OnError   `json:"on_error"`
	Order   int               `json:"order"`
}

// AttachmentInfo is a spec with its counters.
type AttachmentInfo struct {
	AttachSpec
	Revision int           `json:"revision"`
	Stats    plugins.Stats `json:"stats"`
}

// PushPlugin compiles and keeps an upload; the same bytes again are the same revision. Attachments of the plugin go over
// to the new revision between two batches.
func (b *Broker) PushPlugin(ctx context.Context, name, version, by string, wasm []byte) (Revision, error) {
	panic("stub")
}

// Plugins, DeletePlugin (refused while attached), Attach, Detach, Attachments: what the verbs say.
func (b *Broker) Plugins() []Plugin                                            { panic("stub") }
func (b *Broker) DeletePlugin(ctx context.Context, name string) error          { panic("stub") }
func (b *Broker) AttachPlugin(ctx context.Context, a AttachSpec) error         { panic("stub") }
func (b *Broker) DetachPlugin(ctx context.Context, plugin, topic string) error { panic("stub") }
func (b *Broker) Attachments() []AttachmentInfo                                { panic("stub") }

// TestPlugin runs a stored plugin (or wasm, when not nil) over the last n records of a topic and keeps nothing.
func (b *Broker) TestPlugin(ctx context.Context, name string, wasm []byte, topic string, n int, set map[string]string) (*TestReport, error) {
	panic("stub")
}

// TestReport is the outcome of a dry run.
type TestReport struct {
	In, Out, Dropped, Errors int
	NanosPerRecord           int64
	FuelPerRecord            int64
	MemoryBytes              int64
	Samples                  []TestSample
}

// TestSample is one input record and what came of it.
type TestSample struct {
	Offset  int64
	In      string
	Out     []string
	Topics  []string
	Error   string
	Dropped bool
}

// Counters of the path since Open.
type Counters struct {
	MessagesIn, BytesIn   uint64
	MessagesOut, BytesOut uint64 // deliveries to readers, added by front ends through CountOut
}

// Counters returns a snapshot; CountOut adds deliveries.
func (b *Broker) Counters() Counters           { panic("stub") }
func (b *Broker) CountOut(messages, bytes int) { panic("stub") }
