package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"
)

// failSync lets the next syncs of the journal fail. One is made good in another file; two end all writing.
func (sim *simulation) failSync(n int) error {
	sim.logf("%d syncs fail", n)
	w := sim.w
	w.mu.Lock()
	w.syncs = n
	w.mu.Unlock()
	before := len(sim.history)
	if err := sim.burst(2); err != nil {
		return err
	}
	w.mu.Lock()
	left := w.syncs
	w.syncs = 0
	w.mu.Unlock()
	switch {
	case w.crashed() || left == n:
		return nil
	case n == 1:
		if len(sim.unknown) > 0 {
			return fmt.Errorf("one failed sync was not made good: %w", sim.unknown[0].err)
		}
		if len(sim.history) > before {
			w.rows[rowSyncOnce]++
		}
		return nil
	case left > 0: // the second one did not come
		return nil
	}
	if len(sim.unknown) == 0 {
		return errors.New("two failed syncs, and nothing was refused")
	}
	// What was acknowledged is still served.
	st, err := readState(w.s, 1<<20)
	if err != nil {
		return err
	}
	if err := sim.model.compare(st); err != nil {
		return fmt.Errorf("read-only store: %w", err)
	}
	sim.n++
	if err := w.s.Do(context.Background(), sim.putOp(&simOp{n: sim.n, urgent: true}).commit(sim.part)); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("a store that cannot sync takes a commit: %w", err)
	}
	w.rows[rowSyncTwice]++
	if sim.rng.IntN(4) == 0 {
		if err := sim.backUpReadOnly(); err != nil {
			return err
		}
	}
	if sim.rng.IntN(3) > 0 {
		w.pull(sim.rng.IntN(2) == 0)
		return nil
	}
	// Closed in order, it still seals and checkpoints what is durable, and no more than that.
	w.plan(crashPlan{})
	if err := w.s.Close(); err != nil && !w.crashed() {
		return fmt.Errorf("close a read-only store: %w", err)
	}
	w.s = nil
	w.pull(sim.rng.IntN(2) == 0)
	return nil
}

// fill takes all space: records are refused in the end, what must fit still fits, and it all ends when there is space again.
func (sim *simulation) fill() error {
	synctest.Wait() // the promise begins when the reserved files exist
	sim.logf("the disk is full")
	w := sim.w
	w.mu.Lock()
	w.full = true
	w.mu.Unlock()
	refused := false
	for range 40 {
		if err := sim.burst(3); err != nil {
			return err
		}
		if w.crashed() {
			return nil
		}
		for _, op := range sim.lastOps(3) {
			refused = refused || errors.Is(op.err, ErrFull)
		}
		if w.s.Stats().Full && sim.refused() {
			refused = true
			break
		}
	}
	sim.n++
	op := sim.putOp(&simOp{n: sim.n, urgent: true})
	if err := sim.send([]*simOp{op}); err != nil {
		return err
	}
	if !w.crashed() && op.err != nil {
		return fmt.Errorf("what must fit was refused: %w", op.err)
	}
	w.mu.Lock()
	w.full = false
	w.mu.Unlock()
	// The sealer tries again by itself.
	<-time.After(2 * sealRetryMax)
	synctest.Wait()
	if w.crashed() {
		return nil
	}
	sim.n++
	op = &simOp{n: sim.n}
	op.appends = []simAppend{{part: sim.ids()[0], recs: sim.records(op, sim.ids()[0], 1), codec: -1}}
	if err := sim.send([]*simOp{op}); err != nil {
		return err
	}
	if w.crashed() {
		return nil
	}
	if errors.Is(op.err, errBudget) {
		return sim.takenAgain()
	}
	if op.err != nil {
		return fmt.Errorf("there is space again: %w", op.err)
	}
	if refused {
		w.rows[rowFull]++
	}
	return nil
}

// refused tells whether a record is refused now.
func (sim *simulation) refused() bool {
	sim.n++
	op := &simOp{n: sim.n}
	op.appends = []simAppend{{part: sim.ids()[0], recs: sim.records(op, sim.ids()[0], 1), codec: -1}}
	if err := sim.send([]*simOp{op}); err != nil {
		return false
	}
	return errors.Is(op.err, ErrFull)
}

