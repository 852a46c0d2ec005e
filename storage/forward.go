package storage

import (
	"errors"
)

// Copying forward gives back what log files hold of the past, and merges what was sealed in small batches. Each pass rewrites one
// row of neighbouring files of a class, if there is one that is worth it:
//
//   - a file that is less than half live, with neighbours that are small or partly past, so that files do not multiply;
//   - a file whose small batches would merge to a quarter as many;
//   - a few small files, each of which holds little: they come from merging, from backups, from ends and kills.
//
// The file that takes groups is ended when most of what it holds are small batches that would merge. What was merged into four
// times as much is not merged again before that has become four times as much, so a record is rewritten a few times in its life.
const (
	// forwardEvery is how much of the store's time, ms, passes between two passes at least.
	forwardEvery = 10_000
	// forwardRate bounds copying, in bytes a ms of the store's time: 8 MiB a second.
	forwardRate = 8 << 20 / 1000
	// forwardLeast is how many batches merging must save, and forwardGroups how many seals an ended file must hold.
	forwardLeast  = 48
	forwardGroups = 64
	// forwardFew is how many small files make a row.
	forwardFew = 4
)

// fileState is what a pass knows of a file.
type fileState struct {
	small int // batches that are smaller than they need be
	saved int // how many fewer there would be
}

// forward does one pass, if one is due. It is no error of sealing when it fails. The sealer calls it. It waits for a compaction's end,
// whose list of files to look through would be worth nothing.
func (s *Store) forward() {
	now := s.clock.now()
	if now < s.forwardAt || s.compact.now != nil {
		return
	}
	s.forwardAt = now + forwardEvery
	states := s.sealed.survey(s.mergeSpan)
	for _, class := range s.sealed.classNames() {
		if err := s.sealed.endOfSmall(class, states); err != nil {
			s.o.Log.Warn("end a log file of small batches", "class", class, "err", err)
		}
		row := s.sealed.forwardRow(class, states)
		if len(row) == 0 {
			continue
		}
		before := s.sealed.bytesCopied()
		err := s.sealed.rewrite(row, rewriting{pause: s.breathe})
		copied := s.sealed.bytesCopied() - before
		s.forwardAt = max(s.forwardAt, s.clock.now()+int64(copied/forwardRate))
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				s.o.Log.Warn("copy log files forward", "class", class, "files", len(row), "err", err)
			}
			s.forwardAt += 30 * forwardEvery // a full disk, perhaps: there is no hurry
			return
		}
		s.sealed.sweep() // what was trimmed meanwhile
		s.o.Log.Debug("log files copied forward", "class", class, "files", len(row), "bytes", copied)
		return // one a pass, so that what else the sealer does comes in between
	}
}

const (
	// reclaimShare says of which files what is left is copied to make room: a quarter is past at least, so that it writes no more than
	// three bytes for each that it gives back.
	reclaimShare = 4
	// reclaimDropped is the same once records were dropped, and too little came back: what they left is copied rather than more dropped.
	reclaimDropped = 16
)

// reclaim copies forward, now, what is left of files of which one part in share is past at least; false when there are none. Dropping
// records gives nothing back where they share files with others that stay: without this, all that may go would go before forward comes
// by. The sealer calls it.
func (s *Store) reclaim(share int64) bool {
	now := s.clock.now()
	if now < s.reclaimAt {
		return false
	}
	for _, class := range s.sealed.classNames() {
		row := s.sealed.pastRow(class, share)
		if len(row) == 0 {
			continue
		}
		s.compact.now = nil // its list of files is worth nothing any more; another one is planned
		if err := s.sealed.rewrite(row, rewriting{pause: s.breathe}); err != nil {
			if !errors.Is(err, ErrClosed) {
				s.o.Log.Warn("copy log files forward to make room", "class", class, "files", len(row), "err", err)
			}
			s.reclaimAt = now + forwardEvery // the disk may be full for that, too
			return false
		}
		s.sealed.sweep()
		return true
	}
	return false
}

// mergeSpan bounds how much of the store's time a merged batch may span: retention takes it as a whole, so what it keeps too long
// is an eighth of retention.ms at most. 0: any.
func (s *Store) mergeSpan(id uint32) int64 {
	p := s.partition(id)
	if p == nil {
		return 0
	}
	t, ok := s.Topic(p.topic)
	if !ok || !t.Policy.Delete || t.Policy.RetentionMs < 0 {
		return 0
	}
	return max(t.Policy.RetentionMs/8, 1)
}

