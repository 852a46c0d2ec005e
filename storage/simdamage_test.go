package storage

import (
	"errors"
	"fmt"
	"slices"
	"testing/synctest"
)

// damage spoils a frame in the middle of the journal and starts the store again: that frame, all of it, is a gap; what was
// sealed or checkpointed of it is not.
func (sim *simulation) damage() error {
	w := sim.w
	if sim.hurt {
		return nil
	}
	synctest.Wait()
	if len(sim.unknown) > 0 || w.crashed() {
		return nil
	}
	sim.w.plan(crashPlan{})
	seq, path, off := sim.victim()
	if seq == 0 {
		return nil
	}
	sim.hurt = true
	sim.logf("damage frame %d", seq)
	begins := map[uint32]int64{}
	for id := range sim.model.parts {
		if p := sim.part(id); p != nil {
			begins[id], _, _ = p.Offsets()
		}
	}
	w.fs.flip(path, off+frameHead)
	w.pull(sim.rng.IntN(2) == 0)
	if _, err := w.reboot(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("open with a damaged frame: %w", err)
	}
	st, err := readState(w.s, 1<<20)
	if err != nil {
		return err
	}
	var reasons []error
	// As much as can be taken for lost is: what compaction may remove, too, is not to be expected later.
	outcomes := [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}}
	if w.s.Generation().ID == sim.gen.ID {
		outcomes = outcomes[3:]
	}
	for _, lost := range outcomes {
		m := newSimModel()
		m.room = sim.model.room
		for _, op := range sim.history {
			in := op.c != nil && op.c.Seq == seq
			m.apply(op, in && lost[0], in && lost[1])
		}
		m.trim(st)
		for id, p := range m.parts { // the frame may have been that of a trim
			p.limit = max(sim.model.parts[id].start, sim.model.parts[id].limit)
			p.untrim(st.parts[id], begins[id])
		}
		err := m.compare(st)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("with records lost: %v, values lost: %v: %w", lost[0], lost[1], err))
			continue
		}
		sim.model = m
		g := w.s.Generation()
		if begun := g.ID != sim.gen.ID; begun && g.Parent != sim.gen.ID || begun && len(w.s.Problems()) == 0 || !begun && lost != [2]bool{} {
			return fmt.Errorf("frame %d is lost (%v), but the generation is %+v, the problems %v", seq, lost, g, w.s.Problems())
		} else if begun {
			w.rows[rowCorrupt]++
		}
		sim.gen = g
		sim.begun = w.s.LastSeq()
		if err := sim.check(); err != nil {
			return err
		}
		return sim.reopen()
	}
	return fmt.Errorf("frame %d is lost: %w", seq, errors.Join(reasons...))
}

// untrim allows for records before a log start that is lost again: those whose files are gone already do not come back.
func (p *simPart) untrim(got *simPartState, start int64) {
	if got == nil {
		return
	}
	there := map[int64]bool{}
	for _, r := range got.recs {
		there[r.offset] = true
	}
	for offset := got.start; offset < start; offset++ {
		p.recs[offset].lost = p.recs[offset].lost || !there[offset]
	}
}

// victim finds a frame of this run, with others behind it, that holds nothing but records and values.
func (sim *simulation) victim() (seq uint64, path string, off int64) {
	w := sim.w
	plain := map[uint64]bool{}
	for _, op := range sim.history {
		if op.c != nil && op.c.Seq > 0 {
			if _, seen := plain[op.c.Seq]; !seen {
				plain[op.c.Seq] = true
			}
			if op.prod != nil || op.urgent {
				plain[op.c.Seq] = false
			}
		}
	}
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	paths := make([]string, 0, len(w.fs.files))
	for p := range w.fs.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		no, ok := walNumber(p[len(p)-len("000001.wal"):])
		if !ok {
			continue
		}
		disk := w.fs.files[p].disk
		for at := int64(0); at < int64(len(disk)); at += frameAlign {
			h, ok := parseFrameHeader(disk[at:])
			if !ok || h.file != no || !checkFrame(h, disk[at:min(int64(len(disk)), at+h.size())]) {
				continue
			}
			if plain[h.seq] && h.seq > sim.begun && h.seq < w.s.LastSeq() {
				seq, path, off = h.seq, p, at
				if sim.rng.IntN(3) == 0 {
					return seq, path, off
				}
			}
		}
	}
	return seq, path, off
}
