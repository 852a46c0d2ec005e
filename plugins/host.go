package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"rivulet/plugins/meter"
)

// The engines.
const (
	engineCompiler    = "compiler"
	engineInterpreter = "interpreter"
)

// Host is one wazero runtime with its compiled modules. Safe for concurrent use.
type Host struct {
	o        Options
	engine   string
	cacheDir string // of this version of wazero
	cache    wazero.CompilationCache
	runtime  wazero.Runtime
	known    map[string]map[string]api.FunctionDefinition // host modules and their functions

	recordFuel, startFuel, sliceFuel int64

	mu          sync.Mutex
	modules     map[string]*Module // by sha256
	attachments map[*Attachment]struct{}
	closed      bool
}

// NewHost starts a runtime.
func NewHost(ctx context.Context, o Options) (*Host, error) {
	h := &Host{
		o:           o.withDefaults(),
		modules:     make(map[string]*Module),
		attachments: make(map[*Attachment]struct{}),
	}
	var perMilli int64
	h.engine, perMilli = probe(ctx)
	h.setFuel(perMilli)
	config := wazero.NewRuntimeConfigInterpreter()
	if h.engine == engineCompiler {
		config = wazero.NewRuntimeConfigCompiler()
	}
	// DWARF is parsed by code that was not written for hostile input; it is cut off by the rewriter, too.
	config = config.WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false)
	if o.CacheDir != "" {
		if err := h.openCache(); err != nil {
			return nil, fmt.Errorf("open cache of compiled plugins: %w", err)
		}
		config = config.WithCompilationCache(h.cache)
	}
	h.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if err := h.exportAll(ctx); err != nil {
		_ = h.Close(ctx) // the first error says it
		return nil, fmt.Errorf("start plugin runtime: %w", err)
	}
	return h, nil
}

// setFuel turns times into units.
func (h *Host) setFuel(perMilli int64) {
	h.recordFuel = max(h.o.RecordTime.Microseconds()*perMilli/1000, 1000)
	h.startFuel = max(h.o.StartTime.Microseconds()*perMilli/1000, 1000)
	h.sliceFuel = max(perMilli/4, 1000) // tight loops run up to three times as long as calibrated
}

func (h *Host) exportAll(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, h.runtime); err != nil {
		return err
	}
	modules := []struct {
		name  string
		funcs []hostFunc
	}{
		{moduleTransform, transformFuncs()},
		{moduleSchema, schemaFuncs()},
		{moduleRivulet, rivuletFuncs()},
		{meter.RefillModule, []hostFunc{{meter.RefillName, refill, nil, nil}}},
	}
	h.known = map[string]map[string]api.FunctionDefinition{}
	for _, m := range modules {
		if err := exportModule(ctx, h.runtime, m.name, m.funcs); err != nil {
			return err
		}
	}
	for _, name := range []string{moduleTransform, moduleSchema, moduleRivulet, moduleWASI} {
		h.known[name] = h.runtime.Module(name).ExportedFunctionDefinitions()
	}
	return nil
}

// openCache makes the folder, closed to others: what is in it is executed. Code of other versions of wazero is removed.
func (h *Host) openCache() error {
	if err := os.MkdirAll(h.o.CacheDir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(h.o.CacheDir, 0o700); err != nil {
		return err
	}
	name := "wazero-" + wazeroVersion()
	h.cacheDir = filepath.Join(h.o.CacheDir, name)
	entries, err := os.ReadDir(h.o.CacheDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != name && strings.HasPrefix(e.Name(), "wazero-") {
			if err := os.RemoveAll(filepath.Join(h.o.CacheDir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(h.cacheDir, 0o700); err != nil {
		return err
	}
	h.cache, err = wazero.NewCompilationCacheWithDir(h.cacheDir)
	return err
}

func wazeroVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				return d.Version
			}
		}
	}
	return "unknown"
}

// Close ends all instances.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	var open []*Attachment
	for a := range h.attachments {
		open = append(open, a)
	}
	h.mu.Unlock()
	var errs []error
	for _, a := range open {
		errs = append(errs, a.Close(ctx))
	}
	errs = append(errs, h.runtime.Close(ctx))
	if h.cache != nil {
		errs = append(errs, h.cache.Close(ctx))
	}
	return errors.Join(errs...)
}

func (h *Host) add(a *Attachment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || a.module.forgotten {
		return ErrClosed
	}
	h.attachments[a] = struct{}{}
	a.module.attached++
	return nil
}

func (h *Host) remove(ctx context.Context, a *Attachment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.attachments[a]; !ok {
		return nil
	}
	delete(h.attachments, a)
	a.module.attached--
	return h.release(ctx, a.module)
}

// Engine is "compiler", or "interpreter" where code cannot be compiled or must not be made executable. The interpreter is
// 10 to 70 times slower.
func (h *Host) Engine() string { return h.engine }

// compilable says whether wazero's compiler knows this processor.
func compilable() bool { return runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" }
