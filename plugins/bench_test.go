package plugins

import (
	"testing"

	"rivulet/examples/plugins/builtin"
)

func BenchmarkIdentity(b *testing.B) { benchmarkSizes(b, builtin.Identity) }

func BenchmarkDropCold(b *testing.B) {
	benchmarkSizes(b, func() []byte { return builtin.DropCold(25) })
}

func BenchmarkNewHost(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		h, err := NewHost(b.Context(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	h := newHost(b, Options{})
	wasm := builtin.Identity()
	b.ReportAllocs()
	for b.Loop() {
		m, err := h.Compile(b.Context(), wasm)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Forget(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}
