package storage

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"rivulet/storage/batch"
)

// readFS is the operating system's file system for one who changes nothing.
type readFS struct{ osFS }

func (readFS) Open(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// List is osFS.List, but leaves half-made files where they are.
func (readFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), tmpSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// journal checks every frame that recovery would read: its checksum, that it follows the one before, its body, its batches.
func (v *verifier) journal() error {
	v.o.FS = readFS{}
	j := newJournal(v.o, func() {})
	files, unread, err := j.openFiles()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			_ = f.file.Close() // only read
		}
	}()
	sc := &scan{
		j: j, files: files, unread: unread, need: min(v.applied, v.sealedTo),
		visit: func(h frameHeader, raw []byte) error {
			v.frame(j.path(h.file), h, raw)
			return v.ctx.Err()
		},
		gap: func(last, next uint64) error {
			v.report(j.dir, "", fmt.Sprintf("frames %d to %d", last+1, next-1), "are missing")
			return nil
		},
		note: func(f *walFile, from, to int64, why string) {
			v.report(j.path(f.no), "", fmt.Sprintf("bytes %d to %d", from, to), "%s", why)
		},
	}
	if err := sc.run(); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		v.report(j.dir, "", fmt.Sprintf("behind frame %d", sc.last.seq), "%v", err)
	}
	for _, u := range sc.unread {
		v.report(j.path(u.no), "", "file", "%v", u.err)
	}
	if end, known := max(sc.last.seq, sc.need), max(v.applied, v.sealedTo); end < known {
		v.report(j.dir, "", fmt.Sprintf("frames %d to %d", end+1, known), "are missing")
	}
	return nil
}

func (v *verifier) frame(file string, h frameHeader, raw []byte) {
	where := fmt.Sprintf("frame %d", h.seq)
	body, err := parseBody(raw)
	if err != nil {
		v.report(file, "", where, "%v", err)
		return
	}
	for _, p := range body.puts {
		if h.seq > v.applied {
			v.known(p)
		}
	}
	for _, b := range body.batches {
		topic := v.topics[b.partition]
		if topic == "" {
			continue // deleted
		}
		at := fmt.Sprintf("%s, partition %d, offsets %d to %d", where, b.partition, b.header.BaseOffset, b.header.NextOffset()-1)
		if err := batch.Check(b.data); err != nil {
			v.report(file, topic, at, "%v", err)
		}
		if h.seq <= v.sealedTo || b.header.NextOffset() <= v.sealEnds[b.partition] {
			continue
		}
		if end := v.ends[b.partition]; b.header.BaseOffset > end {
			v.gap(file, b.partition, b.header.BaseOffset, at, "the log before it ends at offset %d", end)
		} else if b.header.BaseOffset < end {
			v.report(file, topic, at, "the log before it ends at offset %d", end)
		}
		v.ends[b.partition] = b.header.NextOffset()
	}
}

// known learns which partition belongs to which topic, where logs start, and what was sealed.
func (v *verifier) known(p Put) {
	switch {
	case p.Space == spaceStore && p.Key == keySealedTo:
		if n, err := strconv.ParseUint(string(p.Value), 10, 63); err == nil {
			v.sealedTo = max(v.sealedTo, n)
		}
	case p.Space == spaceStarts && len(p.Key) == 4:
		id := binary.BigEndian.Uint32([]byte(p.Key))
		if offset, n := binary.Uvarint(p.Value); n > 0 && offset <= math.MaxInt64 {
			v.starts[id] = max(v.starts[id], int64(offset))
		}
	case p.Space == spaceTopics && p.Value == nil:
		for id, name := range v.topics {
			if name == p.Key {
				delete(v.topics, id)
			}
		}
	case p.Space == spaceTopics:
		var rec topicRecord
		if err := json.Unmarshal(p.Value, &rec); err != nil {
			v.report("meta.db", p.Key, "topic", "%v", err)
			return
		}
		for _, id := range rec.Partitions {
			v.topics[id] = p.Key
		}
	}
}

// recordCounter holds a batch's records against its entry in the index.
type recordCounter struct{ dec batch.Decoder }

func (c *recordCounter) check(b []byte, e *indexEntry) error {
	if err := c.dec.Reset(b, 0); err != nil {
		return err
	}
	n, last := uint32(0), e.base-1
	for {
		r, ok := c.dec.Next()
		if !ok {
			break
		}
		if r.Offset <= last || r.Offset >= e.next() {
			return fmt.Errorf("%w: record of offset %d behind %d", ErrCorrupt, r.Offset, last)
		}
		if err := r.Payload.Valid(); err != nil {
			return fmt.Errorf("%w: record of offset %d: %w", ErrCorrupt, r.Offset, err)
		}
		last = r.Offset
		n++
	}
	if err := c.dec.Err(); err != nil {
		return err
	}
	if h := c.dec.Header(); n != e.records || h.MaxTimestamp != e.maxTime {
		return fmt.Errorf("%w: %d records up to time %d, the directory says %d up to %d", ErrCorrupt, n, h.MaxTimestamp, e.records, e.maxTime)
	}
	return nil
}
