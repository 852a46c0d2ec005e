package plugins

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"rivulet/plugins/meter"
)

// Modules that a guest may import.
const (
	moduleTransform = "redpanda_transform"
	moduleSchema    = "redpanda_schema_registry"
	moduleRivulet   = "rivulet_v1"
	moduleWASI      = "wasi_snapshot_preview1"
)

// maxStack is what a guest's recursion may take, estimated, in bytes. Without it an engine would let a guest have a
// hundred megabytes.
const maxStack = 1 << 20

const howToBuild = "build a program that calls transform.OnRecordWritten, e.g. GOOS=wasip1 GOARCH=wasm go build -o plugin.wasm, or cargo build --release --target wasm32-wasip1"

// check holds a module against the guest ABI (Redpanda's rules).
func (h *Host) check(m *meter.Module) error {
	exports := map[string]meter.Export{}
	for _, e := range m.Exports {
		exports[e.Name] = e
	}
	start, ok := exports["_start"]
	if !ok {
		hint := "it is a library, not a program; " + howToBuild
		if _, reactor := exports["_initialize"]; reactor {
			hint = "it was built as a reactor (-buildmode=c-shared, crate-type cdylib); " + howToBuild
		}
		return fmt.Errorf("it does not export the function _start: %s", hint)
	}
	if start.Kind != meter.Func || len(start.Type.Params)+len(start.Type.Results) > 0 {
		return fmt.Errorf("its export _start is not a function without parameters and results; %s", howToBuild)
	}
	if e, ok := exports["memory"]; !ok || e.Kind != meter.Memory {
		return fmt.Errorf("it does not export its memory as \"memory\"; %s", howToBuild)
	}
	if m.Memories != 1 {
		return fmt.Errorf("it has %d memories, exactly one is allowed", m.Memories)
	}
	if need := uint64(m.MemoryMin) << 16; need > uint64(h.o.MemoryLimit) {
		return fmt.Errorf("%w: it begins with %d bytes, an instance may have %d (plugin memory limit)", ErrMemory, need, h.o.MemoryLimit)
	}
	abi := false
	for _, im := range m.Imports {
		if err := h.checkImport(im); err != nil {
			return err
		}
		if im.Module == moduleTransform && strings.HasPrefix(im.Name, "check_abi_version_") {
			abi = true
		}
	}
	if !abi {
		return fmt.Errorf("it does not import %s.check_abi_version_1 or _2, so it is no data transform: %s", moduleTransform, howToBuild)
	}
	return nil
}

func (h *Host) checkImport(im meter.Import) error {
	if im.Kind != meter.Func {
		return fmt.Errorf("it imports %s.%s, which is no function; only functions are offered", im.Module, im.Name)
	}
	functions, ok := h.known[im.Module]
	if !ok {
		hint := ""
		switch {
		case im.Module == "gojs" || im.Module == "go":
			hint = "; it was built with GOOS=js, use GOOS=wasip1"
		case im.Module == "env":
			hint = "; a symbol was not found when it was linked, or it was built for a browser"
		case strings.HasPrefix(im.Module, "wasi"):
			hint = "; only WASI preview 1 is offered (target wasm32-wasip1)"
		}
		return fmt.Errorf("it imports %s.%s; offered are %s, %s, %s and %s%s", im.Module, im.Name,
			moduleTransform, moduleSchema, moduleWASI, moduleRivulet, hint)
	}
	def, ok := functions[im.Name]
	if !ok {
		return fmt.Errorf("it imports %s.%s, which this version does not offer", im.Module, im.Name)
	}
	if string(def.ParamTypes()) != string(im.Type.Params) || string(def.ResultTypes()) != string(im.Type.Results) {
		return fmt.Errorf("it imports %s.%s as %s, it is %s", im.Module, im.Name,
			signature(im.Type.Params, im.Type.Results), signature(def.ParamTypes(), def.ResultTypes()))
	}
	return nil
}

func signature(params, results []byte) string {
	name := func(ts []byte) string {
		names := make([]string, len(ts))
		for i, t := range ts {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, " ") + ")"
	}
	return name(params) + " -> " + name(results)
}
