package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rivulet/storage/batch"
)

// simSpaces are the spaces that programs write to. In the first, key "last" is the number of the last commit that wrote it.
var simSpaces = []string{"sim", "other"}

// TestSimulator runs random programs of appends, key-value changes, seals, checkpoints and what can go wrong, and holds the
// store against a model after every crash: what was acknowledged is there, once, in order; of what was not, the first few
// commits may be there, whole; the key-value space, transactions and producers are those of the same moment.
//
// RIVULET_SIM_SEEDS is the number of programs, RIVULET_SIM_FIRST the first of them; RIVULET_SIM_SEED runs one alone, with a log.
func TestSimulator(t *testing.T) {
	if v := os.Getenv("RIVULET_SIM_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		newSimulation(t, seed, t.Logf).run()
		return
	}
	var mu sync.Mutex
	rows := map[string]int{}
	n, first := testSeeds(t, "RIVULET_SIM_SEEDS", simEnough), testSeeds(t, "RIVULET_SIM_FIRST", 0)
	t.Run("programs", func(t *testing.T) {
		for part := range 4 {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for seed := first + part; seed < first+n; seed += 4 {
					sim := newSimulation(t, uint64(seed), nil)
					sim.run()
					mu.Lock()
					for row, hits := range sim.w.rows {
						rows[row] += hits
					}
					mu.Unlock()
					if t.Failed() {
						return
					}
				}
			})
		}
	})
	for _, row := range simRows {
		t.Logf("%6d × %s", rows[row], row)
		if rows[row] == 0 && n >= simEnough && !t.Failed() {
			t.Errorf("no program met this row of the crash table: %s", row)
		}
	}
}

// simEnough programs meet every row of the crash table.
const simEnough = 250

// simulation is one program.
type simulation struct {
	t    *testing.T
	root string
	seed uint64
	rng  *rand.Rand
	logf func(format string, args ...any)
	w    *simWorld

	model   *simModel // what was acknowledged
	unknown []*simOp  // asked behind that, in order, without an answer that can be trusted
	history []*simOp  // all that made the model
	begun   uint64    // last frame when the store was opened
	seqOf   map[string]uint64
	n       int // operations
	crashes int
	hurt    bool // a frame was damaged
	gen     Generation
	books   *simBooks
}

func newSimulation(t *testing.T, seed uint64, logf func(string, ...any)) *simulation {
	sim := &simulation{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), logf: logf, model: newSimModel(), seqOf: map[string]uint64{}}
	if logf == nil {
		sim.logf = func(string, ...any) {}
	}
	return sim
}

func (sim *simulation) run() {
	root, err := os.MkdirTemp(simRoot(), "rivulet-sim")
	if err != nil {
		sim.t.Fatal(err)
	}
	defer os.RemoveAll(root)
	sim.root = root
	// In a bubble time passes when nothing else can happen, so that waiting for company or for the next try costs nothing
	// and the same seed does the same.
	synctest.Test(sim.t, func(t *testing.T) {
		sim.build(root)
		if err := sim.program(); err != nil {
			if sim.w.s != nil {
				sim.w.s.Close()
			}
			t.Errorf("seed %d, operation %d, crash %d: %v\nrun it again: RIVULET_SIM_SEED=%d go test -run TestSimulator ./storage/",
				sim.seed, sim.n, sim.crashes, err, sim.seed)
		}
	})
}

// build makes the machine, with options by seed. It is called in the bubble.
func (sim *simulation) build(root string) {
	o := Options{JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 128 << 10, Labels: testLabels(), Rand: rand.New(rand.NewPCG(sim.seed, 2)).Uint64}
	o.CompactBytes = []int64{simWholeTable, simWholeTable, 18 * keySlotBytes}[sim.seed%3]
	if sim.rng.IntN(2) == 0 {
		o.Linger = time.Millisecond
	}
	o = sim.budgeted(o)
	sim.w = newSimWorld(root, sim.seed, o)
	sim.model.room.rows = sim.w.rows
	sim.stepping()
}

