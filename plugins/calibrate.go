package plugins

import (
	"context"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"rivulet/plugins/asm"
)

// Bounds of what the calibration may find, in units a millisecond. A machine that is busy at that moment looks slower
// than it is.
const (
	minCompiled    = 200_000
	maxCompiled    = 8_000_000
	minInterpreted = 5_000
)

// probe finds the engine and how many units of fuel it burns in a millisecond, in about a millisecond.
//
// wazero falls back to its interpreter without a word when memory cannot be made executable, or panics, according to how
// it is asked; so a loop is compiled and run to see.
func probe(ctx context.Context) (engine string, perMilli int64) {
	if compilable() {
		if n, err := calibrate(ctx, wazero.NewRuntimeConfigCompiler(), 100_000); err == nil {
			return engineCompiler, min(max(n, minCompiled), maxCompiled)
		}
	}
	n, err := calibrate(ctx, wazero.NewRuntimeConfigInterpreter(), 2_000)
	if err != nil {
		n = minInterpreted
	}
	return engineInterpreter, max(n, minInterpreted)
}

const (
	loopInstructions = 16 // of the probe
	// Real guests have longer chains of dependencies, cache misses and calls; they take about twice the time of the loop
	// for an instruction.
	loopAdvantage = 2
)

func calibrate(ctx context.Context, config wazero.RuntimeConfig, turns int32) (perMilli int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("start engine: %v", p)
		}
	}()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	defer r.Close(ctx) //nolint:errcheck // nothing is kept
	mod, err := r.Instantiate(ctx, probeModule())
	if err != nil {
		return 0, fmt.Errorf("start engine: %w", err)
	}
	run := mod.ExportedFunction("run")
	best := time.Duration(1<<63 - 1)
	for range 3 {
		start := time.Now()
		if _, err := run.Call(ctx, api.EncodeI32(turns)); err != nil {
			return 0, fmt.Errorf("start engine: %w", err)
		}
		best = min(best, max(time.Since(start), time.Microsecond))
	}
	units := int64(turns) * loopInstructions / loopAdvantage
	return units * int64(time.Millisecond) / int64(best), nil
}

// probeModule hashes a word of memory again and again.
func probeModule() []byte {
	m := asm.New()
	m.Memory(1)
	run := m.Func(asm.Sig(asm.I32), nil,
		asm.Loop,
		asm.I32Const(8),
		asm.I32Const(8), asm.I32Load(0), asm.LocalGet(0), asm.I32Xor, asm.I32Const(0x01000193), asm.I32Mul,
		asm.I32Store(0),
		asm.LocalGet(0), asm.I32Const(1), asm.I32Sub, asm.LocalTee(0),
		asm.BrIf(0),
		asm.End,
	)
	m.ExportFunc("run", run)
	return m.Bytes()
}