func (sim *simulation) lastOps(n int) []*simOp {
	return sim.history[max(0, len(sim.history)-n):]
}

// topicStep creates topic "c" or deletes it; while it is there, records go to it.
func (sim *simulation) topicStep() error {
	if _, ok := sim.model.topics["c"]; !ok {
		if err := sim.topicOp("c", 1+sim.rng.IntN(2)); err != nil || sim.w.crashed() {
			return err
		}
		return sim.appendToC()
	}
	if sim.rng.IntN(2) == 0 {
		return sim.appendToC()
	}
	return sim.topicOp("c", 0)
}

func (sim *simulation) appendToC() error {
	sim.n++
	op := &simOp{n: sim.n}
	for _, id := range sim.model.topics["c"] {
		op.appends = append(op.appends, simAppend{part: id, recs: sim.records(op, id, 1), codec: -1})
	}
	return sim.send([]*simOp{op})
}

// topicOp creates a topic, or deletes it when partitions is 0.
func (sim *simulation) topicOp(name string, partitions int) error {
	sim.n++
	op := &simOp{n: sim.n, topic: name, create: partitions}
	if name == "b" && sim.seed%4 == 0 {
		op.config = []map[string]string{{"retention.ms": "3600000"}, {"retention.bytes": "4000"}}[sim.seed/4%2]
	}
	if name == simCompacted {
		op.config = simCompactConfigs[sim.seed%uint64(len(simCompactConfigs))]
	}
	if extra := sim.fullConfig(name); sim.model.room.held != nil && extra != nil {
		op.config = maps.Clone(op.config)
		if op.config == nil {
			op.config = map[string]string{}
		}
		maps.Copy(op.config, extra)
	}
	if partitions == 0 {
		op.err = sim.w.s.DeleteTopic(context.Background(), name)
	} else {
		var tp *Topic
		if tp, op.err = sim.w.s.CreateTopic(context.Background(), name, partitions, op.config); op.err == nil {
			for _, p := range tp.Partitions {
				op.ids = append(op.ids, p.ID)
			}
		}
	}
	sim.logf("%d: %s: %v", op.n, op, op.err)
	switch {
	case op.err == nil && len(sim.unknown) > 0:
		return fmt.Errorf("topic %s changed behind commit %d, which failed", name, sim.unknown[0].n)
	case op.err == nil:
		return sim.learnTopic(op)
	case errors.Is(op.err, ErrFull) && !errors.Is(op.err, ErrReadOnly):
		return nil
	case sim.w.crashed(), errors.Is(op.err, ErrReadOnly):
		sim.unknown = append(sim.unknown, op)
		return nil
	}
	return op.err
}

func (sim *simulation) learnTopic(op *simOp) error {
	for _, id := range op.ids {
		if id < sim.model.nextPart {
			return fmt.Errorf("partition id %d is used again", id)
		}
	}
	sim.learn(op)
	if room := sim.model.room; op.topic == simHeld && room.held != nil {
		room.mu.Lock()
		defer room.mu.Unlock()
		for _, id := range op.ids {
			if _, ok := room.held[id]; !ok {
				room.held[id] = 0
			}
		}
	}
	return nil
}

// check holds the running store against the model.
func (sim *simulation) check() error {
	if len(sim.unknown) > 0 || sim.w.crashed() {
		return nil
	}
	synctest.Wait()
	step := []int{1, 1000, 1 << 20}[sim.rng.IntN(3)]
	st, err := readState(sim.w.s, step)
	if err != nil {
		return err
	}
	if err := sim.model.compare(st); err != nil {
		return err
	}
	sim.model.begins(st)
	if err := errors.Join(sim.audit(st), sim.within()); err != nil {
		return err
	}
	return compareFrames(sim.w.s, sim.model, step, sim.seqOf)
}

