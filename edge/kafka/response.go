package kafka

import (
	"encoding/binary"
	"errors"
	"net"
	"syscall"
)

// writeChunk is how much of small responses is gathered into one write.
const writeChunk = 64 << 10

// responseWriter gathers responses. Small ones are encoded into buf; a Fetch's batches are kept as slices and follow buf
// in one writev.
type responseWriter struct {
	buf  []byte
	cuts []cut // where slices go, in order
	vec  net.Buffers
}

// cut puts data behind the first at bytes of buf.
type cut struct {
	at   int
	data [][]byte
}

func (w *responseWriter) empty() bool { return len(w.buf) == 0 && len(w.cuts) == 0 }

// add encodes a slot's response.
func (w *responseWriter) add(sl *slot) {
	start := len(w.buf)
	switch {
	case sl.raw != nil:
		w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(sl.raw)))
		w.buf = append(w.buf, sl.raw...)
		return
	case sl.resp == nil && sl.fetched == nil && (sl.produce == nil || sl.produce.acks == 0):
		return
	}
	w.buf = append(w.buf, 0, 0, 0, 0)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(sl.corr))
	if sl.flexible {
		w.buf = append(w.buf, 0)
	}
	extra := 0
	switch {
	case sl.fetched != nil:
		extra = sl.fetched.appendTo(w)
	case sl.produce != nil:
		w.buf = sl.produce.appendTo(w.buf)
	default:
		w.buf = sl.resp.AppendTo(w.buf)
	}
	binary.BigEndian.PutUint32(w.buf[start:], uint32(len(w.buf)-start-4+extra))
}

// keepBuffer is the largest encoding buffer that is kept between writes.
const keepBuffer = 256 << 10

// writeTo writes what was added and forgets it.
func (w *responseWriter) writeTo(nc net.Conn) error {
	var err error
	if len(w.cuts) == 0 {
		_, err = nc.Write(w.buf)
	} else {
		vec, from := w.vec[:0], 0
		for _, c := range w.cuts {
			if c.at > from {
				vec = append(vec, w.buf[from:c.at])
				from = c.at
			}
			vec = append(vec, c.data...)
		}
		if from < len(w.buf) {
			vec = append(vec, w.buf[from:])
		}
		w.vec = vec
		sending := vec // WriteTo consumes it
		_, err = sending.WriteTo(nc)
		clear(w.vec)
		clear(w.cuts)
		w.cuts = w.cuts[:0]
	}
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	w.buf = w.buf[:0]
	return err
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
