//go:build interop

package interop

import (
	"bufio"
	"io"
	"strings"
)

// lineReader reads a program's output as it comes.
type lineReader struct {
	scan  *bufio.Scanner
	lines []string
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{scan: bufio.NewScanner(r)} }

// until reads on until a line begins with prefix; with "" to the end. It reports whether there was one.
func (l *lineReader) until(prefix string) bool {
	for l.scan.Scan() {
		line := l.scan.Text()
		l.lines = append(l.lines, line)
		if prefix != "" && strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return prefix == ""
}

func (l *lineReader) all() string { return strings.Join(l.lines, "\n") }
