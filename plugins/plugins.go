package plugins

import (
	"errors"
	"log/slog"
	"time"

	"rivulet/storage/batch"
)

// Errors of modules. ErrModule wraps what is wrong with an upload; the others are why a record failed.
var (
	ErrModule    = errors.New("module cannot run here")
	ErrFuel      = errors.New("record used up its CPU budget")
	ErrMemory    = errors.New("module needs more memory than it may have")
	ErrStack     = errors.New("module recurses too deeply")
	ErrOutput    = errors.New("record has more output than it may have")
	ErrTrap      = errors.New("module failed")
	ErrSuspended = errors.New("plugin is suspended after too many failures")
)

// Errors of calls.
var (
	// ErrHalted is returned while an attachment with Halt waits for someone to act.
	ErrHalted = errors.New("plugin halted its topic")
	ErrClosed = errors.New("plugin is detached")
)

// Options of a host.
type Options struct {
	CacheDir    string        // compiled code, mode 0700; empty: none
	MaxBinary   int           // bytes; default 16 MiB
	MemoryLimit int           // bytes an instance; default 16 MiB
	RecordTime  time.Duration // CPU per record, turned into fuel; default 250 ms
	StartTime   time.Duration // CPU to the first batch; default 2 s
	Log         *slog.Logger
	Now         func() time.Time // default time.Now; measures and limits rates, guests never see it
}

func (o Options) withDefaults() Options {
	if o.MaxBinary <= 0 {
		o.MaxBinary = 16 << 20
	}
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = 16 << 20
	}
	if o.RecordTime <= 0 {
		o.RecordTime = 250 * time.Millisecond
	}
	if o.StartTime <= 0 {
		o.StartTime = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

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
	Outputs  []string          // topics it may write to, at most 8; the first is the default; empty: Input
	Env      map[string]string // --set
	OnError  OnError           // default DeadLetter
	Lanes    int               // default GOMAXPROCS
	// Log gets what the guest writes to stdout and stderr, line by line, cut at 1 KiB, at most 100 lines a second; default:
	// the host's log. It must not block.
	Log func(stderr bool, line string)
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

// State says whether an attachment runs.
type State int32

// The states.
const (
	Running State = iota
	Suspended
	Halted
	Detached
)

func (s State) String() string {
	switch s {
	case Running:
		return "running"
	case Suspended:
		return "suspended"
	case Halted:
		return "halted"
	default:
		return "detached"
	}
}

// Stats are counters since Attach.
type Stats struct {
	In, Out, Dropped, Errors, Restarts uint64
	Dead, Rejected                     uint64
	FuelUsed                           uint64
	Nanos                              uint64 // time spent inside Process
	MemoryBytes                        int64  // of all instances, now
	State                              string // running, suspended, halted, detached
	LastError                          string
}
