package storage

import (
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"time"
)

// Options of a store. The zero value of every field but Dir is its default.
type Options struct {
	Dir          string
	JournalBytes int64         // size of one journal file; default 16 MiB
	TailBytes    int64         // bound of all tails, raw bytes; default 32 MiB
	LogFileBytes int64         // size at which a log file is full; default 64 MiB, with MaxBytes a 64th of it, 4 MiB at least
	MaxBytes     int64         // what the data directory may take on the disk, journal and all; default 0: no bound
	WhenFull     WhenFull      // what MaxBytes, or a full disk, does to topics that do not say; default: DropOldest with MaxBytes, else Refuse
	CompactBytes int64         // of compaction's table of keys, 24 bytes a key, while it works; default a quarter of TailBytes, 1 MiB at least
	Linger       time.Duration // how long a commit waits for company; default 0
	ScrubRate    int64         // bytes a second that the background scrub reads; default 1 MiB, negative: no scrub
	ScrubEvery   time.Duration // from the beginning of one scrub of everything to that of the next; default 24 h
	Labels       Labels        // what readers of frames may ask for; default: nothing, they read everything
	FS           FS            // the journal's file seam; default the operating system
	Now          func() time.Time
	Rand         func() uint64
	Log          *slog.Logger

	restoring bool                     // this is the restore that fills Dir
	versioned bool                     // VERSION says that no newer program wrote here: a newer format inside is damage
	faults    func(point string) error // tests only: fails what is written beside the journal
}

func (o Options) withDefaults() Options {
	if o.WhenFull == "" {
		o.WhenFull = Refuse
		if o.MaxBytes > 0 {
			o.WhenFull = DropOldest
		}
	}
	// A small budget is not to be eaten up by what only passes through.
	share := func(part, least, most int64) int64 {
		if o.MaxBytes == 0 {
			return most
		}
		return min(max(roundUp(o.MaxBytes/part, frameAlign), least), most)
	}
	if o.JournalBytes == 0 {
		o.JournalBytes = share(64, 4<<20, 16<<20)
	}
	// A file that holds less than a few frames would be all edges; whole blocks keep frames aligned.
	o.JournalBytes = max(roundUp(o.JournalBytes, frameAlign), 16*frameAlign)
	if o.TailBytes == 0 {
		o.TailBytes = share(16, 4<<20, 32<<20)
	}
	if o.CompactBytes == 0 {
		o.CompactBytes = max(o.TailBytes/4, 1<<20)
	}
	if o.LogFileBytes == 0 {
		o.LogFileBytes = share(64, 4<<20, largestLogFile(bits.UintSize))
	}
	if o.ScrubRate == 0 {
		o.ScrubRate = scrubRate
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = scrubEvery
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

// largestLogFile is how large log files are by default. Those that are open are mapped: up to 8 that are read, and one of each class
// that is written, of which there are 16. 32-bit programs have 2 to 3 GiB of addresses for them and everything else.
func largestLogFile(wordBits int) int64 {
	if wordBits == 32 {
		return 16 << 20
	}
	return 64 << 20
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
