// Package plugintest builds plugins from Go source, for tests.
package plugintest

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Builder builds each package once. The zero value is ready; a test binary keeps one.
type Builder struct {
	mu    sync.Mutex
	built map[string][]byte
}

// Go builds the main package in a folder for wasip1 and returns the module. The folder is relative to the test's.
func (b *Builder) Go(t testing.TB, folder string) []byte {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if wasm := b.built[folder]; wasm != nil {
		return wasm
	}
	file := filepath.Join(t.TempDir(), "plugin.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, ".")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.built == nil {
		b.built = make(map[string][]byte)
	}
	b.built[folder] = wasm
	return wasm
}
