package plugins

import (
	"bytes"
	"fmt"
	"sync"
	"time"
)

const (
	maxLine        = 1 << 10
	linesPerSecond = 100
)

// lineLog passes lines on, so many a second. It is shared by the instances of an attachment.
type lineLog struct {
	now func() time.Time
	to  func(stderr bool, line string)

	mu     sync.Mutex
	second time.Time
	lines  int
	lost   int
}

// room reports whether a line may be passed on.
func (l *lineLog) room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.second) >= time.Second || now.Before(l.second) {
		if l.lost > 0 {
			l.to(true, fmt.Sprintf("(%d lines more within a second were lost)", l.lost))
		}
		l.second, l.lines, l.lost = now, 0, 0
	}
	if l.lines >= linesPerSecond {
		l.lost++
		return false
	}
	l.lines++
	return true
}

func (l *lineLog) lose(lines int) {
	l.mu.Lock()
	l.lost += lines
	l.mu.Unlock()
}

var newline = []byte{'\n'}

// lineWriter cuts what a guest writes into lines. What is behind maxLine of a line is lost.
type lineWriter struct {
	in     *instance
	log    *lineLog
	stderr bool
	buf    []byte
	said   string // the first line since the record began
}

// Write never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	w.in.charge(64 + n>>3)
	for lines := 0; len(p) > 0; lines++ {
		if lines > linesPerSecond { // they would be lost one by one
			w.log.lose(bytes.Count(p, newline) + 1)
			break
		}
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		w.buf = append(w.buf, part[:min(len(part), maxLine-len(w.buf))]...)
		if end < 0 {
			break
		}
		w.flush()
		p = p[end+1:]
	}
	return n, nil
}

// flush passes on what is left of a line.
func (w *lineWriter) flush() {
	if len(w.buf) == 0 {
		return
	}
	if w.said == "" {
		w.said = string(printable(w.buf))
	}
	if w.log.room() {
		w.log.to(w.stderr, string(printable(w.buf)))
	}
	w.buf = w.buf[:0]
}

// first is the first line that was written since forget.
func (w *lineWriter) first() string {
	w.flush()
	return w.said
}

func (w *lineWriter) forget() { w.said = "" }
