package kafka

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kbin"
)

// appendTo encodes the response into w: everything but the batches into its buffer, the batches as cuts. It returns the
// bytes of the batches.
func (f *fetchState) appendTo(w *responseWriter) (extra int) {
	v := f.version
	flexible := v >= 12
	dst := w.buf
	dst = kbin.AppendInt32(dst, 0) // throttle time
	if v >= 7 {
		dst = kbin.AppendInt16(dst, f.code)
		dst = kbin.AppendInt32(dst, 0) // session
	}
	dst = appendArrayLen(dst, len(f.topics), flexible)
	parts := f.parts
	for _, t := range f.topics {
		dst = appendString(dst, t.name, flexible)
		dst = appendArrayLen(dst, t.parts, flexible)
		for i := range parts[:t.parts] {
			p := &parts[i]
			dst = p.appendHead(dst, v, f.committed)
			if flexible {
				dst = binary.AppendUvarint(dst, uint64(p.size)+1)
			} else {
				dst = kbin.AppendInt32(dst, int32(p.size))
			}
			if p.size > 0 {
				w.cuts = append(w.cuts, cut{at: len(dst), data: p.data})
				extra += p.size
			}
			if flexible {
				dst = append(dst, 0)
			}
		}
		parts = parts[t.parts:]
		if flexible {
			dst = append(dst, 0)
		}
	}
	if flexible {
		dst = append(dst, 0)
	}
	w.buf = dst
	return extra
}

// appendHead encodes what stands before a partition's records.
func (p *fetchPart) appendHead(dst []byte, v int16, committed bool) []byte {
	flexible := v >= 12
	dst = kbin.AppendInt32(dst, p.index)
	dst = kbin.AppendInt16(dst, p.code)
	dst = kbin.AppendInt64(dst, p.high)
	dst = kbin.AppendInt64(dst, p.stable)
	if v >= 5 {
		dst = kbin.AppendInt64(dst, p.start)
	}
	if flexible {
		dst = kbin.AppendCompactNullableArrayLen(dst, len(p.aborted), !committed)
	} else {
		dst = kbin.AppendNullableArrayLen(dst, len(p.aborted), !committed)
	}
	for _, a := range p.aborted {
		dst = kbin.AppendInt64(dst, a.ProducerID)
		dst = kbin.AppendInt64(dst, a.FirstOffset)
		if flexible {
			dst = append(dst, 0)
		}
	}
	if v >= 11 {
		dst = kbin.AppendInt32(dst, -1) // preferred read replica
	}
	return dst
}
