package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// simRoom is what a full store may drop, and what comparisons met.
type simRoom struct {
	rows map[string]int

	mu       sync.Mutex // guards what follows
	may      bool       // the store was told that it may, and what is held
	whenFull WhenFull
	held     map[uint32]int64 // by partition: from where an uplink needs it
	stepped  int64            // ms by which steps of the wall clock may have moved the store's on
}

// now is a clock, in ms, that moves on at least as far as the store's between two moments.
func (r *simRoom) now() int64 { return time.Now().UnixMilli() + r.stepped }

// drops reports whether a full store may drop records of a topic.
func (r *simRoom) drops(p Policy) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.WhenFullSet {
		return r.may && !p.Refuse
	}
	return r.may && r.whenFull == DropOldest && (p.Delete || !p.Compact)
}

// needed is the offset from which a partition is held.
func (r *simRoom) needed(id uint32, p Policy) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from, ok := r.held[id]; ok && !p.DropUnmirrored {
		return from
	}
	return math.MaxInt64
}

// met counts a row of the crash table.
func (r *simRoom) met(row string) {
	if r.rows != nil {
		r.rows[row]++
	}
}

// hold is the store's HoldFunc.
func (r *simRoom) hold(p *Partition) (from int64, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, held = r.held[p.ID]
	return from, held
}

// budgeted gives a third of the programs a budget that is soon used up, others a store that drops its oldest records for a full disk.
func (sim *simulation) budgeted(o Options) Options {
	room := sim.model.room
	switch {
	case sim.seed%3 == 1:
		b := budget{journal: int64(journalMaximum(o)) * o.JournalBytes, passing: o.TailBytes + o.LogFileBytes}
		// With journals this small, meta.db, its copy and the ballast count.
		o.MaxBytes = 2*(b.journal+b.passing) + 512<<10 + sim.rng.Int64N(256<<10)
		if o.WhenFull = DropOldest; sim.rng.IntN(4) == 0 {
			o.WhenFull = Refuse
		}
	case sim.seed%8 == 2:
		o.WhenFull = DropOldest
	default:
		return o
	}
	room.whenFull, room.held = o.WhenFull, map[uint32]int64{}
	return o
}

// fullConfig is what topics say about full stores, by program.
func (sim *simulation) fullConfig(topic string) map[string]string {
	switch sim.seed / 3 % 4 {
	case 1:
		return map[string]map[string]string{"a": {"rivulet.when.full": "refuse"}, "b": {"rivulet.when.full": "drop_oldest"}}[topic]
	case 2:
		return map[string]map[string]string{"a": {"rivulet.priority": "5"}, "b": {"rivulet.drop.unmirrored": "true"}}[topic]
	case 3:
		return map[string]map[string]string{simCompacted: {"rivulet.when.full": "drop_oldest"}}[topic]
	}
	return nil
}

// simHeld is the topic that an uplink mirrors.
const simHeld = "b"

// flood writes more than the budget holds, moves the uplink on or not, and sees to it that records are taken again.
func (sim *simulation) flood() error {
	w := sim.w
	if w.o.MaxBytes == 0 || sim.hurt {
		return sim.burst(2)
	}
	sim.setHold()
	sim.logf("flood")
	refused := false
	for taken := int64(0); taken < w.o.MaxBytes/4 && !refused; {
		sim.n++
		op := &simOp{n: sim.n}
		ids := sim.ids()
		id := ids[sim.rng.IntN(len(ids))]
		op.appends = []simAppend{{part: id, recs: sim.noise(op, id, 1+sim.rng.IntN(4)), codec: -1}}
		if err := sim.send([]*simOp{op}); err != nil {
			return err
		}
		if w.crashed() || len(sim.unknown) > 0 {
			return nil
		}
		for _, r := range op.appends[0].recs {
			taken += int64(len(r.value))
		}
		refused = errors.Is(op.err, ErrFull)
		if err := sim.within(); err != nil {
			return err
		}
	}
	sim.countBudget()
	sim.moveHolds()
	if !refused {
		return nil
	}
	return sim.takenAgain()
}

// setHold says what uplinks need, which the store waits for before it drops anything.
func (sim *simulation) setHold() {
	room := sim.model.room
	if room.held == nil || sim.w.s == nil {
		return
	}
	room.mu.Lock()
	room.may = true
	room.mu.Unlock()
	if sim.w.hold == nil { // the stores that are opened from now on are told at once
		sim.w.hold = room.hold
		sim.w.s.SetHold(room.hold)
	}
}

// moveHolds lets the uplink send some of what it has to.
func (sim *simulation) moveHolds() {
	room := sim.model.room
	room.mu.Lock()
	defer room.mu.Unlock()
	for _, id := range sim.model.topics[simHeld] {
		if from, ok := room.held[id]; ok {
			room.held[id] = from + sim.rng.Int64N(int64(len(sim.model.parts[id].recs))-from+1)
		}
	}
}

// noise makes records that do not compress, a few KiB each.
func (sim *simulation) noise(op *simOp, id uint32, n int) []simRecord {
	recs := sim.records(op, id, n)
	for i := range recs {
		if recs[i].tomb {
			continue
		}
		b := make([]byte, 2000+sim.rng.IntN(3000))
		for k := range b {
			b[k] = byte(sim.rng.Uint32())
		}
		recs[i].value += string(b)
	}
	return recs
}

var errOverBudget = errors.New("more than the budget and a quarter of it")

