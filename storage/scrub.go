package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The scrub reads everything that is sealed, slowly and for ever: a page that went bad on a flash card is found while there is
// still a copy at the centre, not in the year in which somebody asks for it. It reads every batch against its CRC32C and its
// entry in the index, every directory, every value of meta.db, the journal's files that are no longer written, and the uploads.
const (
	scrubRate  = 1 << 20        // default bytes a second
	scrubEvery = 24 * time.Hour // default: a pass begins this long after the last one began
	scrubStep  = 256 << 10      // what is read at once, at least a batch

	// While more than this is appended in a second, or commits wait for room, the scrub goes at a tenth of its rate: records that
	// come in are worth more than the ones that lie there.
	scrubBusy = 1 << 20
	scrubSlow = 10

	keyScrub = "scrub"
)

// Scrub is where the background scrub stands.
type Scrub struct {
	LastPass time.Time `json:"last_pass"` // when the last full pass ended; zero: none yet
	Running  bool      `json:"running"`
	Bytes    uint64    `json:"bytes"` // read since Open
	Passes   uint64    `json:"passes"`
}

// scrubPlace is what is remembered of it, in the store's own space, with every checkpoint.
type scrubPlace struct {
	Began    int64  `json:"began"`     // wall clock, ms: the pass under way, or the last one
	LastPass int64  `json:"last_pass"` // wall clock, ms
	Passes   uint64 `json:"passes"`
	Running  bool   `json:"running"`
	Groups   string `json:"groups"`    // directories up to this group are done
	Meta     bool   `json:"meta"`      // meta.db is done
	Journal  bool   `json:"journal"`   // the journal is done
	Uploads  bool   `json:"uploads"`   // the uploads are done
	Part     uint32 `json:"partition"` // the partition that is being read
	Offset   int64  `json:"offset"`    // from where
}

// scrubber is the scrub's state; its goroutine alone changes place, under mu.
type scrubber struct {
	s    *Store
	rate int64
	done chan struct{}

	mu    sync.Mutex // guards what follows
	place scrubPlace
	saved scrubPlace // as it was checkpointed last
	bytes uint64
}

func newScrubber(s *Store) *scrubber {
	return &scrubber{s: s, rate: s.o.ScrubRate, done: make(chan struct{})}
}

// put is the place as it is checkpointed.
func (sc *scrubber) put() Put {
	sc.mu.Lock()
	place := sc.place
	sc.saved = place
	sc.mu.Unlock()
	value, err := json.Marshal(place)
	if err != nil {
		value = []byte("{}") // it holds nothing that could fail
	}
	return Put{Space: spaceStore, Key: keyScrub, Value: value}
}

// load reads the place; what cannot be read begins a pass.
func (sc *scrubber) load() error {
	value, err := sc.s.settled(spaceStore, keyScrub)
	if err != nil || value == nil {
		return err
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if json.Unmarshal(value, &sc.place) != nil {
		sc.place = scrubPlace{}
	}
	sc.saved = sc.place
	return nil
}

// moved reports whether the place is not the one that was checkpointed.
func (sc *scrubber) moved() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.place != sc.saved
}

// run is the scrubber's goroutine. It also saves what readers found damaged.
func (sc *scrubber) run(ctx context.Context) {
	defer close(sc.done)
	if sc.rate > 0 {
		sc.recheck(ctx)
	}
	t := time.NewTimer(0)
	defer t.Stop()
	if sc.rate <= 0 {
		t.Stop()
	}
	last := sc.s.Stats().RawBytes
	for {
		select {
		case <-ctx.Done():
			return
		case <-sc.s.damage.changed:
			if err := sc.s.saveDamage(ctx); err != nil && !errors.Is(err, ErrClosed) && ctx.Err() == nil {
				sc.s.o.Log.Warn("damage is known but not written down; the next one found tries again", "err", err)
			}
			continue
		case <-t.C:
		}
		n, wait := sc.step(ctx)
		pause := max(time.Duration(float64(n)/float64(sc.rate)*float64(time.Second)), wait)
		now := sc.s.Stats().RawBytes
		if wait == 0 && (sc.s.pressed.Load() || float64(now-last) > scrubBusy*pause.Seconds()) {
			pause *= scrubSlow
		}
		last = now
		t.Reset(pause)
	}
}

// step reads what comes next. n is how many bytes it took, wait how long there is nothing to do.
func (sc *scrubber) step(ctx context.Context) (n int64, wait time.Duration) {
	s := sc.s
	now := s.o.Now()
	p := sc.at()
	if !p.Running {
		if next := time.UnixMilli(p.Began).Add(s.o.ScrubEvery); p.Began > 0 && now.Before(next) && !now.Before(time.UnixMilli(p.Began)) {
			return 0, next.Sub(now)
		}
		sc.set(scrubPlace{Began: now.UnixMilli(), LastPass: p.LastPass, Passes: p.Passes, Running: true})
		sc.tidy()
		return 0, 0
	}
	g := sc.nextGroup(p.Groups) // asked once: retention may unlink its file meanwhile
	switch {
	case !p.Meta:
		n = sc.scrubMeta(ctx)
		p.Meta = true
	case !p.Journal:
		n = sc.scrubJournal(ctx)
		p.Journal = true
	case !p.Uploads:
		n = sc.scrubUploads(ctx)
		p.Uploads = true
	case g != nil:
		n = sc.scrubDirectory(g)
		p.Groups = g.name()
	default:
		var more bool
		if n, more = sc.scrubBatches(ctx, &p); !more && ctx.Err() == nil {
			p = scrubPlace{Began: p.Began, LastPass: now.UnixMilli(), Passes: p.Passes + 1}
			s.o.Log.Info("scrub: everything was read", "damages", len(s.Damages()))
		}
	}
	sc.mu.Lock()
	sc.bytes += uint64(n)
	sc.mu.Unlock()
	sc.set(p)
	return n, 0
}

