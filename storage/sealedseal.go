package storage

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// seal writes parts as one group of a class and publishes its index. Durable when it returns. Mergeable batches of a partition are
// merged, compressed as their topic says, into batches of at most 1 MiB raw.
//
// After an error nothing is published, and the same parts may be sealed again. bbolt does not say whether a failed commit
// took place, so the file is not written to again: the same group goes to a new one, and opening keeps one of the two.
func (l *sealedLog) seal(class string, info dirInfo, parts []sealPart) error {
	upTo := info.upTo
	if upTo <= l.sealedSeq() && len(parts) > 0 {
		return fmt.Errorf("BUG: seal up to %d, sealed up to %d", upTo, l.sealedSeq())
	}
	if err := l.merger.build(info, parts); err != nil {
		return err
	}
	defer l.merger.free()
	if len(l.merger.entries) == 0 {
		return nil
	}
	f, err := l.put(class)
	if err != nil {
		l.log.Warn("seal failed, trying a new file", "up_to", upTo, "error", err)
		var again error
		if f, again = l.put(class); again != nil {
			return fmt.Errorf("seal up to %d: %w; before that: %w", upTo, again, err)
		}
	}
	l.publish(f)
	return nil
}

// put writes the merger's group to the class's active file, or to a new one. After an error the class has no active file.
func (l *sealedLog) put(class string) (*logFile, error) {
	chunks := l.merger.chunks()
	need := l.merger.size + int64(len(l.merger.done))
	f := l.active[class]
	// A round that failed half-way, whose rest goes to other classes now, may come to a file that has the group's key already.
	if f != nil && f.groups > 0 && (f.used+need > l.bound || f.key >= l.merger.dir.info.key) {
		if err := l.retire(class); err != nil {
			return nil, err
		}
		f = nil
	}
	var db *bolt.DB
	var err error
	if f != nil {
		if db, err = l.handles.write(f); err != nil && !errors.Is(err, errBusy) {
			return nil, errors.Join(err, l.retire(class))
		}
	}
	if db == nil {
		if f, err = l.createLog(class); err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.files[class] = append(l.files[class], f)
		l.active[class] = f
		l.mu.Unlock()
		if db, err = l.handles.write(f); err != nil {
			return nil, errors.Join(err, l.retire(class))
		}
	}
	defer l.handles.release(f)
	if err := l.faults(pointSealBefore); err != nil {
		return nil, errors.Join(err, l.retire(class))
	}
	used, written, err := putChunks(db, chunks)
	if err == nil {
		err = l.faults(pointSealAfter)
	}
	if err != nil {
		return nil, errors.Join(err, l.retire(class))
	}
	f.used, f.key = used, l.merger.dir.info.key
	f.groups++
	l.mu.Lock()
	l.written += written
	l.mu.Unlock()
	return f, nil
}

// retire ends writing to the class's active file.
func (l *sealedLog) retire(class string) error {
	l.mu.Lock()
	f := l.active[class]
	delete(l.active, class)
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	return l.handles.retire(f)
}

// publish makes the merger's group visible to readers.
func (l *sealedLog) publish(f *logFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.merger.group(f)
	for _, e := range l.merger.entries {
		p := l.parts[e.part]
		if p == nil {
			p = &partIndex{}
			l.parts[e.part] = p
		}
		e.ref.group = g
		p.append(e.ref)
		f.count(&e.ref)
	}
	l.groups = l.groups.add(g)
	l.note(g)
}
