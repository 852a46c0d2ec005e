package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong, and where.
type Error struct {
	File         string // or the name of an environment variable
	Line, Column int    // 0: of the whole
	Text         string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// Errors are all that is wrong, in the order of the file. Each is one line.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// At puts the place where a value was given before an error about it.
func (c *Config) At(path string, err error) error {
	at, ok := c.at.of(path)
	if !ok {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s:%d:%d: %s: %w", at.file, at.line, at.column, path, err)
}

// position is where a value was given.
type position struct {
	file         string
	line, column int
}

// positions of values by their path, such as topics[0].config.retention.ms.
type positions map[string]position

// of finds a path, or the nearest one above it that was given.
func (p positions) of(path string) (position, bool) {
	for path != "" {
		if at, ok := p[path]; ok {
			return at, true
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return position{}, false
}
