package storage

import (
	"log/slog"
	"math/rand/v2"
	"time"
)

// Options of a store. The zero value of every field but Dir is its default.
type Options struct {
	Dir          string
	JournalBytes int64         // size of one journal file; default 16 MiB
	TailBytes    int64         // bound of all tails, raw bytes; default 32 MiB
	LogFileBytes int64         // size at which a log file is full; default 64 MiB
	Linger       time.Duration // how long a commit waits for company; default 0
	FS           FS            // the journal's file seam; default the operating system
	Now          func() time.Time
	Rand         func() uint64
	Log          *slog.Logger

	faults func(point string) error // tests only: fails what is written beside the journal
}

func (o Options) withDefaults() Options {
	if o.JournalBytes == 0 {
		o.JournalBytes = 16 << 20
	}
	// A file that holds less than a few frames would be all edges; whole blocks keep frames aligned.
	o.JournalBytes = max(roundUp(o.JournalBytes, frameAlign), 16*frameAlign)
	if o.TailBytes == 0 {
		o.TailBytes = 32 << 20
	}
	if o.LogFileBytes == 0 {
		o.LogFileBytes = 64 << 20
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// frameLimit is how many raw bytes the committer gathers for one frame. Larger frames save no more fsyncs worth having and
// make the first commit in them wait for the last; a quarter of a file bounds what is left unused at its end.
func (o Options) frameLimit() int64 { return min(4<<20, o.JournalBytes/4) }

// commitLimit is the largest commit: its frame must fit into one journal file, compressible or not.
func (o Options) commitLimit() int64 { return o.JournalBytes - 2*frameAlign }

// queueLimit bounds what waits for the committer.
func (o Options) queueLimit() int64 { return min(8<<20, o.JournalBytes/2) }

// chunkSize is the unit in which raw buffers are allocated. A chunk lives until the last tail in it is gone.
func (o Options) chunkSize() int64 { return min(max(o.TailBytes/32, 64<<10), 1<<20) }

const (
	maxValue     = 1 << 20 // of one key
	maxFrameMeta = 4 << 20 // of all key-value changes of one frame
)

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
