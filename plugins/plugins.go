// Package plugins runs users' WebAssembly modules on records. It knows neither storage nor protocols.
package plugins

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rivulet/storage/batch"
)

// Errors of modules. ErrModule wraps what is wrong with an upload.
var (
	ErrModule = errors.New("module cannot run here")
	ErrFuel   = errors.New("record used up its CPU budget")
	ErrMemory = errors.New("module needs more memory than it may have")
)

// Options of a host.
type Options struct {
	CacheDir    string        // compiled code, mode 0700; empty: none
	MaxBinary   int           // bytes; default 16 MiB
	MemoryLimit int           // bytes an instance; default 16 MiB
	RecordTime  time.Duration // CPU per record, turned into fuel; default 250 ms
	StartTime   time.Duration // CPU to the first batch; default 2 s
	Log         *slog.Logger
}

// Host is one wazero runtime with its compiled modules. Safe for concurrent use.
type Host struct{}

// NewHost starts a runtime.
func NewHost(ctx context.Context, o Options) (*Host, error) { panic("stub") }

// Close ends all instances.
func (h *Host) Close(ctx context.Context) error { panic("stub") }

// Engine is "compiler" or "interpreter".
func (h *Host) Engine() string { panic("stub") }

// Module is compiled code, named by the sha256 of the upload.
type Module struct{}

// Compile checks the module against the guest ABI, inserts fuel metering and compiles it. The same bytes give the same
// *Module. Errors wrap ErrModule and say what is missing and how to build it right.
func (h *Host) Compile(ctx context.Context, wasm []byte) (*Module, error) { panic("stub") }

// SHA256 is the upload's digest in hex; ABI what it speaks; Imports the capabilities it asks for.
func (m *Module) SHA256() string    { panic("stub") }
func (m *Module) Imports() []string { panic("stub") }

// OnError says what becomes of a record that the plugin failed on.
type OnError string

// What becomes of a failed record.
const (
	DeadLetter OnError = "dlq"
	Drop       OnError = "drop"
	Pass       OnError = "pass"
	Reject     OnError = "reject"
	Halt       OnError = "halt"
)

// AttachOptions bind a module to an input topic.
type AttachOptions struct {
	Name     string // of the plugin
	Revision int
	Input    string            // topic
	Outputs  []string          // topics it may write to; the first is the default; empty: Input
	Env      map[string]string // --set
	OnError  OnError           // default DeadLetter
	Lanes    int               // default GOMAXPROCS
	Log      func(stderr bool, line string)
}

// Attachment is a module bound to a topic, with one instance per lane. Process may be called for different lanes at once.
type Attachment struct{}

// Attach instantiates the module once, to see that it starts. Errors wrap ErrModule.
func (h *Host) Attach(ctx context.Context, m *Module, o AttachOptions) (*Attachment, error) {
	panic("stub")
}

// Kind says what a result is.
type Kind uint8

// The kinds of result.
const (
	Emitted  Kind = iota // by the plugin, or passed on
	Dead                 // for the dead-letter topic: Payload is the input record's, Err why
	Rejected             // the producer is told; nothing is stored for this record
)

// Result is one record that comes out. Payload aliases the Output or the input.
type Result struct {
	Source  int // index of the input record, ascending
	Kind    Kind
	Topic   string // "": the input topic
	Payload batch.Payload
	Err     error
}

// Output collects results; reuse it with Reset.
type Output struct {
	Results []Result
}

// Reset empties the output and keeps its memory.
func (o *Output) Reset() { panic("stub") }

// Process runs the records through the lane's instance and appends to out. A trap, a loop or too much memory costs that
// record what OnError says; the instance is made anew and goes on. An error means that nothing was done: ErrHalted (the
// attachment stopped until Resume), or ctx's.
func (a *Attachment) Process(ctx context.Context, lane int, in []batch.Record, out *Output) error {
	panic("stub")
}

// ErrHalted is returned while an attachment with Halt waits for someone to act.
var ErrHalted = errors.New("plugin halted its topic")

// Resume ends a halt or a suspension.
func (a *Attachment) Resume() { panic("stub") }

// Close waits for running calls and ends the instances.
func (a *Attachment) Close(ctx context.Context) error { panic("stub") }

// Stats are counters since Attach.
type Stats struct {
	In, Out, Dropped, Errors, Restarts uint64
	Dead, Rejected                     uint64
	FuelUsed                           uint64
	Nanos                              uint64 // time spent inside Process
	MemoryBytes                        int64  // of all instances, now
	State                              string // running, suspended, halted
	LastError                          string
}

// Stats returns a snapshot.
func (a *Attachment) Stats() Stats { panic("stub") }