// probe sends what producers sent before, and what they must not send.
func (sim *simulation) probe() error {
	for _, id := range sim.ids() {
		for pid := int64(1); pid < simTxnProducer+2; pid++ {
			pr := sim.model.parts[id].prods[pid]
			if pr == nil {
				continue
			}
			for i, r := range pr.recent {
				b := simBatch{part: id, pid: pid, epoch: pr.epoch, seq: r.first, n: r.last - r.first + 1, txn: pid >= simTxnProducer}
				if base, err := sim.attempt(b); !errors.Is(err, ErrDuplicate) || base != r.base {
					if sim.w.crashed() || len(sim.unknown) > 0 {
						return nil
					}
					return fmt.Errorf("partition %d, producer %d: batch %d of %+v sent again: offset %d, %w", id, pid, i, *pr, base, err)
				}
			}
			b := simBatch{part: id, pid: pid, epoch: pr.epoch, seq: pr.next + 7, n: 1, txn: pid >= simTxnProducer}
			if _, err := sim.attempt(b); len(pr.recent) > 0 && !errors.Is(err, ErrOutOfOrder) {
				if sim.w.crashed() || len(sim.unknown) > 0 {
					return nil
				}
				return fmt.Errorf("partition %d, producer %d: a gap in sequences: %w", id, pid, err)
			}
			if pr.epoch > 0 {
				b.epoch--
				if _, err := sim.attempt(b); !errors.Is(err, ErrFenced) && !sim.w.crashed() && len(sim.unknown) == 0 {
					return fmt.Errorf("partition %d, producer %d: an old epoch: %w", id, pid, err)
				}
			}
		}
	}
	return nil
}

// attempt sends a batch that must be refused.
func (sim *simulation) attempt(b simBatch) (base int64, err error) {
	op := &simOp{prod: &b}
	recs := make([]simRecord, b.n)
	for i := range recs {
		recs[i] = simRecord{value: "must not be stored"}
	}
	op.appends = []simAppend{{part: b.part, recs: recs, codec: -1}}
	c := op.commit(sim.part)
	c.Urgent = true // whatever room there is
	err = sim.w.s.Do(context.Background(), c)
	return c.Appends[0].Base, err
}

// reopen closes the store, which seals and checkpoints, and opens it again.
func (sim *simulation) reopen() error {
	sim.logf("close and open")
	sim.w.plan(crashPlan{})
	clock, moment := sim.storeClock(), time.Now()
	err := sim.w.s.Close()
	sim.w.s = nil
	if sim.w.crashed() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := sim.w.open(); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	sim.begun = sim.w.s.LastSeq()
	if err := clockMoved(clock, sim.w.s.clock.now(), time.Since(moment)); err != nil {
		return fmt.Errorf("opened again: %w", err)
	}
	// A log that ends in a hole is reported until something follows.
	if p := sim.w.s.Problems(); len(p) > 0 && !sim.hurt {
		return fmt.Errorf("opened after a clean close: %v", p)
	}
	return sim.check()
}

// recover starts the store after a crash, perhaps with another crash in the start, and finds out which commits without an
// answer are there: the first few, and all of each.
func (sim *simulation) recover() error {
	w := sim.w
	for {
		sim.crashes++
		img, err := w.reboot()
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		sim.logf("--- crash %d: %+v, %d unknown", sim.crashes, img.plan, len(sim.unknown))
		if img.compacting {
			w.rows[compactionRow(img.plan)]++
		}
		switch img.plan.op {
		case pointApplyAfter:
			w.rows[rowApplied]++
		case pointLogCreated, pointLogRenamed:
			w.rows[rowCreated]++
		case "rename":
			w.rows[rowRecycle]++
		case pointSweep:
			w.rows[rowUnlinked]++
		case pointForwardRenamed, pointForwardUnlink:
			if !img.compacting {
				w.rows[rowForward]++
			}
		}
		torn := img.fs.torn
		if sim.rng.IntN(4) == 0 {
			sim.armRecovery()
		}
		err = w.open()
		if w.crashed() {
			w.rows[rowInRecovery]++
			continue
		}
		w.plan(crashPlan{})
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if w.s.meta.appliedSeq() < w.s.sealed.sealedSeq() {
			w.rows[rowSealed]++
		}
		unanswered := sim.unknown
		asked := len(unanswered)
		kept, err := sim.resolve()
		if err != nil {
			return err
		}
		if kept > 0 {
			w.rows[rowDurable]++
		}
		if torn && kept < asked {
			w.rows[rowTorn]++
		}
		if sim.model.reborn {
			w.rows[rowReborn]++
		}
		if g := w.s.Generation(); g.ID != sim.gen.ID || len(w.s.Problems()) > 0 && !sim.hurt {
			return fmt.Errorf("nothing that was acknowledged is lost, but the generation is %+v, the problems %v", g, w.s.Problems())
		}
		sim.begun = w.s.LastSeq()
		if err := sim.check(); err != nil {
			return err
		}
		if err := sim.probe(); err != nil {
			return err
		}
		return sim.again(unanswered[kept:])
	}
}