func (sc *scrubber) at() scrubPlace {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.place
}

func (sc *scrubber) set(p scrubPlace) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.place = p
}

// name puts the groups of a store into an order that restarts do not change.
func (g *group) name() string {
	return fmt.Sprintf("%s/%012d/%016x", g.file.class, g.file.number, g.key)
}

// nextGroup is the first group behind the one of that name.
func (sc *scrubber) nextGroup(name string) (next *group) {
	l := sc.s.sealed
	l.mu.RLock()
	groups := l.groups
	l.mu.RUnlock()
	least := ""
	for _, g := range groups {
		if n := g.name(); n > name && (next == nil || n < least) {
			next, least = g.group, n
		}
	}
	return next
}

// scrubDirectory reads one group's directory. It is needed for frames, and at the next start, which salvages the file's other
// groups; the batches can still be read until then.
func (sc *scrubber) scrubDirectory(g *group) int64 {
	var dir []byte
	err := sc.s.sealed.handles.view(g.file, func(groups *bolt.Bucket) error {
		dir = directory(groups, g.key)
		return nil
	})
	if err == nil {
		err = eachDirEntry(dir, func(*dirEntry) error { return nil })
	}
	if unreadable(err) {
		sc.s.problemOnce(Problem{
			File: g.file.path, Where: fmt.Sprintf("group %d", g.key),
			Detail: "the directory is damaged; its records can be read until the next start: back up or mirror this store now: " + err.Error(),
		})
	}
	return int64(len(dir))
}

// scrubMeta reads all values of meta.db.
func (sc *scrubber) scrubMeta(ctx context.Context) (n int64) {
	n, err := sc.s.meta.scrub(ctx)
	if err != nil && ctx.Err() == nil {
		sc.s.problemOnce(Problem{File: sc.s.meta.path, Where: "values", Detail: err.Error()})
	}
	return n
}

// scrubBatches reads about scrubStep bytes of batches from p on and moves it; false at the end.
func (sc *scrubber) scrubBatches(ctx context.Context, p *scrubPlace) (n int64, more bool) {
	l := sc.s.sealed
	for n < scrubStep && ctx.Err() == nil {
		entries := l.index(p.Part)
		entries = entries[at(entries, p.Offset):]
		if len(entries) == 0 || sc.s.partition(p.Part) == nil {
			ids := l.ids()
			i, found := slices.BinarySearch(ids, p.Part)
			if found {
				i++
			}
			if i >= len(ids) {
				return n, false
			}
			p.Part, p.Offset = ids[i], 0
			continue
		}
		e := entries[0]
		p.Offset = e.next()
		n += int64(e.size)
		if e.size == 0 || l.damage.covers(p.Part, e.base, e.next()) {
			continue
		}
		_, err := l.readRun(nil, p.Part, entries[:1])
		if err == nil {
			continue
		}
		// Retention or a move may have been faster: what counts is the present index.
		if again := l.index(p.Part); len(again) > 0 {
			if i := at(again, e.base); i < len(again) && again[i] == e {
				_, _ = l.setAside(err) // it is told there
			}
		}
	}
	return n, true
}

// recheck looks once more at what earlier runs found damaged: a fault of the memory or of a cable may have gone.
func (sc *scrubber) recheck(ctx context.Context) {
	sc.tidy()
	l := sc.s.sealed
	for _, id := range sc.s.damage.ids() {
		entries := l.index(id)
		healed := map[int64]bool{}
		for _, d := range sc.s.damage.list(id) {
			if ctx.Err() != nil {
				return
			}
			if l.whole(id, entries, d.first, d.next) {
				healed[d.first] = true
				sc.s.o.Log.Warn("records that could not be read can be read again", "partition", id, "first", d.first, "last", d.next-1)
			}
		}
		if len(healed) > 0 {
			sc.s.damage.forget(id, func(d damageEntry) bool { return healed[d.first] })
		}
	}
}

// whole reports whether there are batches of these offsets, and all of them can be read.
func (l *sealedLog) whole(id uint32, entries []indexEntry, first, next int64) (whole bool) {
	for i := at(entries, first); i < len(entries) && entries[i].base < next; i++ {
		if entries[i].size == 0 {
			continue
		}
		if _, err := l.check(id, &entries[i]); err != nil {
			return false
		}
		whole = true
	}
	return whole
}

// check reads one batch, whether it is known as damaged or not.
func (l *sealedLog) check(id uint32, e *indexEntry) (b []byte, err error) {
	err = l.handles.view(e.group.file, func(groups *bolt.Bucket) error {
		b, err = readBatch(groups, e)
		return err
	})
	return b, err
}

// tidy forgets the damage of what is gone: deleted topics, and records before a log's start.
func (sc *scrubber) tidy() {
	for _, id := range sc.s.damage.ids() {
		start := int64(1<<63 - 1)
		if p := sc.s.partition(id); p != nil {
			start, _, _ = p.Offsets()
		}
		sc.s.damage.forget(id, func(d damageEntry) bool { return d.next <= start })
	}
}

// Scrub says where the background scrub stands.
func (s *Store) Scrub() Scrub {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	out := Scrub{Running: s.scrub.place.Running, Bytes: s.scrub.bytes, Passes: s.scrub.place.Passes}
	if s.scrub.place.LastPass > 0 {
		out.LastPass = time.UnixMilli(s.scrub.place.LastPass)
	}
	return out
}
