package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing/synctest"
	"time"
)

// late does what comes in the years behind the first day.
func (sim *simulation) late() error {
	switch k := sim.rng.IntN(8); {
	case k < 3:
		return sim.trim()
	case k < 7:
		return sim.pass()
	default:
		return sim.backUp()
	}
}

// trim moves a log start; without an answer it may have been moved.
func (sim *simulation) trim() error {
	ids := sim.ids()
	id := ids[sim.rng.IntN(len(ids))]
	return sim.trimTo(id, sim.rng.Int64N(int64(len(sim.model.parts[id].recs))+1))
}

func (sim *simulation) trimTo(id uint32, to int64) error {
	p := sim.model.parts[id]
	p.limit = max(p.limit, to)
	err := sim.w.s.Trim(context.Background(), []Start{{Partition: sim.part(id), Offset: to}})
	sim.logf("trim %d to %d: %v", id, to, err)
	switch {
	case err == nil:
		p.start = max(p.start, to)
		sim.w.rows[rowTrimmed]++
	case !sim.w.crashed() && !errors.Is(err, ErrReadOnly) && !errors.Is(err, ErrFull):
		return fmt.Errorf("trim partition %d to %d: %w", id, to, err)
	}
	return nil
}

// pass lets time go by, in which retention has its say.
func (sim *simulation) pass() error {
	d := []time.Duration{time.Minute, 50 * time.Minute, 3 * time.Hour}[sim.rng.IntN(3)]
	if sim.w.o.MaxBytes > 0 {
		d /= 3 // a budget is counted every 10 seconds
	}
	sim.logf("%v pass", d)
	<-time.After(d)
	synctest.Wait()
	if sim.w.crashed() {
		return nil
	}
	for _, dropped := range sim.w.s.Dropped() {
		if dropped.Reason != DropDeleted {
			sim.w.rows[rowRetained]++
		}
	}
	return nil
}

// backUp makes a second store of a backup, which must hold the same and know where it comes from.
func (sim *simulation) backUp() error {
	if len(sim.unknown) > 0 || sim.w.crashed() {
		return nil
	}
	sim.w.plan(crashPlan{})
	return sim.backedUp()
}

// backUpReadOnly backs up a store that can only be read. Of what was refused the first commits may be in it: they may be durable.
func (sim *simulation) backUpReadOnly() error {
	if sim.w.crashed() {
		return nil
	}
	sim.w.plan(crashPlan{})
	sim.logf("back up read-only")
	return sim.backedUp()
}

// backedUp is backUp; it allows for commits without an answer.
func (sim *simulation) backedUp() error {
	var file bytes.Buffer
	if _, err := sim.w.s.Backup(context.Background(), &file, nil); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	dir := filepath.Join(sim.root, "restored")
	defer os.RemoveAll(dir)
	if _, err := Restore(context.Background(), &file, dir, RestoreOptions{}); err != nil {
		return err
	}
	s, err := Open(context.Background(), Options{Dir: dir, JournalBytes: 64 << 10, TailBytes: 32 << 10, ScrubRate: -1})
	if err != nil {
		return fmt.Errorf("open what was restored: %w", err)
	}
	st, err := readState(s, 1<<20)
	if err == nil {
		m := sim.model.clone()
		err = m.compare(st)
		for k := 0; err != nil && k < len(sim.unknown) && sim.unknown[k].topic == ""; k++ {
			m.apply(sim.unknown[k], false, false)
			err = m.compare(st)
		}
	}
	if g := s.Generation(); err == nil && g.Parent != sim.gen.ID {
		err = fmt.Errorf("generation is %+v, its parent should be %s", g, sim.gen.ID)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("what was restored: %w", err)
	}
	sim.w.rows[rowRestored]++
	return nil
}
