package plugins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"rivulet/plugins/meter"
)

// Module is compiled code, named by the sha256 of the upload.
type Module struct {
	sha     string
	imports []string

	done     chan struct{} // closed when the others are set
	compiled wazero.CompiledModule
	err      error

	// Guarded by the host's mutex.
	attached  int
	forgotten bool
}

// SHA256 is the upload's digest in hex.
func (m *Module) SHA256() string { return m.sha }

// Imports are the capabilities it asks for: the host functions, as MODULE.NAME, sorted.
func (m *Module) Imports() []string { return slices.Clone(m.imports) }

// maxCompile bounds how long an upload may keep the machine busy. Go's take 2 seconds, on a small gateway ten times that.
const maxCompile = 2 * time.Minute

// Compile checks the module against the guest ABI, inserts fuel metering and compiles it. The same bytes give the same
// *Module. Errors wrap ErrModule and say what is missing and how to build it right. A large module takes seconds on a
// small machine.
func (h *Host) Compile(ctx context.Context, wasm []byte) (*Module, error) {
	if len(wasm) > h.o.MaxBinary {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed; strip it (-ldflags=-s, wasm-strip)", ErrModule, len(wasm), h.o.MaxBinary)
	}
	sum := sha256.Sum256(wasm)
	sha := hex.EncodeToString(sum[:])
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, fmt.Errorf("compile plugin: %w", ErrClosed)
	}
	m := h.modules[sha]
	if m != nil {
		h.mu.Unlock()
		select {
		case <-m.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("compile plugin: %w", ctx.Err())
		}
		return m, m.err
	}
	m = &Module{sha: sha, done: make(chan struct{})}
	h.modules[sha] = m
	h.mu.Unlock()

	m.err = h.compile(ctx, m, wasm)
	if m.err != nil { // not remembered: it may have been the context's end
		h.mu.Lock()
		delete(h.modules, sha)
		h.mu.Unlock()
	}
	close(m.done)
	if m.err != nil {
		return nil, m.err
	}
	return m, nil
}

func (h *Host) compile(ctx context.Context, m *Module, wasm []byte) error {
	parsed, err := meter.Parse(wasm)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	if err := h.check(parsed); err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	for _, im := range parsed.Imports {
		m.imports = append(m.imports, im.Module+"."+im.Name)
	}
	slices.Sort(m.imports)
	m.imports = slices.Compact(m.imports)
	metered, err := parsed.Rewrite(maxStack)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	// The compiler looks at the context between functions, if it has workers.
	within, cancel := context.WithTimeout(experimental.WithCompilationWorkers(ctx, 2), maxCompile)
	defer cancel()
	m.compiled, err = h.runtime.CompileModule(within, metered)
	if err != nil && h.cacheDir != "" && strings.Contains(err.Error(), "compilationcache") {
		// A file of the cache is damaged, by a power cut perhaps. It is only a cache.
		if err := h.emptyCache(); err != nil {
			return fmt.Errorf("empty cache of compiled plugins: %w", err)
		}
		m.compiled, err = h.runtime.CompileModule(within, metered)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok && h.cacheDir != "" {
		// The code could not be kept: the disk is full, perhaps. It is compiled all the same, and wazero finds it in memory.
		h.o.Log.Warn("compiled plugin is not kept; the next start compiles it again", "err", err)
		m.compiled, err = h.runtime.CompileModule(within, metered)
	}
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("compile plugin: %w", ctx.Err())
		}
		if within.Err() != nil {
			return fmt.Errorf("%w: compiling it takes longer than %v", ErrModule, maxCompile)
		}
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	return nil
}

// emptyCache removes all compiled code; the folders stay.
func (h *Host) emptyCache() error {
	return filepath.WalkDir(h.cacheDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Remove(path)
	})
}

// Forget lets go of a module's compiled code when its last attachment is closed. Attach cannot be called with it
// afterwards; Compile of the same bytes gives a new *Module.
func (h *Host) Forget(ctx context.Context, m *Module) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.forgotten {
		return nil
	}
	m.forgotten = true
	delete(h.modules, m.sha)
	return h.release(ctx, m)
}

// Sweep forgets every module without an attachment, so that compiled code is kept only of what runs.
func (h *Host) Sweep(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for sha, m := range h.modules {
		select {
		case <-m.done:
		default:
			continue // being compiled
		}
		if m.attached == 0 {
			m.forgotten = true
			delete(h.modules, sha)
			errs = append(errs, h.release(ctx, m))
		}
	}
	return errors.Join(errs...)
}

// release closes a module that nobody can use any more. The host's mutex is held.
func (h *Host) release(ctx context.Context, m *Module) error {
	if !m.forgotten || m.attached > 0 || h.closed {
		return nil
	}
	return m.compiled.Close(ctx)
}