// within holds what the data directory takes against the budget.
func (sim *simulation) within() error {
	w := sim.w
	if w.o.MaxBytes == 0 || w.s == nil || w.crashed() {
		return nil
	}
	taken, err := w.taken()
	if err != nil {
		return err
	}
	if limit := w.o.MaxBytes + w.o.MaxBytes/4; taken > limit {
		return fmt.Errorf("%w: %d bytes are taken, the budget is %d", errOverBudget, taken, w.o.MaxBytes)
	}
	return nil
}

// taken is what the files take, those of the journal as large as they are.
func (w *simWorld) taken() (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(w.dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += allocated(info)
		}
		return err
	})
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	for _, f := range w.fs.files {
		total += int64(len(f.disk))
	}
	return total, err
}

func (sim *simulation) countBudget() {
	for _, d := range sim.w.s.Dropped() {
		if d.Reason == DropBudget {
			sim.w.rows[rowDropped]++
		}
	}
}

// takenAgain ends what stands in the way of a full store one by one: open transactions, what is held, what may not be dropped. In the
// end it takes records by itself.
func (sim *simulation) takenAgain() error {
	w := sim.w
	for step := range 3 {
		switch step {
		case 0:
			for pid := int64(simTxnProducer); pid < simTxnProducer+2; pid++ {
				if err := sim.endTxn(pid); err != nil {
					return err
				}
			}
		case 1:
			room := sim.model.room
			room.mu.Lock()
			for id := range room.held {
				room.held[id] = int64(len(sim.model.parts[id].recs))
			}
			room.mu.Unlock()
			w.rows[rowMirrored]++
		case 2:
			for _, id := range sim.ids() {
				if err := sim.trimTo(id, int64(len(sim.model.parts[id].recs))); err != nil {
					return err
				}
			}
		}
		if w.crashed() || len(sim.unknown) > 0 {
			return nil
		}
		<-time.After(2 * sealRetryMax)
		synctest.Wait()
		if w.crashed() {
			return nil
		}
		sim.n++
		op := &simOp{n: sim.n}
		op.appends = []simAppend{{part: sim.ids()[0], recs: sim.records(op, sim.ids()[0], 1), codec: -1}}
		if err := sim.send([]*simOp{op}); err != nil || w.crashed() {
			return err
		}
		switch {
		case op.err == nil:
			w.rows[rowRefused]++
			return sim.check()
		case !errors.Is(op.err, errBudget):
			return fmt.Errorf("within the budget: %w", op.err)
		}
	}
	over, err := w.s.overBudget()
	return fmt.Errorf("everything was trimmed, and records are refused: %d over budget, %w", over, err)
}

// endTxn ends a producer's transaction, if it has one.
func (sim *simulation) endTxn(pid int64) error {
	open := sim.openParts(pid)
	if len(open) == 0 || sim.w.crashed() || len(sim.unknown) > 0 {
		return nil
	}
	sim.n++
	op := &simOp{n: sim.n, urgent: true}
	commit := sim.rng.IntN(2) == 0
	for _, id := range open {
		mk := &Marker{ProducerID: pid, Epoch: sim.model.parts[id].prods[pid].epoch, Commit: commit}
		op.appends = append(op.appends, simAppend{part: id, marker: mk})
	}
	return sim.send([]*simOp{op})
}

// simBooks is what dropped records are counted against.
type simBooks struct {
	of      *Store
	records map[string]int64   // by topic: those that were there, and those that came since
	dropped map[dropKey]uint64 // the store's counts at that time
}

// audit holds the counts of dropped records against the records that are gone. It is exact, for each topic; and no reason is
// given that the topic's configuration does not know.
func (sim *simulation) audit(st *simState) error {
	now := map[dropKey]uint64{}
	for _, d := range sim.w.s.Dropped() {
		now[dropKey{d.Topic, d.Reason}] = d.Records
	}
	there := map[string]int64{}
	topics := []string{"a", "b", simCompacted}
	for _, name := range topics {
		for _, id := range st.topics[name] {
			there[name] += int64(len(st.parts[id].recs))
		}
	}
	if sim.books == nil || sim.books.of != sim.w.s {
		sim.books = &simBooks{of: sim.w.s, records: there, dropped: now}
		return nil
	}
	for _, name := range topics {
		if err := sim.books.compare(name, there[name], now, sim.model.parts[st.topics[name][0]]); err != nil {
			return err
		}
	}
	return nil
}

// compare is audit for one topic, of which p is a partition.
func (b *simBooks) compare(name string, there int64, now map[dropKey]uint64, p *simPart) error {
	gone, counted := b.records[name]-there, int64(0)
	for _, key := range slices.SortedFunc(maps.Keys(now), func(a, b dropKey) int { return strings.Compare(string(a.reason), string(b.reason)) }) {
		n := int64(now[key] - b.dropped[key])
		if key.topic != name || n == 0 {
			continue
		}
		counted += n
		may := true
		switch key.reason {
		case DropTime:
			may = p.policy.Delete && p.policy.RetentionMs >= 0
		case DropBytes:
			may = p.policy.Delete && p.policy.RetentionBytes >= 0
		case DropCompacted:
			may = p.compact
		case DropBudget:
			may = p.room.drops(p.policy)
		case DropDeleted:
		default:
			may = false
		}
		if !may {
			return fmt.Errorf("%w: topic %s: %d records went for %q, which it does not know", errBooks, name, n, key.reason)
		}
	}
	if gone != counted {
		return fmt.Errorf("%w: topic %s: %d records are gone, %d are counted: %v, before %v", errBooks, name, gone, counted, now, b.dropped)
	}
	return nil
}

var errBooks = errors.New("dropped records are not counted right")
