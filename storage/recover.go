package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rivulet/storage/batch"
)

// recovery brings a store to the state of its last durable frame.
type recovery struct {
	s       *Store
	applied uint64 // frames up to here are in metaDB
	sealed  uint64 // frames up to here are in sealedLog
	fork    map[uint32]int64
	damaged []*walFile // hold bytes that should have been frames
	lost    bool       // topics were lost with meta.db: partitions that nobody knows are adopted
}

// recover reads the checkpoint, then the journal from where the checkpoint and the sealed log end. lost says that there is no
// checkpoint although there was one.
func (s *Store) recover(lost bool) error {
	if err := s.loadTopics(); err != nil {
		return err
	}
	if err := s.loadCheckpoint(); err != nil {
		return err
	}
	r := &recovery{s: s, lost: lost || s.meta.skipped.Load() > 0}
	s.applied = s.meta.appliedSeq()
	s.sealedTo = max(s.sealedTo, s.sealed.sealedSeq())
	s.sealedKnown = s.sealedTo
	r.applied, r.sealed = s.applied, s.sealedTo
	s.ring.after = s.sealedTo
	files, unread, err := s.journal.openFiles()
	if err != nil {
		return err
	}
	sc := &scan{
		j: s.journal, files: files, unread: unread, need: min(r.applied, r.sealed),
		visit: r.frame, gap: r.gap, note: r.note,
	}
	if err := sc.run(); err != nil {
		return err
	}
	// What was sealed or checkpointed behind the journal's end was in the journal once.
	end, known := max(sc.last.seq, sc.need), max(r.applied, r.sealed)
	if end < known {
		if err := r.gap(end, known+1); err != nil {
			return err
		}
	}
	s.lastSeq.Store(max(end, known))
	s.clock.resume(s.clockSaved, s.wallSaved, s.o.Now())
	s.sealed.setClockV1(s.clockV1)
	if err := s.loadDamage(); err != nil {
		return err
	}
	r.findMissing()
	r.doubt(sc)
	for _, p := range s.liveParts() {
		p.high = p.next
		p.settle()
	}
	if r.lost {
		if err := r.adoptOrphans(); err != nil {
			return err
		}
	}
	for _, p := range s.liveParts() {
		p.counted = p.start
		if p.start > 0 {
			s.trimmed = append(s.trimmed, Start{Partition: p, Offset: p.start})
		}
	}
	// Only now are all topics known.
	for _, id := range s.sealed.ids() {
		if s.partition(id) == nil {
			s.doomed = append(s.doomed, id)
		}
	}
	s.journal.adopt(files, r.damaged)
	if ok, err := s.loadGeneration(); err != nil {
		return err
	} else if !ok {
		s.fresh = true
	}
	if sc.have && sc.last.seq > sc.need {
		if err := s.rewriteLast(sc); err != nil {
			return err
		}
	} else if sc.have {
		s.journal.chain = sc.last.crc
	}
	return r.setAside()
}

// rewriteLast writes the journal's last frame again, to a file of its own. The frame can be read, but the crash may have come
// before its sync, or after a sync that failed; nothing may be built on it before it is known to be on disk. The frames
// before it are: each was synced before the next was written.
func (s *Store) rewriteLast(sc *scan) error {
	frame := s.build.enc.encode(sc.last.seq, sc.last.clock, sc.raw)
	s.journal.chain = sc.last.prev
	if err := s.journal.makeRoom(int64(len(frame))); err != nil {
		return fmt.Errorf("write last frame again: %w", err)
	}
	if err := s.journal.append(frame, sc.last.seq, s.stats.synced); err != nil {
		return fmt.Errorf("write last frame again: %w", err)
	}
	s.stats.journalBytes.Add(uint64(len(frame)))
	return nil
}

// loadTopics reads the topics of the checkpoint.
func (s *Store) loadTopics() error {
	var bad error
	for _, space := range []string{spaceStore, spaceTopics} {
		err := s.meta.scan(space, "", func(key string, value []byte) bool {
			bad = s.applyTopicPut(Put{space, key, value})
			return bad == nil
		})
		if err = errors.Join(err, bad); err != nil {
			return fmt.Errorf("load topics: %w", err)
		}
	}
	return nil
}

// placeSealed sets a partition's offsets to where its sealed batches end.
func (s *Store) placeSealed(p *Partition) {
	start, end := s.sealed.bounds(p.ID)
	p.start, p.next, p.high, p.stable = start, end, end, end
}

