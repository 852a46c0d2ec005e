package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
)

// A backup is one stream of sections (docs/FORMAT.md):
//
//	"RIVULETB" | u8 version, 1 | section…
//
//	section: u8 kind | u32 length | payload | u32 CRC32C of the section before's CRC, kind, length, payload
//
//	M  manifest, JSON: the first section
//	F  a file begins: u64 size | path, with /
//	D  the file's next bytes, at most 256 KiB
//	Z  the same, as one S2 block
//	E  the end: u64 files | u64 bytes of all of them. Nothing follows.
//
// The CRCs are a chain, so that a section that is missing, moved or of another backup is found as a flipped bit is.
const (
	backupMagic   = "RIVULETB"
	backupVersion = 1

	backupChunk = 256 << 10
	backupMost  = 1 << 20 // bytes of one section

	sectionManifest = 'M'
	sectionFile     = 'F'
	sectionData     = 'D'
	sectionBlock    = 'Z'
	sectionEnd      = 'E'
)

// Manifest says what a backup holds.
type Manifest struct {
	Format     int       `json:"format"` // of the store, as in VERSION
	Created    time.Time `json:"created"`
	Generation string    `json:"generation,omitempty"` // of a running store
	Seq        uint64    `json:"seq,omitempty"`        // the last commit in it; 0: all that the closed store held
	Files      int       `json:"files"`
	Bytes      int64     `json:"bytes"` // of all files
}

// ErrBackup says that a backup is damaged, cut off, or none.
var ErrBackup = errors.New("backup is damaged or incomplete")

// backupWriter writes sections.
type backupWriter struct {
	w     *bufio.Writer
	crc   uint32
	block []byte
	files uint64
	bytes uint64
}

func newBackupWriter(w io.Writer, m Manifest) (*backupWriter, error) {
	b := &backupWriter{w: bufio.NewWriterSize(w, backupChunk)}
	if _, err := b.w.WriteString(backupMagic + string(rune(backupVersion))); err != nil {
		return nil, err
	}
	value, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return b, b.section(sectionManifest, value)
}

func (b *backupWriter) section(kind byte, payload []byte) error {
	var head [9]byte
	binary.BigEndian.PutUint32(head[:], b.crc)
	head[4] = kind
	binary.BigEndian.PutUint32(head[5:], uint32(len(payload)))
	b.crc = crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
	_, err := b.w.Write(head[4:])
	if err == nil {
		_, err = b.w.Write(payload)
	}
	if err == nil {
		_, err = b.w.Write(binary.BigEndian.AppendUint32(nil, b.crc))
	}
	return err
}

// begin starts a file of size bytes; that many must follow as data.
func (b *backupWriter) begin(name string, size int64) error {
	b.files++
	return b.section(sectionFile, append(binary.BigEndian.AppendUint64(nil, uint64(size)), name...))
}

// data is at most backupChunk bytes of the file.
func (b *backupWriter) data(p []byte) error {
	b.bytes += uint64(len(p))
	if b.block == nil {
		b.block = make([]byte, s2.MaxEncodedLen(backupChunk))
	}
	// Sealed batches are compressed already; meta.db, and what a file holds beside batches, is not.
	if z := s2.Encode(b.block, p); len(z) < len(p)*7/8 {
		return b.section(sectionBlock, z)
	}
	return b.section(sectionData, p)
}

func (b *backupWriter) end() error {
	payload := binary.BigEndian.AppendUint64(nil, b.files)
	if err := b.section(sectionEnd, binary.BigEndian.AppendUint64(payload, b.bytes)); err != nil {
		return err
	}
	return b.w.Flush()
}

// backupSink takes what a backup holds, in its order.
type backupSink interface {
	manifest(m Manifest) error
	begin(name string, size int64) error
	data(p []byte) error // not kept
}

