package storage

// drop forgets a deleted topic's partition. sweep gives its files back.
func (l *sealedLog) drop(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[id]
	if p == nil {
		return
	}
	delete(l.parts, id)
	for i := range p.entries {
		p.entries[i].group.file.forget(&p.entries[i])
	}
}

// trim forgets the batches of a partition that end before start. sweep gives their files back.
func (l *sealedLog) trim(id uint32, start int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[id]
	if p == nil {
		return
	}
	p.floor = max(p.floor, start)
	n := at(p.entries, start)
	if n == 0 {
		return
	}
	for i := range p.entries[:n] {
		e := &p.entries[i]
		e.group.file.forget(e)
		p.stored -= int64(e.size)
	}
	p.entries = p.entries[n:] // readers hold the old slice
	if len(p.entries) == 0 {
		p.entries = nil
	}
}

// count and forget keep what is live in a file. mu is held.
func (f *logFile) count(e *indexEntry) {
	f.live++
	f.liveBytes += int64(e.size)
	f.bytes += int64(e.size)
}

func (f *logFile) forget(e *indexEntry) {
	f.live--
	f.liveBytes -= int64(e.size)
}

// kept says what the last checkpoint holds: frames up to sealedTo are sealed, files up to number were made.
func (l *sealedLog) kept(sealedTo uint64, number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keptSeq, l.keptNumber = max(l.keptSeq, sealedTo), max(l.keptNumber, number)
}

// removable says whether a start would find out without this file up to where everything was sealed, and which number is
// the next: until a checkpoint says so, files do. mu is held.
func (l *sealedLog) removable(f *logFile) bool {
	return f.live == 0 && (f.sealed < l.upTo || l.upTo <= l.keptSeq) && (f.number < l.number || f.number <= l.keptNumber)
}

// awaited reports whether files of which nothing counts any more wait for a checkpoint.
func (l *sealedLog) awaited() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, files := range l.files {
		for _, f := range files {
			if f.groups > 0 && f.live == 0 {
				return true
			}
		}
	}
	return false
}

// sweep unlinks the files of which nothing counts any more, and says how many. That works on a full disk, too.
func (l *sealedLog) sweep() int {
	l.mu.Lock()
	gone := make(map[*logFile]bool)
	for class, files := range l.files {
		keep := files[:0:0]
		for _, f := range files {
			if f.groups > 0 && l.removable(f) {
				gone[f] = true
			} else {
				keep = append(keep, f)
			}
		}
		l.files[class] = keep
		if f := l.active[class]; gone[f] {
			delete(l.active, class)
		}
	}
	if len(gone) > 0 {
		l.groups = l.groups.without(func(f *logFile) bool { return gone[f] })
	}
	l.mu.Unlock()
	for f := range gone {
		err := l.faults(pointSweep)
		if err == nil {
			err = l.handles.remove(f)
		}
		if err != nil {
			l.log.Warn("unlink log file", "file", f.path, "error", err)
		}
	}
	return len(gone)
}