// frame applies one frame of the journal.
func (r *recovery) frame(h frameHeader, raw []byte) error {
	s := r.s
	body, err := parseBody(raw)
	if err != nil {
		return fmt.Errorf("frame %d: %w: %w", h.seq, ErrCorrupt, err)
	}
	s.clock.at.Store(max(s.clock.at.Load(), h.clock))
	if h.seq > r.applied {
		if err := r.metadata(body); err != nil {
			return fmt.Errorf("frame %d: %w", h.seq, err)
		}
	}
	f := Frame{Seq: h.seq}
	for _, b := range body.batches {
		p := s.partition(b.partition)
		if p == nil && r.lost {
			p = r.adopt(b.partition)
		}
		if p == nil {
			continue // deleted
		}
		if h.seq > r.applied {
			if err := r.transaction(p, b); err != nil {
				return fmt.Errorf("frame %d: %w", h.seq, err)
			}
			s.count(p, len(b.data))
			p.raw = p.rawNow
		}
		if h.seq <= r.sealed {
			continue
		}
		if b.header.BaseOffset < p.next {
			// One class's part of a seal that was broken off before the others'.
			if _, end := s.sealed.bounds(p.ID); b.header.NextOffset() <= end {
				f.Batches = append(f.Batches, FrameBatch{p, b.data})
				continue
			}
			s.problem(Problem{
				File: "journal", Topic: p.topic, Where: fmt.Sprintf("frame %d, partition %d", h.seq, p.Index),
				Detail: fmt.Sprintf("batch at offset %d, but the log is at %d already: left out", b.header.BaseOffset, p.next),
			})
			continue
		}
		p.next = b.header.NextOffset()
		p.tail = append(p.tail, tailBatch{seq: h.seq, base: b.header.BaseOffset, next: p.next, data: b.data, at: h.clock})
		s.tailBytes.Add(int64(len(b.data)))
		f.Batches = append(f.Batches, FrameBatch{p, b.data})
	}
	s.showTxns()
	if len(f.Batches) > 0 {
		s.ring.add(f)
	}
	return nil
}

// metadata applies a frame's key-value changes and its producers' marks.
func (r *recovery) metadata(body frameBody) error {
	for i := range body.puts {
		p := &body.puts[i]
		p.Value = cloneValue(p.Value) // it outlives the frame
		if strings.HasPrefix(p.Space, "_") {
			if err := r.s.applyTopicPut(*p); err != nil {
				return err
			}
		}
	}
	if len(body.puts) > 0 {
		r.s.kv.put(body.puts)
	}
	for _, m := range body.marks {
		if p := r.s.partition(m.partition); p != nil {
			r.s.remember(p, m)
		}
	}
	return nil
}

// transaction applies what a batch says about transactions.
func (r *recovery) transaction(p *Partition, b bodyBatch) error {
	h := b.header
	switch {
	case h.Control():
		commit, err := batch.IsCommit(b.data)
		if err != nil {
			return fmt.Errorf("%w: marker: %w", ErrCorrupt, err)
		}
		r.s.endTxn(p, h.ProducerID, h.ProducerEpoch, h.BaseOffset, commit)
	case h.Transactional():
		r.s.beginTxn(p, h.ProducerID, h.ProducerEpoch, h.BaseOffset)
	}
	return nil
}

// gap notes that frames were lost: the offsets of this moment are where this history may differ from the one that readers saw.
func (r *recovery) gap(last, next uint64) error {
	s := r.s
	detail := "acknowledged frames cannot be read; the store begins a new generation"
	if next-1 <= r.sealed {
		detail = "their records are in the log; what else they changed is lost with meta.db; the store begins a new generation"
	}
	s.problem(Problem{File: "journal", Where: fmt.Sprintf("frames %d to %d", last+1, next-1), Detail: detail})
	s.o.Log.Error("journal frames are lost", "from", last+1, "to", next-1)
	if r.fork == nil {
		r.fork = map[uint32]int64{}
	}
	for _, p := range s.liveParts() {
		if _, ok := r.fork[p.ID]; !ok {
			r.fork[p.ID] = p.next
		}
	}
	// One seal holds no gap, so what came before this one goes by itself.
	if s.tailBytes.Load() == 0 {
		return nil
	}
	s.lastSeq.Store(last)
	if err := s.seal(); err != nil {
		return fmt.Errorf("seal what is before the lost frames: %w", err)
	}
	return nil
}

// findMissing compares the logs with what they held: the offsets of sealed batches follow each other, and the checkpoint knows where
// they ended. A log file that was lost, set aside, or that bbolt reads only a part of, must not make offsets be given out twice;
// since they are not, the history is the same, with a hole. It is booked as damage, so that the next start tells it, too.
func (r *recovery) findMissing() {
	s := r.s
	missing := func(p *Partition, first, next int64) {
		if first = max(first, p.start); first >= next {
			return
		}
		s.damage.add(&DamageError{File: "log", Partition: p.ID, First: first, Next: next, Cause: errMissing}, s.o.Now())
	}
	for _, p := range s.liveParts() {
		// A log start is committed before what lies before it is unlinked. There are no readers before the first record that is
		// left, so this is told, and not a gap.
		if entries := s.sealed.index(p.ID); len(entries) > 0 && entries[0].base > p.trimmed {
			s.problem(Problem{
				File: "log", Topic: p.topic, Where: fmt.Sprintf("partition %d, offsets %d to %d", p.Index, p.trimmed, entries[0].base-1),
				Detail: errMissing.Error() + "; the log begins behind them",
			})
		}
		end := p.start
		for _, e := range s.sealed.index(p.ID) {
			if e.base > end {
				missing(p, end, e.base)
			}
			end = max(end, e.next())
		}
		for _, t := range p.tail {
			missing(p, end, t.base)
			end = max(end, t.next)
		}
		// Files whose records are all past are unlinked, so the log start says more than what is left.
		p.next = max(p.next, p.start)
		if p.next < p.known {
			missing(p, p.next, p.known)
			p.next = p.known
		}
	}
}

