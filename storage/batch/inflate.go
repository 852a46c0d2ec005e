package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// inflater decompresses records into a buffer that it keeps. The readers are made when they are first needed.
type inflater struct {
	buf  []byte
	src  bytes.Reader
	gzip *gzip.Reader
	zstd *zstd.Decoder
}

// keepRaw is the largest buffer that is kept for the next batch: one large batch must not hold its memory for ever.
const keepRaw = 4 << 20

// inflate returns the records of src uncompressed: src itself, or the buffer, which the next call overwrites.
func (f *inflater) inflate(codec Codec, src []byte, maxRaw int) ([]byte, error) {
	if cap(f.buf) > keepRaw {
		f.buf = nil
	}
	var err error
	switch codec {
	case None:
		if len(src) > maxRaw {
			return nil, ErrTooLarge
		}
		return src, nil
	case Gzip:
		err = f.ungzip(src, maxRaw)
	case Snappy:
		err = f.unsnappy(src, maxRaw)
	case LZ4:
		f.buf, err = unlz4(f.buf[:0], src, maxRaw)
	case Zstd:
		err = f.unzstd(src, maxRaw)
	default:
		return nil, ErrCodec
	}
	if err != nil {
		if errors.Is(err, ErrTooLarge) {
			return nil, ErrTooLarge
		}
		return nil, fmt.Errorf("decompress %s: %w: %w", codec, ErrMalformed, err)
	}
	return f.buf, nil
}

func (f *inflater) ungzip(src []byte, maxRaw int) error {
	f.src.Reset(src)
	if f.gzip == nil {
		r, err := gzip.NewReader(&f.src)
		if err != nil {
			return err
		}
		f.gzip = r
	} else if err := f.gzip.Reset(&f.src); err != nil {
		return err
	}
	return f.readAll(f.gzip, maxRaw)
}

// maxZstdWindow is the largest window that is allocated for a frame: what the zstd format says decoders should support.
const maxZstdWindow = 8 << 20

func (f *inflater) unzstd(src []byte, maxRaw int) error {
	f.src.Reset(src)
	if f.zstd == nil {
		// One decoder, so that it works in this goroutine and starts none.
		r, err := zstd.NewReader(&f.src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
		f.zstd = r
	} else if err := f.zstd.Reset(&f.src); err != nil {
		return err
	}
	return f.readAll(f.zstd, maxRaw)
}

// readAll reads r to its end into the buffer.
func (f *inflater) readAll(r io.Reader, maxRaw int) error {
	f.buf = f.buf[:0]
	for {
		if len(f.buf) == cap(f.buf) {
			f.buf = grow(f.buf, 4<<10)
		}
		n, err := r.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if len(f.buf) > maxRaw {
			return ErrTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// xerial is the framing of snappy-java: this magic, version and compatible version, then blocks with their length.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

func (f *inflater) unsnappy(src []byte, maxRaw int) error {
	f.buf = f.buf[:0]
	if !bytes.HasPrefix(src, xerial) {
		return f.unsnappyBlock(src, maxRaw)
	}
	if len(src) < xerialHeader {
		return ErrTruncated
	}
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			return ErrTruncated
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return ErrTruncated
		}
		if err := f.unsnappyBlock(src[:n], maxRaw); err != nil {
			return err
		}
		src = src[n:]
	}
	return nil
}

// unsnappyBlock appends one block to the buffer.
func (f *inflater) unsnappyBlock(src []byte, maxRaw int) error {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return err
	}
	start := len(f.buf)
	if n > maxRaw-start {
		return ErrTooLarge
	}
	f.buf = grow(f.buf, n)
	raw, err := snappy.Decode(f.buf[start:start+n], src)
	if err != nil {
		return err
	}
	f.buf = f.buf[:start+len(raw)]
	return nil
}