// again sends once more what producers have no answer to and what is not there: nobody may tell them that it is.
func (sim *simulation) again(ops []*simOp) error {
	for _, op := range ops {
		if op.prod == nil || sim.w.crashed() || len(sim.unknown) > 0 {
			continue
		}
		p := sim.model.parts[op.prod.part]
		if p == nil {
			continue
		}
		want := int32(0)
		if pr := p.prods[op.prod.pid]; pr != nil && pr.epoch == op.prod.epoch {
			want = pr.next
		} else if pr != nil && pr.epoch > op.prod.epoch {
			continue
		}
		if op.prod.seq != want {
			continue
		}
		if err := sim.send([]*simOp{op}); err != nil {
			return fmt.Errorf("sent again: %w", err)
		}
	}
	return nil
}

func (sim *simulation) armRecovery() {
	p := crashPlan{count: 1 + sim.rng.IntN(3), kill: sim.rng.IntN(4) == 0}
	p.op = []string{"write", "sync", "read", "rename", "open", pointSealAfter, pointApplyAfter}[sim.rng.IntN(7)]
	p.behind = p.op != "read" && p.op != "open" && sim.rng.IntN(2) == 0
	sim.logf("will crash in recovery: %+v", p)
	sim.w.plan(p)
}

// resolve makes the model that of the store, by as many of the unknown commits as took place.
func (sim *simulation) resolve() (kept int, err error) {
	synctest.Wait() // retention may be at work
	st, err := readState(sim.w.s, 1<<20)
	if err != nil {
		return 0, err
	}
	m := sim.model.clone()
	var reasons []error
	for k := 0; ; k++ {
		err := m.compare(st)
		if err == nil {
			for _, op := range sim.unknown[:k] {
				if op.topic != "" {
					if err := sim.learnTopic(op); err != nil {
						return 0, err
					}
					continue
				}
				sim.learn(op)
			}
			sim.unknown = nil
			sim.model.begins(st)
			return k, nil
		}
		reasons = append(reasons, fmt.Errorf("with %d of the unanswered: %w", k, err))
		if k == len(sim.unknown) {
			return 0, errors.Join(reasons...)
		}
		op := sim.unknown[k]
		if op.create > 0 {
			op.ids = slices.Clone(st.topics[op.topic])
		}
		m.apply(op, false, false)
	}
}

// copyForward rewrites all that is sealed, perhaps with a crash at one of its cuts.
func (sim *simulation) copyForward() error {
	if sim.rng.IntN(3) > 0 {
		points := []string{pointForwardBefore, pointForwardWritten, pointForwardRenamed, pointForwardUnlink}
		p := crashPlan{op: points[sim.rng.IntN(len(points))], count: 1, kill: sim.rng.IntN(4) == 0}
		sim.logf("will crash: %+v", p)
		sim.w.plan(p)
	}
	sim.logf("copy forward")
	s := sim.w.s
	s.onSealer(func() {
		if err := s.seal(); err != nil {
			return
		}
		for _, class := range s.sealed.classNames() {
			if err := s.sealed.retire(class); err != nil {
				return
			}
			if err := s.sealed.rewrite(s.sealed.rewritable(class), rewriting{pause: s.breathe}); err != nil {
				sim.logf("copy forward: %v", err)
			}
		}
	})
	return nil
}
