package http

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Bounds of what a request under way may cost: a client that stops in the middle of its body, or does not read its answer, would keep a
// connection, a goroutine and memory for ever.
const (
	openBodyTimeout = 10 * time.Second // for a whole body, from somebody who is not known (yet)
	bodyPatience    = 30 * time.Second // for a body; slowestBody gives it more as it comes
	slowestBody     = 1 << 10          // bytes a second
	answerPatience  = 30 * time.Second // for each answerPiece of an answer
	answerPiece     = 64 << 10
	maxBodies       = 96 << 20 // bytes of all bodies that are being read or worked on: one plugin test and more
)

// patience is how long a client is waited for.
type patience struct{ open, body, answer time.Duration }

// errBusy asks a client to come again.
var errBusy = &requestError{http.StatusServiceUnavailable, fmt.Errorf("too many large requests at once, more than %d MiB: try again", maxBodies>>20)}

// body is a request's, read no more slowly than slowestBody and counted.
type body struct {
	io.ReadCloser
	rc       *http.ResponseController
	all      *atomic.Int64
	began    time.Time
	size     int64
	patience time.Duration
	open     bool // whoever sends it is not known
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if !b.open {
		// A test's recorder has no deadlines.
		_ = b.rc.SetReadDeadline(b.began.Add(b.patience + time.Duration(b.size)*time.Second/slowestBody))
	}
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	total := b.all.Add(int64(n))
	if errors.Is(err, io.EOF) {
		_ = b.rc.SetReadDeadline(time.Time{}) // from here on a read only notices that the client leaves
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, &requestError{http.StatusRequestTimeout, errors.New("it comes too slowly, or not at all")}
	case n > 0 && total > maxBodies:
		return n, errBusy
	}
	return n, err
}

// pacedWriter gives up a client that does not read.
type pacedWriter struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
}

// WriteHeader implements http.ResponseWriter. A deadline that an earlier request on the connection left behind would end this one.
func (w *pacedWriter) WriteHeader(status int) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.patience))
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *pacedWriter) Write(p []byte) (written int, err error) {
	for {
		_ = w.rc.SetWriteDeadline(time.Now().Add(w.patience))
		piece := p[:min(len(p), answerPiece)]
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if p = p[len(piece):]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}

// Unwrap is for http.ResponseController.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// paced begins a request; end is called when it has been answered.
func (s *Server) paced(w http.ResponseWriter, r *http.Request) (_ http.ResponseWriter, _ *body, end func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // 100 Continue goes by it, too
	s.active.Add(1)
	var b *body
	if r.Body != nil && r.Body != http.NoBody {
		b = &body{ReadCloser: r.Body, rc: rc, all: &s.bodies, began: time.Now(), patience: s.patience.body, open: true}
		r.Body = b
		// It holds for what net/http reads of a body that the handler leaves, too.
		_ = rc.SetReadDeadline(b.began.Add(s.patience.open))
	}
	return &pacedWriter{w, rc, s.patience.answer}, b, func() {
		if b != nil {
			s.bodies.Add(-b.size)
		}
		s.active.Add(-1)
		select {
		case s.left <- struct{}{}:
		default:
		}
	}
}
