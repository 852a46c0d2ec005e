package storage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
)

// scan reads the journal. It finds the frames in the order of their sequences and what is damaged between them.
type scan struct {
	j     *journal
	files []*walFile
	need  uint64                                       // frames up to this sequence are sealed and checkpointed
	visit func(h frameHeader, raw []byte) error        // one frame, in order
	gap   func(last, next uint64) error                // frames behind last and before next are lost
	note  func(f *walFile, from, to int64, why string) // bytes that should have been frames

	unread []unreadFile // what the disk does not give, or gives in part
	gaps   int
	have   bool // a frame was read
	last   frameHeader
	raw    []byte // of last
	buf    []byte
}

// unreadFile is a journal file of which not all can be read, so that frames at its end may be lost without a trace.
type unreadFile struct {
	no  uint32
	err error
}

var errCutOff = errors.New("the file is cut off")

// openFiles opens all journal files, by number. Files that the disk does not give are in unread.
func (j *journal) openFiles() (files []*walFile, unread []unreadFile, err error) {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list journal: %w", err)
	}
	for _, name := range names {
		no, ok := walNumber(name)
		if !ok {
			continue
		}
		// That a file cannot even be opened says nothing about what is in it: to start without it would give up acknowledged
		// frames that the next start may well find.
		f, err := j.fs.Open(j.path(no))
		if err != nil {
			return nil, nil, fmt.Errorf("open journal file: %w", err)
		}
		size, err := f.Size()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("open journal file: %w", err), f.Close())
		}
		if size%frameAlign != 0 || size == 0 { // they are made of whole blocks
			unread = append(unread, unreadFile{no, fmt.Errorf("%w at byte %d", errCutOff, size)})
		}
		files = append(files, &walFile{no: no, file: f, size: size / frameAlign * frameAlign})
	}
	slices.SortFunc(files, func(a, b *walFile) int { return int(int64(a.no) - int64(b.no)) })
	return files, unread, nil
}

// run reads all files. What lies behind the last frame of the journal is a frame that was being written in the crash, or
// old frames of a recycled file: neither was acknowledged, and both are left alone. What lies before a later frame is damage.
func (s *scan) run() error {
	lastUsed := -1
	for i, f := range s.files {
		gaps := s.gaps
		used, err := s.file(f, i == lastUsed+1)
		if err != nil {
			return fmt.Errorf("read journal file %s: %w", s.j.path(f.no), err)
		}
		if !used {
			continue
		}
		// Where the chain goes on, the file held nothing else: its only frame could not be synced, was written again to this
		// one, and then lost.
		for _, skipped := range s.files[lastUsed+1 : i] {
			if s.gaps == gaps {
				break
			}
			s.note(skipped, 0, skipped.size, "no frame can be read, but there are later ones in other files")
		}
		lastUsed = i
	}
	return nil
}

// file reads one file. Frames behind a damaged place are looked for only in a file that frames were found in, and (first)
// in the one that follows it: any other file that was never written would be read whole at every start.
func (s *scan) file(f *walFile, first bool) (used bool, err error) {
	off := int64(0)
	for off < f.size {
		h, frame, err := s.frameAt(f, off)
		if err != nil {
			return used, err
		}
		if frame == nil {
			if !used && !first {
				return false, nil
			}
			from := off
			for off += frameAlign; off < f.size; off += frameAlign {
				if h, frame, err = s.frameAt(f, off); err != nil {
					return used, err
				}
				if frame != nil {
					break
				}
			}
			if frame == nil {
				return used, nil
			}
			s.note(f, from, off, fmt.Sprintf("damaged before frame %d", h.seq))
		}
		used = true
		f.last = max(f.last, h.seq)
		off += h.size()
		if err := s.take(h, frame); err != nil {
			return used, err
		}
	}
	return used, nil
}

// take puts one valid frame into the order.
func (s *scan) take(h frameHeader, frame []byte) error {
	if s.have && h.seq <= s.last.seq {
		// Written again after its first file could not be synced, or at a start: the same frame, one of the two counts.
		if h.seq == s.last.seq {
			s.last = h
		}
		return nil
	}
	after := s.last.seq
	if !s.have {
		after = min(s.need, h.seq-1) // what is older was recycled
	}
	// The chain tells a frame that follows from one that happens to have the right number.
	if follows := h.seq == after+1 && (!s.have || h.prev == s.last.crc); !follows && h.seq > s.need+1 {
		s.gaps++
		if err := s.gap(max(after, s.need), h.seq); err != nil {
			return err
		}
	}
	raw, err := inflateFrame(h, frame)
	if err != nil {
		return err
	}
	s.have, s.last, s.raw = true, h, raw
	return s.visit(h, raw)
}

// frameAt reads the frame at off; nil when there is none. The frame is valid until the next call.
func (s *scan) frameAt(f *walFile, off int64) (frameHeader, []byte, error) {
	if len(s.buf) < frameAlign {
		s.buf = make([]byte, 1<<20)
	}
	if n, err := readAt(f.file, s.buf[:frameAlign], off); err != nil || n < frameAlign {
		return frameHeader{}, nil, s.failed(f, err)
	}
	h, ok := parseFrameHeader(s.buf)
	if !ok || h.file != f.no || off+h.size() > f.size {
		return h, nil, nil
	}
	size := int(h.size())
	if len(s.buf) < size {
		s.buf = append(s.buf, make([]byte, size-len(s.buf))...)
	}
	if size > frameAlign {
		if n, err := readAt(f.file, s.buf[frameAlign:size], off+frameAlign); err != nil || n < size-frameAlign {
			return h, nil, s.failed(f, err)
		}
	}
	if !checkFrame(h, s.buf[:size]) {
		return h, nil, nil
	}
	return h, s.buf[:size], nil
}

// failed makes of a block that the disk does not give one that holds no frame.
func (s *scan) failed(f *walFile, err error) error {
	if !errors.Is(err, syscall.EIO) {
		return err
	}
	if !slices.ContainsFunc(s.unread, func(u unreadFile) bool { return u.no == f.no }) {
		s.unread = append(s.unread, unreadFile{f.no, err})
	}
	return nil
}

// readAt reads as much of p as there is.
func readAt(f File, p []byte, off int64) (int, error) {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
