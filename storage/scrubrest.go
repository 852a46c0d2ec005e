package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// scrubJournal reads the journal's files that are no longer written, which a start would need. What a damaged one holds is in memory
// still, so it is sealed and checkpointed at once: then the file is needed no more.
func (sc *scrubber) scrubJournal(ctx context.Context) (n int64) {
	s := sc.s
	for _, f := range s.journal.waitingFiles() {
		if ctx.Err() != nil {
			return n
		}
		n += f.size
		err := readFrames(f)
		if err == nil || !slices.Contains(s.journal.waitingFiles(), f) { // it is used again, or gone
			continue
		}
		path := s.journal.path(f.no)
		s.problemOnce(Problem{
			File: path, Where: fmt.Sprintf("frames up to %d", f.last),
			Detail: "is damaged on the disk; what it holds is sealed from memory, and nothing is lost if that succeeds. Look at the disk: " + err.Error(),
		})
		if !s.onSealer(func() { err = s.rescue() }) {
			return n // the store is being closed, which does the same
		}
		if err != nil {
			s.o.Log.Error("cannot seal what a damaged journal file holds: it is in memory alone", "file", path, "err", err)
		} else {
			s.o.Log.Warn("what a damaged journal file held is sealed", "file", path)
		}
	}
	return n
}

// rescue makes the journal needless up to now. The sealer runs it.
func (s *Store) rescue() error {
	if err := s.seal(); err != nil {
		return err
	}
	if err := s.checkpoint(); err != nil {
		return err
	}
	s.journal.recycle(min(s.sealedKnown, s.applied))
	return nil
}

// waitingFiles lists the files that wait to be sealed and checkpointed.
func (j *journal) waitingFiles() []*walFile {
	j.mu.Lock()
	defer j.mu.Unlock()
	var files []*walFile
	for _, f := range j.full {
		if f.last > j.needless && !f.bad {
			files = append(files, f)
		}
	}
	return files
}

// readFrames checks every frame of a file that is no longer written.
func readFrames(f *walFile) error {
	var s scan
	for off, seq := int64(0), uint64(0); seq < f.last; {
		h, frame, err := s.frameAt(f, off)
		switch {
		case err != nil:
			return err
		case len(s.unread) > 0:
			return s.unread[0].err
		case frame == nil || h.seq <= seq:
			return fmt.Errorf("%w: no frame at byte %d behind frame %d", ErrCorrupt, off, seq)
		}
		off, seq = off+h.size(), h.seq
	}
	return nil
}

// checkUploads reads the plugins' modules, whose names are their digests, and tells of those that are not what they were.
func checkUploads(ctx context.Context, dir string, bad func(path string, err error)) (n int64) {
	entries, err := os.ReadDir(filepath.Join(dir, "plugins"))
	if err != nil {
		return 0 // none was ever uploaded
	}
	for _, e := range entries {
		sum, ok := strings.CutSuffix(e.Name(), ".wasm")
		if ctx.Err() != nil {
			return n
		}
		if !ok || len(sum) != 2*sha256.Size || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, "plugins", e.Name())
		read, err := checkUpload(path, sum)
		n += read
		if err != nil && !errors.Is(err, os.ErrNotExist) { // deleted meanwhile
			bad(path, err)
		}
	}
	return n
}

func checkUpload(path, sum string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return n, err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return n, fmt.Errorf("%w: it is not what its name says: push the plugin again", ErrCorrupt)
	}
	return n, nil
}

// scrubUploads reads the plugins' modules.
func (sc *scrubber) scrubUploads(ctx context.Context) int64 {
	return checkUploads(ctx, sc.s.o.Dir, func(path string, err error) {
		sc.s.problemOnce(Problem{File: path, Where: "upload", Detail: err.Error()})
	})
}