// survey counts, in each file, small batches and how many fewer there would be if those that follow each other were merged.
func (l *sealedLog) survey(span func(id uint32) int64) map[*logFile]*fileState {
	l.mu.RLock()
	indexes := make(map[uint32][]indexEntry, len(l.parts))
	for id, p := range l.parts {
		indexes[id] = p.entries
	}
	l.mu.RUnlock()
	states := make(map[*logFile]*fileState)
	for id, entries := range indexes {
		bound := span(id)
		var last *logFile
		raw, next, oldest := 0, int64(0), int64(0)
		for i := range entries {
			e := &entries[i]
			if e.size == 0 || e.raw >= mergeAim/2 {
				last = nil
				continue
			}
			f := e.group.file
			st := states[f]
			if st == nil {
				st = &fileState{}
				states[f] = st
			}
			st.small++
			from := e.newest - int64(e.age)*1000
			if f == last && next == e.base && raw < mergeAim && (bound <= 0 || e.newest-oldest <= bound) {
				st.saved++
				raw += int(e.raw)
			} else {
				raw, oldest = int(e.raw), from
			}
			last, next = f, e.next()
		}
	}
	return states
}

// worth reports whether merging a file's batches leaves a quarter of them at most.
func (st *fileState) worth(f *logFile) bool {
	return st != nil && st.saved >= forwardLeast && st.saved*4 >= f.live*3
}

// endOfSmall ends the class's active file when most of what it holds are small batches.
func (l *sealedLog) endOfSmall(class string, states map[*logFile]*fileState) error {
	l.mu.RLock()
	f := l.active[class]
	end := f != nil && f.groups >= forwardGroups && states[f].worth(f)
	l.mu.RUnlock()
	if !end {
		return nil
	}
	return l.retire(class)
}

// forwardRow picks the files of a class that are rewritten next; none when there is nothing worth it.
func (l *sealedLog) forwardRow(class string, states map[*logFile]*fileState) []*logFile {
	files := l.rewritable(class)
	l.mu.RLock()
	defer l.mu.RUnlock()
	little := func(f *logFile) bool { return f.used < l.bound/forwardFew }
	for i, f := range files {
		past := f.bytes - f.liveBytes
		if f.live == 0 { // it waits for the checkpoint that says what it says
			continue
		}
		if 2*past > f.bytes && f.used >= min(128<<10, l.bound/8) || states[f].worth(f) {
			return l.row(files, i, func(f *logFile) bool {
				return little(f) && f.liveBytes <= 2*files[i].liveBytes || 4*(f.bytes-f.liveBytes) > f.bytes
			})
		}
	}
	// Of small files, those of about one size: else the largest would be copied with each of the others.
	for i := range files {
		if !little(files[i]) {
			continue
		}
		row := l.row(files, i, func(f *logFile) bool { return little(f) && f.used < 4*files[i].used && files[i].used < 4*f.used })
		if len(row) >= forwardFew {
			return row
		}
	}
	return nil
}

// pastRow picks files of a class that give one part in share of what they hold back at least; first those that give most.
func (l *sealedLog) pastRow(class string, share int64) []*logFile {
	files := l.rewritable(class)
	l.mu.RLock()
	defer l.mu.RUnlock()
	worth := func(f *logFile) bool {
		past := f.bytes - f.liveBytes
		return f.live > 0 && share*past >= f.bytes && past >= min(64<<10, l.bound/16)
	}
	best := -1
	for i, f := range files {
		if worth(f) && (best < 0 || f.bytes-f.liveBytes > files[best].bytes-files[best].liveBytes) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return l.row(files, best, worth)
}

// row is the files around the i-th that fit, as far as what is live of them fits into one file. mu is held.
func (l *sealedLog) row(files []*logFile, i int, fits func(f *logFile) bool) []*logFile {
	from, to, size := i, i+1, files[i].liveBytes
	for to < len(files) && fits(files[to]) && size+files[to].liveBytes <= l.bound {
		size += files[to].liveBytes
		to++
	}
	for from > 0 && fits(files[from-1]) && size+files[from-1].liveBytes <= l.bound {
		from--
		size += files[from].liveBytes
	}
	return files[from:to]
}
