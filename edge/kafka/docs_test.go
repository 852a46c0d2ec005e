package kafka

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"rivulet/edge"
)

// TestDocumentedVersions holds docs/KAFKA.md against what is advertised.
func TestDocumentedVersions(t *testing.T) {
	text, err := os.ReadFile("../../docs/KAFKA.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, a := range newAPITable() {
		if a == nil {
			continue
		}
		rows++
		if row := fmt.Sprintf("| %d | %s | %d–%d |", a.key.Int16(), a.key.Name(), a.min, a.max); !strings.Contains(string(text), row) {
			t.Errorf("docs/KAFKA.md has no row %q", row)
		}
	}
	listed := 0
	for line := range strings.Lines(string(text)) {
		if len(line) > 2 && strings.HasPrefix(line, "| ") && line[2] >= '0' && line[2] <= '9' {
			listed++
		}
	}
	for _, k := range edge.TopicConfigs() {
		if !strings.Contains(string(text), "`"+k.Name+"`") {
			t.Errorf("docs/KAFKA.md does not name %s", k.Name)
		}
	}
	if listed != rows {
		t.Errorf("docs/KAFKA.md lists %d requests, want %d", listed, rows)
	}
}
