package meter_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"rivulet/examples/plugins/builtin"
	"rivulet/plugins/meter"
)

// FuzzRewrite holds that nothing makes the rewriter panic, that it keeps valid modules valid, and that it does not make an
// invalid one valid, which could then reach the counters.
func FuzzRewrite(f *testing.F) {
	for _, wasm := range programs() {
		f.Add(wasm)
	}
	f.Add(builtin.DropCold(3))
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Cleanup(func() { r.Close(ctx) }) //nolint:errcheck // nothing is kept
	valid := func(wasm []byte) error {
		c, err := r.CompileModule(ctx, wasm)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := meter.Parse(wasm)
		if err != nil {
			return
		}
		out, err := m.Rewrite(1 << 20)
		if err != nil {
			return
		}
		before, after := valid(wasm), valid(out)
		if before == nil && after != nil {
			t.Fatalf("valid before, not after: %v", after)
		}
		// Custom sections are dropped, and wazero refuses one with an empty name at the end, which the specification allows.
		if before != nil && after == nil && !strings.Contains(before.Error(), "custom section") {
			t.Fatalf("valid after, not before: %v", before)
		}
	})
}
