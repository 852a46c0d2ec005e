package meter_test

import (
	"testing"

	"github.com/tetratelabs/wazero"
	"pgregory.net/rapid"

	a "rivulet/plugins/asm"
)

// generator makes random valid programs that end, and that count their own instructions as they run.
type generator struct {
	*rapid.T
	m              *a.Module
	counter, steps uint32 // globals: instructions run, loops and calls still allowed
	funcs          uint32 // all functions are of type i32 -> results
	results        []a.Type
	bulk           bool
}

// tick counts the instructions of the statement that follows.
func (g *generator) tick(n int64) []byte {
	return a.Join(a.GlobalGet(g.counter), a.I64Const(n), a.I64Add, a.GlobalSet(g.counter))
}

// bounded leaves the function when the program has run long enough.
func (g *generator) bounded(labels int) []byte {
	return a.Join(a.GlobalGet(g.steps), a.I32Eqz, a.If, g.yield(), a.Return, a.End,
		a.GlobalGet(g.steps), a.I32Const(1), a.I32Sub, a.GlobalSet(g.steps))
}

// yield pushes the function's results.
func (g *generator) yield() []byte {
	var b []byte
	for i, t := range g.results {
		if t == a.I64 {
			b = append(b, a.I64Const(int64(i))...)
		} else {
			b = append(b, a.LocalGet(uint32(i))...)
		}
	}
	return b
}

func (g *generator) local() uint32 { return rapid.Uint32Range(0, 3).Draw(g.T, "local") }

func (g *generator) condition() []byte {
	return a.Join(a.LocalGet(g.local()), a.I32Const(rapid.Int32Range(0, 7).Draw(g.T, "bit")), a.I32And)
}

func (g *generator) body(depth, labels int) []byte {
	var b []byte
	for range rapid.IntRange(0, 5).Draw(g.T, "statements") {
		b = append(b, g.statement(depth, labels)...)
	}
	return b
}

func (g *generator) statement(depth, labels int) []byte {
	kind := rapid.IntRange(0, 11).Draw(g.T, "kind")
	if depth == 0 && kind >= 4 && kind <= 7 {
		kind = 0
	}
	label := func() uint32 { return uint32(rapid.IntRange(0, labels-1).Draw(g.T, "label")) }
	if labels == 0 && (kind == 8 || kind == 9) {
		kind = 1
	}
	switch kind {
	default:
		x, y := g.local(), g.local()
		return a.Join(g.tick(8), a.LocalGet(x), a.LocalGet(y), a.I32Const(rapid.Int32().Draw(g.T, "c")), a.I32Mul, a.I32Xor, a.LocalSet(x))
	case 2: // a long stretch
		var b []byte
		x := g.local()
		n := rapid.IntRange(10, 60).Draw(g.T, "length")
		for range n {
			b = append(b, a.Join(a.LocalGet(x), a.I32Const(3), a.I32Add, a.LocalSet(x))...)
		}
		return a.Join(g.tick(int64(4*n)), b)
	case 3:
		if !g.bulk {
			return nil
		}
		return a.Join(g.tick(4), a.LocalGet(g.local()), a.I32Const(1023), a.I32And, a.LocalGet(g.local()), a.LocalGet(g.local()), a.I32Const(255), a.I32And, a.MemoryFill)
	case 4:
		return a.Join(a.Block, g.body(depth-1, labels+1), a.End)
	case 5:
		return a.Join(g.condition(), a.If, g.body(depth-1, labels+1), a.End)
	case 6:
		return a.Join(g.condition(), a.If, g.body(depth-1, labels+1), a.Else, g.body(depth-1, labels+1), a.End)
	case 7:
		return a.Join(a.Loop, g.bounded(labels), g.body(depth-1, labels+1), a.End)
	case 8:
		if rapid.Bool().Draw(g.T, "conditional") {
			return a.Join(g.condition(), a.BrIf(label()))
		}
		return a.Br(label())
	case 9:
		l := []byte{0x0e, 2, byte(label()), byte(label()), byte(label())}
		return a.Join(g.condition(), l)
	case 10: // out of the function, by its label or by return
		out := a.Return
		if rapid.Bool().Draw(g.T, "by label") {
			out = a.Br(uint32(labels) + 1)
		}
		return a.Join(g.condition(), a.If, g.yield(), out, a.End)
	case 11:
		drop := a.Join(a.LocalSet(g.local()))
		for range len(g.results) - 1 {
			drop = a.Join(a.Drop, drop)
		}
		callee := rapid.Uint32Range(0, g.funcs-1).Draw(g.T, "callee")
		if rapid.Bool().Draw(g.T, "indirect") {
			return a.Join(g.bounded(labels), g.tick(3), a.LocalGet(g.local()), a.I32Const(int32(callee)), a.CallIndirect(0), drop)
		}
		return a.Join(g.bounded(labels), g.tick(2), a.LocalGet(g.local()), a.Call(callee), drop)
	}
}

func (g *generator) module() []byte {
	g.m = a.New()
	g.results = rapid.SampledFrom([][]a.Type{{a.I32}, {a.I32, a.I64}, {a.I32, a.I32, a.I64}}).Draw(g.T, "results")
	g.funcs = rapid.Uint32Range(1, 4).Draw(g.T, "functions")
	g.bulk = rapid.Bool().Draw(g.T, "bulk")
	sig := a.Sig(a.I32).To(g.results...)
	g.m.TypeIndex(sig)
	g.counter = g.m.Global(a.I64, a.I64Const(0))
	g.steps = g.m.Global(a.I32, a.I32Const(300))
	g.m.ExportGlobal("counter", g.counter)
	g.m.Memory(1)
	g.m.Table(g.funcs)
	var all []uint32
	for range g.funcs {
		all = append(all, g.m.Func(sig, []a.Type{a.I32, a.I32, a.I32}, g.body(4, 0), g.yield()))
	}
	g.m.Elements(all...)
	g.m.ExportFunc("f", all[len(all)-1])
	return g.m.Bytes()
}

// Whatever a program does, it does the same when it is metered, and is charged for all instructions that it ran.
func TestRandomPrograms(t *testing.T) {
	m := newMachine(t, wazero.NewRuntimeConfig())
	rapid.Check(t, func(rt *rapid.T) {
		g := &generator{T: rt}
		wasm := g.module()
		o := m.same(wasm, uint64(rapid.Uint32().Draw(rt, "argument")))
		if o.err != "" {
			rt.Fatalf("it fails: %s", o.err)
		}
		if uint64(o.fuel) < o.counter {
			rt.Fatalf("it ran %d instructions for %d units", o.counter, o.fuel)
		}
		if limit := 30*o.counter + 20000; uint64(o.fuel) > limit {
			rt.Fatalf("it ran %d instructions for %d units", o.counter, o.fuel)
		}
	})
}
