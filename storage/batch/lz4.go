package batch

import (
	"encoding/binary"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// Kafka's lz4 is the LZ4 frame format. We write the plainest of its frames: version 1, independent blocks of 64 KiB, no
// checksums (the batch has one), no content size. Frames are put together here from the library's blocks: the library's own
// frame writer takes an io.Writer and copies what it gets.
//
//	magic 0x184D2204 | FLG | BD | header checksum | { block length, block }… | 0
const (
	lz4Magic     = 0x184D2204
	lz4Block     = 64 << 10
	lz4Stored    = 1 << 31 // in a block's length: not compressed
	lz4FlagDict  = 0x01
	lz4FlagCSum  = 0x04 // content checksum behind the last block
	lz4FlagSize  = 0x08
	lz4FlagBSum  = 0x10 // checksum behind every block
	lz4FlagIndep = 0x20
	lz4Version   = 0x40
	lz4VersMask  = 0xc0
)

// lz4Head is the header of our frames; its last byte is the second of xxh32(FLG, BD).
var lz4Head = [...]byte{0x04, 0x22, 0x4d, 0x18, lz4Version | lz4FlagIndep, 0x40, 0x82}

// appendLZ4 appends src as one frame to dst.
func appendLZ4(dst, src []byte, c *lz4.Compressor) ([]byte, error) {
	dst = append(dst, lz4Head[:]...)
	for len(src) > 0 {
		block := src[:min(len(src), lz4Block)]
		src = src[len(block):]
		at := len(dst)
		dst = grow(dst, 4+lz4.CompressBlockBound(len(block)))
		n, err := c.CompressBlock(block, dst[at+4:cap(dst)])
		if err != nil {
			return dst[:at], err
		}
		size := uint32(n)
		if n == 0 || n >= len(block) {
			n = copy(dst[at+4:cap(dst)], block)
			size = uint32(n) | lz4Stored
		}
		binary.LittleEndian.PutUint32(dst[at:cap(dst)], size)
		dst = dst[:at+4+n]
	}
	return append(dst, 0, 0, 0, 0), nil
}

// unlz4 appends the content of one frame to dst, at most maxRaw bytes. Checksums are passed over: the batch's own holds.
func unlz4(dst, src []byte, maxRaw int) ([]byte, error) {
	if len(src) < len(lz4Head) || binary.LittleEndian.Uint32(src) != lz4Magic {
		return dst, ErrMalformed
	}
	flags, blockMax := src[4], 64<<10
	switch src[5] >> 4 & 7 {
	case 4:
	case 5:
		blockMax = 256 << 10
	case 6:
		blockMax = 1 << 20
	case 7:
		blockMax = 4 << 20
	default:
		return dst, ErrMalformed
	}
	if flags&lz4VersMask != lz4Version || flags&lz4FlagDict != 0 {
		return dst, ErrMalformed
	}
	src = src[6:]
	head, trail := 1, 0
	if flags&lz4FlagSize != 0 {
		head += 8
	}
	if flags&lz4FlagBSum != 0 {
		trail = 4
	}
	if len(src) < head {
		return dst, ErrTruncated
	}
	src = src[head:]
	for {
		if len(src) < 4 {
			return dst, ErrTruncated
		}
		size := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if size == 0 {
			return dst, nil
		}
		n := size &^ lz4Stored
		if uint64(n)+uint64(trail) > uint64(len(src)) {
			return dst, ErrTruncated
		}
		block := src[:n]
		src = src[int(n)+trail:]
		var err error
		if dst, err = appendBlock(dst, block, size&lz4Stored != 0, flags&lz4FlagIndep == 0, blockMax, maxRaw); err != nil {
			return dst, err
		}
	}
}

// appendBlock appends one block's content to dst. linked blocks refer to the 64 KiB before them.
func appendBlock(dst, block []byte, stored, linked bool, blockMax, maxRaw int) ([]byte, error) {
	at := len(dst)
	if stored {
		if len(block) > maxRaw-at {
			return dst, ErrTooLarge
		}
		return append(dst, block...), nil
	}
	// A byte of lz4 stands for at most 255, so that small blocks need not claim their maximum.
	room := min(blockMax, 255*len(block)+64)
	dst = grow(dst, room)
	var dict []byte
	if linked {
		dict = dst[max(0, at-lz4Block):at]
	}
	n, err := lz4.UncompressBlockWithDict(block, dst[at:at+room], dict)
	if err != nil {
		return dst, err
	}
	if n > maxRaw-at {
		return dst, ErrTooLarge
	}
	return dst[:at+n], nil
}

// grow returns b with room for n more bytes; its length is kept.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return slices.Grow(b, n)
}
