package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	a "rivulet/plugins/asm"
	"rivulet/plugins/meter"
)

var errSpent = errors.New("spent")

// machine runs modules whose fuel is given by the test.
type machine struct {
	t       testing.TB
	runtime wazero.Runtime
	refills int
	budget  int64
}

func newMachine(t testing.TB, config wazero.RuntimeConfig) *machine {
	ctx := context.Background()
	m := &machine{t: t, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	t.Cleanup(func() {
		if err := m.runtime.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	refill := func(_ context.Context, mod api.Module, _ []uint64) {
		m.refills++
		fuel := mod.ExportedGlobal(meter.FuelName).(api.MutableGlobal)
		if int64(mod.ExportedGlobal(meter.StackName).Get()) < 0 {
			panic(errors.New("stack"))
		}
		if m.budget <= 0 {
			panic(errSpent)
		}
		fuel.Set(fuel.Get() + uint64(m.budget))
		m.budget = 0
	}
	_, err := m.runtime.NewHostModuleBuilder(meter.RefillModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(meter.RefillName).
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const plenty = 1 << 40

// outcome is what a call of the exported function "f" leaves behind.
type outcome struct {
	results string
	counter uint64 // the exported global "counter", if any
	memory  string
	err     string
	fuel    int64
}

func (m *machine) run(wasm []byte, args ...uint64) outcome {
	ctx := context.Background()
	m.budget = plenty
	mod, err := m.runtime.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		m.t.Fatalf("instantiate: %v", err)
	}
	defer mod.Close(ctx) //nolint:errcheck // nothing is open
	res, err := mod.ExportedFunction("f").Call(ctx, args...)
	o := outcome{results: fmt.Sprint(res)}
	if err != nil {
		o.err, _, _ = strings.Cut(err.Error(), "\n")
	}
	if g := mod.ExportedGlobal("counter"); g != nil {
		o.counter = g.Get()
	}
	if mem := mod.ExportedMemory("memory"); mem != nil {
		b, _ := mem.Read(0, 4096)
		o.memory = string(b)
	}
	if g := mod.ExportedGlobal(meter.FuelName); g != nil && m.budget == 0 {
		o.fuel = plenty - int64(g.Get())
	}
	return o
}

func rewrite(t testing.TB, wasm []byte, stack int) []byte {
	t.Helper()
	m, err := meter.Parse(wasm)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Rewrite(stack)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// same runs a module as it is and rewritten.
func (m *machine) same(wasm []byte, args ...uint64) outcome {
	m.t.Helper()
	plain := m.run(wasm, args...)
	metered := m.run(rewrite(m.t, wasm, 1<<20), args...)
	fuel := metered.fuel
	metered.fuel = 0
	if plain != metered {
		m.t.Fatalf("rewritten, it does something else:\nplain   %.300v\nmetered %.300v", plain, metered)
	}
	plain.fuel = fuel
	return plain
}

func engines(t *testing.T, test func(t *testing.T, m *machine)) {
	t.Run("compiler", func(t *testing.T) { test(t, newMachine(t, wazero.NewRuntimeConfig())) })
	t.Run("interpreter", func(t *testing.T) { test(t, newMachine(t, wazero.NewRuntimeConfigInterpreter())) })
}

// f is a module with a function "f" of one parameter and one result.
func f(build func(m *a.Module) [][]byte, locals ...a.Type) []byte {
	m := a.New()
	code := build(m)
	m.ExportFunc("f", m.Func(a.Sig(a.I32).To(a.I32), locals, code...))
	return m.Bytes()
}

var fibonacci = f(func(m *a.Module) [][]byte {
	self := m.NextFunc()
	return [][]byte{
		a.LocalGet(0), a.I32Const(2), a.I32LtU, a.If, a.LocalGet(0), a.Return, a.End,
		a.LocalGet(0), a.I32Const(1), a.I32Sub, a.Call(self),
		a.LocalGet(0), a.I32Const(2), a.I32Sub, a.Call(self), a.I32Add,
	}
})

var countdown = f(func(*a.Module) [][]byte {
	return [][]byte{
		a.Loop, a.LocalGet(1), a.LocalGet(0), a.I32Add, a.LocalSet(1),
		a.LocalGet(0), a.I32Const(1), a.I32Sub, a.LocalTee(0), a.BrIf(0), a.End, a.LocalGet(1),
	}
}, a.I32)

// Each of these uses something that the rewriter has to move, keep or look at.
func programs() map[string][]byte {
	i32 := a.Sig(a.I32).To(a.I32)
	op := func(b ...byte) []byte { return b }
	return map[string][]byte{
		"recursion": fibonacci,
		"loop":      countdown,
		"table": f(func(m *a.Module) [][]byte {
			m.Table(3)
			one := m.Func(i32, nil, a.LocalGet(0), a.I32Const(10), a.I32Add)
			two := m.Func(i32, nil, a.LocalGet(0), a.I32Const(3), a.I32Mul)
			m.Elements(two, one)
			return [][]byte{
				a.LocalGet(0), a.I32Const(1), a.CallIndirect(m.TypeIndex(i32)), a.I32Const(0), a.CallIndirect(m.TypeIndex(i32)),
			}
		}),
		"references": f(func(m *a.Module) [][]byte {
			m.Table(2)
			one := m.Func(i32, nil, a.LocalGet(0), a.I32Const(10), a.I32Add)
			m.Elements(one)
			return [][]byte{
				a.I32Const(1), a.RefFunc(one), op(0x26, 0), // table.set
				op(0xd0, 0x70), a.I32Const(4), op(0xfc, 15, 0), // ref.null func, table.grow by 4 → 2
				op(0xfc, 16, 0), a.I32Add, a.LocalSet(0), // table.size → 6
				a.I32Const(2), a.I32Const(1), op(0x25, 0), a.I32Const(3), op(0xfc, 17, 0), // table.fill 2..4
				a.I32Const(0), a.I32Const(2), a.I32Const(2), op(0xfc, 14, 0, 0), // table.copy
				a.LocalGet(0), a.I32Const(4), a.CallIndirect(m.TypeIndex(i32)),
			}
		}),
		"bulk": f(func(m *a.Module) [][]byte {
			m.Memory(1)
			m.Data(16, []byte("some data"))
			return [][]byte{
				a.I32Const(100), a.LocalGet(0), a.I32Const(50), a.MemoryFill,
				a.I32Const(200), a.I32Const(16), a.I32Const(9), a.MemoryCopy,
				a.I32Const(2), a.MemoryGrow, a.MemorySize, a.I32Add, a.I32Const(200), a.I32Load8U(0), a.I32Add,
			}
		}),
		"multi-value": f(func(m *a.Module) [][]byte {
			pair := m.NextFunc() // recursive, with two results, so that its wrapping block needs a type
			m.Func(a.Sig(a.I32).To(a.I32, a.I64), nil,
				a.LocalGet(0), a.I32Eqz, a.If, a.I32Const(5), a.I64Const(6), a.Return, a.End,
				a.LocalGet(0), a.I32Const(1), a.I32Sub, a.Call(pair), a.I64Const(1), a.I64Add)
			return [][]byte{a.LocalGet(0), a.Call(pair), op(0xa7), a.I32Add}
		}),
		"br to the function's label": f(func(m *a.Module) [][]byte {
			self := m.NextFunc()
			return [][]byte{
				a.LocalGet(0), a.I32Eqz, a.If, a.I32Const(7), a.Br(1), a.End,
				a.Block, a.Loop, a.LocalGet(0), a.I32Const(3), a.I32Eq, a.If, a.I32Const(1), a.Call(self), a.Br(3), a.End, a.End, a.End,
				a.LocalGet(0), a.I32Const(1), a.I32Sub, a.Call(self), a.I32Const(1), a.I32Add,
			}
		}),
		"simd": f(func(*a.Module) [][]byte {
			return [][]byte{
				a.LocalGet(0), op(0xfd, 17), // i32x4.splat
				op(0xfd, 12, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0),
				op(0xfd, 174, 1), // i32x4.add
				op(0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),       // zero
				op(0xfd, 13, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), // shuffle
				op(0xfd, 27, 2), // extract lane 2
			}
		}),
		"sign extension and saturation": f(func(*a.Module) [][]byte {
			return [][]byte{a.LocalGet(0), op(0xc0), op(0xb7), op(0xfc, 2), op(0xc1)}
		}),
		"start function": f(func(m *a.Module) [][]byte {
			g := m.Global(a.I32, a.I32Const(1))
			m.Start(m.Func(a.Sig(), nil, a.GlobalGet(g), a.I32Const(41), a.I32Add, a.GlobalSet(g)))
			return [][]byte{a.GlobalGet(g), a.LocalGet(0), a.I32Add}
		}),
		"br_table": f(func(*a.Module) [][]byte {
			return [][]byte{
				a.Block, a.Block, a.Block, a.LocalGet(0), op(0x0e, 2, 0, 1, 2), a.End,
				a.I32Const(100), a.Return, a.End, a.I32Const(200), a.Return, a.End, a.I32Const(300),
			}
		}),
		"typed select": f(func(*a.Module) [][]byte {
			return [][]byte{a.I32Const(1), a.I32Const(2), a.LocalGet(0), op(0x1c, 1, 0x7f)}
		}),
		"trap": f(func(*a.Module) [][]byte { return [][]byte{a.Unreachable} }),
	}
}

func TestSameOutcome(t *testing.T) {
	engines(t, func(t *testing.T, m *machine) {
		for name, wasm := range programs() {
			t.Run(name, func(t *testing.T) {
				m.t = t
				for arg := range uint64(6) {
					if o := m.same(wasm, arg+1); o.fuel == 0 {
						t.Error("no fuel was used")
					}
				}
			})
		}
	})
}

func TestFuelEndsALoop(t *testing.T) {
	engines(t, func(t *testing.T, m *machine) {
		wasm := rewrite(t, countdown, 1<<20)
		o := m.run(wasm, 1000)
		if o.fuel < 9*1000 || o.fuel > 11*1000 {
			t.Errorf("a loop of 1000 turns and 9 instructions took %d units", o.fuel)
		}
		ctx := context.Background()
		mod, err := m.runtime.Instantiate(ctx, wasm)
		if err != nil {
			t.Fatal(err)
		}
		m.budget = o.fuel - 100
		if _, err := mod.ExportedFunction("f").Call(ctx, 1000); !errors.Is(err, errSpent) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStackEndsRecursion(t *testing.T) {
	m := newMachine(t, wazero.NewRuntimeConfig())
	m.budget = plenty
	ctx := context.Background()
	mod, err := m.runtime.Instantiate(ctx, rewrite(t, fibonacci, 4096))
	if err != nil {
		t.Fatal(err)
	}
	call := func(n uint64) error {
		_, err := mod.ExportedFunction("f").Call(ctx, n)
		return err
	}
	if err := call(15); err != nil {
		t.Error(err)
	}
	if left := mod.ExportedGlobal(meter.StackName).Get(); left != 4096 {
		t.Errorf("%d of 4096 bytes are left after the return", left)
	}
	if err := call(1 << 20); err == nil || !strings.HasPrefix(err.Error(), "stack") {
		t.Errorf("got %v", err)
	}
}

func TestBulkIsChargedByLength(t *testing.T) {
	m := newMachine(t, wazero.NewRuntimeConfig())
	fill := f(func(m *a.Module) [][]byte {
		m.Memory(2)
		return [][]byte{a.I32Const(0), a.I32Const(1), a.LocalGet(0), a.MemoryFill, a.I32Const(0)}
	})
	small, large := m.same(fill, 0), m.same(fill, 80_000)
	if d := large.fuel - small.fuel; d != 10_000 {
		t.Errorf("80000 bytes cost %d units more than none", d)
	}
}

func TestNames(t *testing.T) {
	m := a.New()
	host := m.Import("env", "host", a.Sig())
	fn := m.Func(a.Sig(), nil, a.Call(host), a.Unreachable)
	m.ExportFunc("f", fn)
	m.Custom("name", []byte{
		0, 4, 3, 'm', 'o', 'd',
		1, 11, 2, 0, 3, 'i', 'm', 'p', 1, 3, 'f', 'u', 'n',
		2, 2, 9, 9, // locals, dropped
	})
	m.Custom("producers", []byte("x"))
	ctx := context.Background()
	mc := newMachine(t, wazero.NewRuntimeConfig())
	mc.budget = plenty
	if _, err := mc.runtime.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() {}).Export("host").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	mod, err := mc.runtime.Instantiate(ctx, rewrite(t, m.Bytes(), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, err = mod.ExportedFunction("f").Call(ctx)
	if err == nil || !strings.Contains(err.Error(), "mod.fun()") {
		t.Errorf("the trace does not name the function: %v", err)
	}
}

func TestRefused(t *testing.T) {
	export := func(name string) []byte {
		m := a.New()
		m.ExportGlobal(name, m.Global(a.I64, a.I64Const(0)))
		return m.Bytes()
	}
	reserved := a.New()
	reserved.Import(meter.RefillModule, meter.RefillName, a.Sig())
	big := a.New()
	big.Table(1 << 20)
	global := a.New()
	global.Func(a.Sig(), nil, a.I64Const(1<<40), a.GlobalSet(0)) // the rewriter's counter would be global 0
	code := func(c ...byte) []byte {
		m := a.New()
		m.Func(a.Sig(), nil, c)
		return m.Bytes()
	}
	wide := a.New()
	wide.Func(a.Sig(), bytes.Repeat([]a.Type{a.I32}, 10_001))
	deep := a.New()
	deep.Func(a.Sig(), nil, bytes.Repeat(a.Join(a.Block, a.End), 20_001))
	long := a.New()
	long.Func(a.Sig(), nil, bytes.Repeat(a.Nop, 1<<20))
	for name, tt := range map[string]struct {
		wasm []byte
		want string
	}{
		"many locals":      {wide.Bytes(), "more than 10000 locals"},
		"many blocks":      {deep.Bytes(), "20002 blocks"},
		"long function":    {long.Bytes(), "function of 1048578 bytes"},
		"empty":            {nil, "does not begin"},
		"text":             {[]byte("(module (func))"), "does not begin"},
		"component":        {[]byte("\x00asm\x0d\x00\x01\x00"), "component"},
		"cut":              {countdown[:len(countdown)-3], "unexpected end"},
		"fuel exported":    {export(meter.FuelName), "reserved"},
		"stack exported":   {export(meter.StackName), "reserved"},
		"refill imported":  {reserved.Bytes(), "reserved"},
		"huge table":       {big.Bytes(), "table of 1048576"},
		"unknown global":   {global.Bytes(), "unknown global 0"},
		"unknown local":    {code(0x20, 0, 0x1a), "unknown local 0"},
		"unknown function": {code(0x10, 1), "unknown function 1"},
		"unknown type":     {code(0x02, 1, 0x0b), "unknown type 1"},
		"tail call":        {code(0x12, 0), "tail calls"},
		"atomics":          {code(0xfe, 0x03, 0), "atomics"},
		"exceptions":       {code(0x06, 0x40, 0x0b), "exceptions"},
		"relaxed simd":     {code(0xfd, 0x80, 2), "relaxed SIMD"},
		"no end":           {code(0x02, 0x40), "without its end"},
		"else alone":       {code(0x05), "else"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := meter.Parse(tt.wasm)
			if err == nil {
				_, err = m.Rewrite(1 << 20)
			}
			if !errors.Is(err, meter.ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