// readBackup hands a backup to sink. It returns nil only if all of it was there and whole; what it handed over before an error is
// worth nothing.
func readBackup(r io.Reader, sink backupSink) error {
	b := &backupReader{r: bufio.NewReaderSize(r, backupChunk)}
	magic := make([]byte, len(backupMagic)+1)
	if _, err := io.ReadFull(b.r, magic); err != nil {
		return b.cut(err)
	}
	if !bytes.HasPrefix(magic, []byte(backupMagic)) {
		return fmt.Errorf("%w: it does not begin as a backup does", ErrBackup)
	}
	if v := magic[len(backupMagic)]; v != backupVersion {
		return fmt.Errorf("%w: a backup of format %d, this program knows %d", ErrNewerFormat, v, backupVersion)
	}
	left, begun := int64(0), false
	for {
		kind, payload, err := b.next()
		if err != nil {
			return err
		}
		if (kind == sectionManifest) == begun {
			return b.wrong("section %q out of place", kind)
		}
		if left > 0 && kind != sectionData && kind != sectionBlock {
			return b.wrong("%d bytes of a file are missing", left)
		}
		switch kind {
		case sectionManifest:
			begun = true
			var m Manifest
			if err := json.Unmarshal(payload, &m); err != nil {
				return b.wrong("manifest: %v", err)
			}
			err = sink.manifest(m)
		case sectionFile:
			if len(payload) < 9 {
				return b.wrong("file without a name")
			}
			size, name := binary.BigEndian.Uint64(payload), string(payload[8:])
			if size > 1<<62 || !backupName(name) {
				return b.wrong("file %q of %d bytes", name, size)
			}
			b.files++
			left = int64(size)
			err = sink.begin(name, left)
		case sectionData, sectionBlock:
			if kind == sectionBlock {
				if payload, err = b.inflate(payload); err != nil {
					return err
				}
			}
			if left -= int64(len(payload)); left < 0 || len(payload) == 0 {
				return b.wrong("data that belong to no file")
			}
			b.bytes += uint64(len(payload))
			err = sink.data(payload)
		case sectionEnd:
			if len(payload) != 16 || binary.BigEndian.Uint64(payload) != b.files || binary.BigEndian.Uint64(payload[8:]) != b.bytes {
				return b.wrong("the end counts other files")
			}
			if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
				return b.wrong("something follows its end")
			}
			return nil
		default:
			return b.wrong("unknown section %q", kind)
		}
		if err != nil {
			return err
		}
	}
}

// backupName reports whether a file of that name may lie in a store: nothing else is ever written.
func backupName(name string) bool {
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "\\:\x00") {
			return false
		}
	}
	switch {
	case len(parts) == 1:
		return name == "VERSION" || name == "meta.db" || name == metaCopyName
	case len(parts) == 2 && parts[0] == "journal":
		return path.Ext(name) == walSuffix
	case len(parts) == 3 && parts[0] == "log":
		return path.Ext(name) == logSuffix
	}
	return len(parts) == 2 && parts[0] == "plugins"
}

type backupReader struct {
	r     *bufio.Reader
	crc   uint32
	at    int64
	buf   []byte
	plain []byte
	files uint64
	bytes uint64
}

func (b *backupReader) wrong(format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrBackup, b.at, fmt.Sprintf(format, args...))
}

func (b *backupReader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off at byte %d or behind", ErrBackup, b.at)
	}
	return fmt.Errorf("read backup: %w", err)
}

// next reads a section; its payload is valid until the next one.
func (b *backupReader) next() (kind byte, payload []byte, err error) {
	var head [9]byte
	binary.BigEndian.PutUint32(head[:], b.crc)
	if _, err := io.ReadFull(b.r, head[4:]); err != nil {
		return 0, nil, b.cut(err)
	}
	n := int(min(binary.BigEndian.Uint32(head[5:]), backupMost+1))
	if n > backupMost {
		return 0, nil, b.wrong("a section of more than %d bytes", backupMost)
	}
	if len(b.buf) < n+4 {
		b.buf = make([]byte, n+4)
	}
	if _, err := io.ReadFull(b.r, b.buf[:n+4]); err != nil {
		return 0, nil, b.cut(err)
	}
	b.crc = crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, b.buf[:n])
	if binary.BigEndian.Uint32(b.buf[n:]) != b.crc {
		return 0, nil, b.wrong("a section fails its checksum")
	}
	b.at += int64(n) + 9
	return head[4], b.buf[:n], nil
}

func (b *backupReader) inflate(payload []byte) ([]byte, error) {
	n, err := s2.DecodedLen(payload)
	if err != nil || n > backupChunk {
		return nil, b.wrong("a block of %d bytes: %v", n, err)
	}
	if b.plain, err = s2.Decode(b.plain[:cap(b.plain)], payload); err != nil {
		return nil, b.wrong("a block: %v", err)
	}
	return b.plain, nil
}