var errMissing = errors.New("acknowledged records are missing")

// doubt is about journal files at whose end frames may have been that nobody can know of: what is read may not be all, so what
// comes now is another history.
func (r *recovery) doubt(sc *scan) {
	last := uint32(0)
	for _, f := range sc.files {
		if f.last > 0 && f.last >= sc.last.seq {
			last = f.no
		}
	}
	for _, u := range sc.unread {
		path := r.s.journal.path(u.no)
		r.s.problem(Problem{File: path + quarantineSuffix, Where: "file", Detail: u.err.Error()})
		r.s.o.Log.Error("a journal file cannot be read", "file", path, "err", u.err)
		i := slices.IndexFunc(sc.files, func(f *walFile) bool { return f.no == u.no })
		if i < 0 {
			if err := r.s.o.FS.Rename(path, path+quarantineSuffix); err != nil {
				r.s.o.Log.Error("quarantine journal file", "file", path, "err", err)
			}
		} else if !slices.Contains(r.damaged, sc.files[i]) {
			r.damaged = append(r.damaged, sc.files[i])
		}
		if u.no < last {
			continue // later files show what is missing
		}
		if r.fork == nil {
			r.fork = map[uint32]int64{}
		}
		for _, p := range r.s.liveParts() {
			if _, ok := r.fork[p.ID]; !ok {
				r.fork[p.ID] = p.next
			}
		}
	}
}

func (r *recovery) note(f *walFile, from, to int64, why string) {
	r.s.problem(Problem{
		File: r.s.journal.path(f.no) + quarantineSuffix, Where: fmt.Sprintf("bytes %d to %d", from, to), Detail: why,
	})
	if !slices.Contains(r.damaged, f) {
		r.damaged = append(r.damaged, f)
	}
}

// setAside ends recovery after damage: all that could be read is brought to safety, together with the new generation, before
// the damaged files are renamed.
func (r *recovery) setAside() error {
	s := r.s
	if r.fork != nil {
		fork := maps.Clone(r.fork)
		put, err := s.newGeneration(s.Generation().ID, fork)
		if err != nil {
			return err
		}
		s.kv.put([]Put{put})
		s.fresh = false
	}
	if r.fork == nil && len(r.damaged) == 0 {
		return nil
	}
	if err := s.seal(); err != nil {
		return fmt.Errorf("bring to safety what the damaged journal holds: %w", err)
	}
	if err := s.checkpoint(); err != nil {
		return fmt.Errorf("bring to safety what the damaged journal holds: %w", err)
	}
	for _, f := range r.damaged {
		path := s.journal.path(f.no)
		if err := errors.Join(f.file.Close(), s.o.FS.Rename(path, path+quarantineSuffix)); err != nil {
			return fmt.Errorf("quarantine journal file: %w", err)
		}
		s.o.Log.Error("journal file quarantined", "file", path+quarantineSuffix)
	}
	return nil
}

// problem remembers something that was set aside.
func (s *Store) problem(p Problem) {
	s.problemMu.Lock()
	defer s.problemMu.Unlock()
	s.problems = append(s.problems, p)
}

// problemOnce is problem for who may meet the same thing again; the first time it is logged.
func (s *Store) problemOnce(p Problem) {
	s.problemMu.Lock()
	known := slices.ContainsFunc(s.problems, func(o Problem) bool { return o.File == p.File && o.Where == p.Where })
	if !known {
		s.problems = append(s.problems, p)
	}
	s.problemMu.Unlock()
	if !known {
		s.o.Log.Error("the store is damaged", "file", p.File, "where", p.Where, "what", p.Detail)
	}
}

// adopt takes over the files of an earlier run: those with frames are full, those behind them are spares. damaged ones are
// left to setAside. Nothing is written to a file that frames were found in: what a crash left in its pages cannot be known.
// The filer starts here.
func (j *journal) adopt(files, damaged []*walFile) {
	used := uint32(0)
	for _, f := range files {
		if f.last > 0 {
			used = f.no
		}
		j.next = f.no + 1
	}
	for _, f := range files {
		switch {
		case slices.Contains(damaged, f):
		case f.no <= used || f.size != j.size:
			j.full = append(j.full, f)
		default:
			j.spares = append(j.spares, f)
		}
	}
	j.started = true
	go j.runFiler()
}
