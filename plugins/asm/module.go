package asm

// Type is a value type.
type Type = byte

// The value types.
const (
	I32  Type = 0x7f
	I64  Type = 0x7e
	F32  Type = 0x7d
	F64  Type = 0x7c
	V128 Type = 0x7b
)

// Signature is a function's type.
type Signature struct{ Params, Results []Type }

// Sig is a signature with these parameters and no result.
func Sig(params ...Type) Signature { return Signature{Params: params} }

// To returns s with results.
func (s Signature) To(results ...Type) Signature { s.Results = results; return s }

// Module is a module in the making.
type Module struct {
	types   []Signature
	imports [][]byte
	funcs   []uint32
	tables  [][]byte
	memory  []byte
	globals [][]byte
	exports [][]byte
	start   []byte
	elems   [][]byte
	bodies  [][]byte
	data    [][]byte
	customs [][]byte
}

// New returns an empty module.
func New() *Module { return &Module{} }

// TypeIndex returns the index of a signature, for CallIndirect.
func (m *Module) TypeIndex(s Signature) uint32 {
	for i, t := range m.types {
		if string(t.Params) == string(s.Params) && string(t.Results) == string(s.Results) {
			return uint32(i)
		}
	}
	m.types = append(m.types, s)
	return uint32(len(m.types) - 1)
}

// Import adds an imported function and returns its index.
func (m *Module) Import(module, name string, s Signature) uint32 {
	b := append(str(module), str(name)...)
	b = append(b, 0)
	m.imports = append(m.imports, append(b, uleb(uint64(m.TypeIndex(s)))...))
	return uint32(len(m.imports) - 1)
}

// Func adds a function and returns its index. locals are those beyond the parameters; the final End is added.
func (m *Module) Func(s Signature, locals []Type, code ...[]byte) uint32 {
	m.funcs = append(m.funcs, m.TypeIndex(s))
	b := uleb(uint64(len(locals)))
	for _, t := range locals {
		b = append(b, 1, t)
	}
	m.bodies = append(m.bodies, append(append(b, Join(code...)...), End...))
	return uint32(len(m.imports) + len(m.funcs) - 1)
}

// NextFunc is the index that the next call of Func will return, for functions that call themselves.
func (m *Module) NextFunc() uint32 { return uint32(len(m.imports) + len(m.funcs)) }

// Memory gives the module its memory, exported as "memory", of that many pages of 64 KiB.
func (m *Module) Memory(pages uint32) {
	m.memory = append([]byte{0}, uleb(uint64(pages))...)
	m.export("memory", 2, 0)
}

// Table adds a table of functions and returns its index.
func (m *Module) Table(size uint32) uint32 {
	m.tables = append(m.tables, append([]byte{0x70, 0}, uleb(uint64(size))...))
	return uint32(len(m.tables) - 1)
}

// Elements puts functions into table 0 from index 0 on.
func (m *Module) Elements(funcs ...uint32) {
	b := append([]byte{0}, Join(I32Const(0), End)...)
	b = append(b, uleb(uint64(len(funcs)))...)
	for _, f := range funcs {
		b = append(b, uleb(uint64(f))...)
	}
	m.elems = append(m.elems, b)
}

// Global adds a mutable global that begins with the value of init, an instruction.
func (m *Module) Global(t Type, init []byte) uint32 {
	m.globals = append(m.globals, Join([]byte{t, 1}, init, End))
	return uint32(len(m.globals) - 1)
}

// Data puts bytes into memory at an address.
func (m *Module) Data(at int32, b []byte) {
	m.data = append(m.data, Join([]byte{0}, I32Const(at), End, uleb(uint64(len(b))), b))
}

// ExportFunc exports a function.
func (m *Module) ExportFunc(name string, f uint32) { m.export(name, 0, f) }

// ExportGlobal exports a global.
func (m *Module) ExportGlobal(name string, g uint32) { m.export(name, 3, g) }

func (m *Module) export(name string, kind byte, i uint32) {
	m.exports = append(m.exports, append(append(str(name), kind), uleb(uint64(i))...))
}

// Start makes f the module's start function.
func (m *Module) Start(f uint32) { m.start = uleb(uint64(f)) }

// Custom adds a custom section.
func (m *Module) Custom(name string, body []byte) {
	m.customs = append(m.customs, append(str(name), body...))
}

// Bytes is the module in the binary format.
func (m *Module) Bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) {
		out = append(out, id)
		out = append(out, uleb(uint64(len(body)))...)
		out = append(out, body...)
	}
	vector := func(id byte, items [][]byte) {
		if len(items) > 0 {
			section(id, append(uleb(uint64(len(items))), Join(items...)...))
		}
	}
	var types, funcs, bodies [][]byte
	for _, s := range m.types {
		types = append(types, Join([]byte{0x60}, uleb(uint64(len(s.Params))), s.Params, uleb(uint64(len(s.Results))), s.Results))
	}
	for i, t := range m.funcs {
		funcs = append(funcs, uleb(uint64(t)))
		bodies = append(bodies, append(uleb(uint64(len(m.bodies[i]))), m.bodies[i]...))
	}
	vector(1, types)
	vector(2, m.imports)
	vector(3, funcs)
	vector(4, m.tables)
	if m.memory != nil {
		vector(5, [][]byte{m.memory})
	}
	vector(6, m.globals)
	vector(7, m.exports)
	if m.start != nil {
		section(8, m.start)
	}
	vector(9, m.elems)
	vector(10, bodies)
	vector(11, m.data)
	for _, c := range m.customs {
		section(0, c)
	}
	return out
}

func str(s string) []byte { return append(uleb(uint64(len(s))), s...) }

func uleb(v uint64) []byte {
	var b []byte
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func sleb(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