// program opens a store and does things to it.
func (sim *simulation) program() error {
	if err := sim.w.open(); err != nil {
		return fmt.Errorf("first open: %w", err)
	}
	sim.gen = sim.w.s.Generation()
	for _, name := range []string{"a", "b", simCompacted} {
		if err := sim.topicOp(name, 1+sim.rng.IntN(3)); err != nil {
			return err
		}
	}
	for steps := 20 + sim.rng.IntN(40); steps > 0; steps-- {
		if err := sim.step(); err != nil {
			return err
		}
		synctest.Wait()
		if sim.w.crashed() {
			if err := sim.recover(); err != nil {
				return fmt.Errorf("after a crash: %w", err)
			}
		}
	}
	if err := sim.check(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := sim.reopen(); err != nil {
		return err
	}
	err := sim.w.s.Close()
	sim.w.s = nil
	return err
}

// step does one thing.
func (sim *simulation) step() error {
	r := sim.rng
	switch k := r.IntN(108); {
	case k >= 106:
		return sim.stepClock()
	case k >= 103:
		return sim.compactStep()
	case k >= 100:
		return sim.flood()
	case k < 40:
		return sim.burst(1 + r.IntN(6))
	case k < 50:
		return sim.burst(1)
	case k < 58:
		sim.logf("seal")
		sim.w.s.pressed.Store(true)
		sim.w.s.wakeSealer()
		return nil
	case k < 72:
		sim.arm()
		return sim.burst(1 + r.IntN(4))
	case k < 76:
		kill := r.IntN(3) == 0
		sim.logf("crash now, kill %v", kill)
		sim.w.pull(kill)
		return nil
	case k < 80:
		return sim.failSync(1)
	case k < 81:
		return sim.failSync(2)
	case k < 84:
		return sim.fill()
	case k < 88:
		return sim.topicStep()
	case k < 91:
		return sim.reopen()
	case k < 92:
		return sim.damage()
	case k < 93:
		return sim.copyForward()
	case k < 95:
		return sim.compactStep()
	case k < 96:
		return sim.probe()
	case k < 98:
		return sim.late()
	default:
		return sim.check()
	}
}

// arm plans a crash for some moment of what comes next.
func (sim *simulation) arm() {
	r := sim.rng
	p := crashPlan{count: 1 + r.IntN(4), kill: r.IntN(4) == 0}
	switch r.IntN(9) {
	case 8:
		p.op, p.count = pointSweep, 1+r.IntN(2)
	case 0:
		p.op = []string{pointLogCreated, pointLogRenamed}[r.IntN(2)]
		p.count = 1
	case 1:
		p.op, p.count = []string{pointSealBefore, pointSealAfter}[r.IntN(2)], 1+r.IntN(2)
	case 2:
		p.op, p.count = []string{pointApplyBefore, pointApplyAfter}[r.IntN(2)], 1
	case 3:
		p.op, p.behind, p.count = "rename", r.IntN(2) == 0, 1+r.IntN(2)
	case 4:
		p.op, p.behind, p.count = []string{"create", "remove"}[r.IntN(2)], r.IntN(2) == 0, 1
	case 5:
		p.op, p.behind = "write", r.IntN(2) == 0
	default:
		p.op, p.behind = "sync", r.IntN(2) == 0
	}
	sim.logf("will crash: %+v", p)
	sim.w.plan(p)
}

func (sim *simulation) part(id uint32) *Partition { return sim.w.s.partition(id) }

// ids lists the partitions of the topics that never go away.
func (sim *simulation) ids() []uint32 {
	return slices.Concat(sim.model.topics["a"], sim.model.topics["b"], sim.model.topics[simCompacted])
}

// burst sends commits without waiting, then waits for all. No two of them are of the same producer, so that one that is
// refused makes no other one wrong.
func (sim *simulation) burst(n int) error {
	var ops []*simOp
	used := map[int64]bool{}
	for range n {
		if op := sim.randomOp(used); op != nil {
			ops = append(ops, op)
		}
	}
	return sim.send(ops)
}

// send submits ops and waits for them.
func (sim *simulation) send(ops []*simOp) error {
	ctx, cancel := context.WithTimeout(context.Background(), simTimeout)
	defer cancel()
	for _, op := range ops {
		op.born = sim.model.room.now()
		op.c = op.commit(sim.part)
		op.done = make(chan struct{})
		op.c.Done = func(*Commit) { close(op.done) }
		if op.err = sim.w.s.Submit(ctx, op.c); op.err != nil {
			if errors.Is(op.err, context.DeadlineExceeded) {
				return fmt.Errorf("commit %d waits for ever", op.n)
			}
			close(op.done)
		}
	}
	for _, op := range ops {
		select {
		case <-op.done:
		case <-ctx.Done():
			return fmt.Errorf("commit %d is never answered", op.n)
		}
		if op.err == nil {
			op.err = op.c.Err
		}
		sim.logf("%d: %s: frame %d, %v", op.n, op, op.c.Seq, op.err)
		if err := sim.settle(op); err != nil {
			return err
		}
	}
	return nil
}

// settle takes an answer into the model.
func (sim *simulation) settle(op *simOp) error {
	switch {
	case op.err == nil:
		if len(sim.unknown) > 0 {
			return fmt.Errorf("commit %d succeeded behind %d, which failed", op.n, sim.unknown[0].n)
		}
		for i := range op.appends {
			p := sim.model.parts[op.appends[i].part]
			want := int64(len(p.recs))
			for _, before := range op.appends[:i] {
				if before.part == op.appends[i].part {
					return errors.New("BUG: a partition twice in a commit")
				}
			}
			if got := op.c.Appends[i].Base; got != want {
				return fmt.Errorf("commit %d has base offset %d, want %d", op.n, got, want)
			}
			for _, r := range op.appends[i].recs {
				sim.seqOf[r.value] = op.c.Seq
			}
		}
		sim.learn(op)
	case errors.Is(op.err, ErrFull) && !errors.Is(op.err, ErrReadOnly):
		// Refused: nothing of it may ever be seen.
	case errors.Is(op.err, ErrReadOnly), errors.Is(op.err, ErrClosed), sim.w.crashed():
		sim.unknown = append(sim.unknown, op)
	default:
		return fmt.Errorf("commit %d: %w", op.n, op.err)
	}
	return nil
}

func (sim *simulation) learn(op *simOp) {
	if sim.books != nil && sim.books.of == sim.w.s {
		for name, ids := range sim.model.topics {
			for i := range op.appends {
				if a := &op.appends[i]; slices.Contains(ids, a.part) {
					sim.books.records[name] += int64(len(a.recs))
					if a.marker != nil {
						sim.books.records[name]++
					}
				}
			}
		}
	}
	sim.model.apply(op, false, false)
	sim.history = append(sim.history, op)
}

func (op *simOp) String() string {
	if op.topic != "" {
		return fmt.Sprintf("topic %s × %d", op.topic, op.create)
	}
	var b strings.Builder
	for _, a := range op.appends {
		if a.marker != nil {
			fmt.Fprintf(&b, "%d: marker of %d (commit %v); ", a.part, a.marker.ProducerID, a.marker.Commit)
		} else {
			fmt.Fprintf(&b, "%d: %d records, codec %d; ", a.part, len(a.recs), a.codec)
		}
	}
	if op.prod != nil {
		fmt.Fprintf(&b, "producer %+v; ", *op.prod)
	}
	fmt.Fprintf(&b, "%d puts", len(op.puts))
	return b.String()
}

// Producers below this id are idempotent, those from here on transactional.
const simTxnProducer = 100

func (sim *simulation) randomOp(used map[int64]bool) *simOp {
	r := sim.rng
	sim.n++
	op := &simOp{n: sim.n}
	ids := sim.ids()
	switch k := r.IntN(10); {
	case k < 5: // plain
		for _, i := range r.Perm(len(ids))[:r.IntN(min(3, len(ids)))+1] {
			op.appends = append(op.appends, simAppend{part: ids[i], recs: sim.records(op, ids[i], 1+r.IntN(4)), codec: -1})
		}
		if r.IntN(3) == 0 {
			op.appends[0].codec = batch.Codec(r.IntN(5))
		}
	case k < 7: // idempotent
		pid := int64(1 + r.IntN(3))
		if used[pid] {
			return sim.putOp(op)
		}
		used[pid] = true
		sim.produce(op, ids[r.IntN(len(ids))], pid, false)
	case k < 9: // a transaction
		pid := int64(simTxnProducer + r.IntN(2))
		if used[pid] {
			return sim.putOp(op)
		}
		used[pid] = true
		if open := sim.openParts(pid); len(open) > 0 && r.IntN(2) == 0 {
			commit := r.IntN(2) == 0
			op.urgent = true
			for _, id := range open {
				mk := &Marker{ProducerID: pid, Epoch: sim.model.parts[id].prods[pid].epoch, Commit: commit}
				op.appends = append(op.appends, simAppend{part: id, marker: mk})
			}
			break
		}
		sim.produce(op, ids[r.IntN(len(ids))], pid, true)
	default:
		return sim.putOp(op)
	}
	if r.IntN(3) > 0 {
		sim.putOp(op)
	}
	return op
}

func (sim *simulation) openParts(pid int64) []uint32 {
	var out []uint32
	for _, id := range sim.ids() {
		if _, open := sim.model.parts[id].open[pid]; open {
			out = append(out, id)
		}
	}
	return out
}

// produce makes op a producer's next batch, sometimes one of which a plugin let nothing through.
func (sim *simulation) produce(op *simOp, id uint32, pid int64, txn bool) {
	r := sim.rng
	b := &simBatch{part: id, pid: pid, n: int32(1 + r.IntN(5)), txn: txn}
	if pr := sim.model.parts[id].prods[pid]; pr != nil {
		b.epoch, b.seq = pr.epoch, pr.next
		if _, open := sim.model.parts[id].open[pid]; !open && r.IntN(8) == 0 {
			b.epoch, b.seq = pr.epoch+1, 0
		}
	}
	op.prod = b
	switch r.IntN(4) {
	case 0:
		if !txn { // all of it was dropped
			sim.putOp(op)
			return
		}
		fallthrough
	case 1: // changed by a plugin
		op.appends = []simAppend{{part: id, recs: sim.records(op, id, 1+r.IntN(3)), codec: -1}}
	default:
		op.appends = []simAppend{{part: id, recs: sim.records(op, id, int(b.n)), codec: batch.Codec(r.IntN(5))}}
	}
}

// records makes records that tell where they come from; now and then a large one that does not compress.
func (sim *simulation) records(op *simOp, id uint32, n int) []simRecord {
	r := sim.rng
	compact := sim.model.parts[id].compact
	out := make([]simRecord, n)
	for i := range out {
		value := fmt.Sprintf("commit %d append %d record %d", op.n, len(op.appends), i)
		switch r.IntN(12) {
		case 0:
			value += strings.Repeat(" and so on", r.IntN(200))
		case 1:
			noise := make([]byte, r.IntN(5000))
			for k := range noise {
				noise[k] = byte(r.Uint32())
			}
			value += string(noise)
		}
		out[i] = simRecord{value: value, ts: int64(r.IntN(1_000_000)), txn: -1}
		if op.prod != nil && op.prod.txn {
			out[i].txn = op.prod.pid
		}
		if compact {
			sim.keyed(&out[i])
		}
	}
	return out
}

// putOp adds key-value changes to op, always with its number.
func (sim *simulation) putOp(op *simOp) *simOp {
	r := sim.rng
	if len(op.puts) > 0 {
		return op
	}
	op.puts = []Put{{simSpaces[0], "last", strconv.AppendInt(nil, int64(op.n), 10)}}
	for range r.IntN(4) {
		p := Put{Space: simSpaces[r.IntN(2)], Key: fmt.Sprintf("key %d", r.IntN(12))}
		if r.IntN(4) > 0 {
			p.Value = fmt.Appendf([]byte{}, "commit %d %s", op.n, strings.Repeat("v", r.IntN(3)*r.IntN(2000)))
			if r.IntN(10) == 0 {
				p.Value = []byte{}
			}
		}
		op.puts = append(op.puts, p)
	}
	return op
}
