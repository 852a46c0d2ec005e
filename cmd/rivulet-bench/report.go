package main

import (
	"fmt"
	"os"
	"strings"
)

// replaceBlock puts text between <!-- bench NAME --> and <!-- /bench --> in the file, so that what is written by hand around
// the figures stays.
func replaceBlock(file, name, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	out, err := withBlock(string(b), name, text)
	if err != nil {
		return fmt.Errorf("update %s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func withBlock(doc, name, text string) (string, error) {
	open, end := "<!-- bench "+name+" -->\n", "<!-- /bench -->"
	before, rest, ok := strings.Cut(doc, open)
	if !ok {
		return "", fmt.Errorf("there is no line %q", strings.TrimSpace(open))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("block %s is not closed by %q", name, end)
	}
	return before + open + strings.TrimSpace(text) + "\n" + end + after, nil
}
