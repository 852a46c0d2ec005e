package meter

import (
	"bytes"
	"slices"
)

// Limits of what is read. They bound memory before anything is known about a module.
const (
	maxName    = 1024
	maxParams  = 128
	maxResults = 64
	maxTables  = 16

	// Of one function. The compiler's time grows with the square of the blocks and its memory with blocks times locals: at
	// these limits it takes tens of seconds and some hundred megabytes. Go's largest functions have 800 blocks.
	maxBody        = 1 << 20
	maxLocals      = 10_000
	maxBlocks      = 20_000
	maxBlockLocals = 2_000_000

	// MaxTable is the most elements a table may have; larger maxima are cut to it.
	MaxTable = 65536
)

// ExternKind says what an import or export is.
type ExternKind byte

// The kinds of WebAssembly's core.
const (
	Func ExternKind = iota
	Table
	Memory
	Global
)

// ValType is a value's type in the binary format.
type ValType = byte

// The value types of core 2.0.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

// FuncType is a function's signature.
type FuncType struct{ Params, Results []ValType }

func (t FuncType) equal(o FuncType) bool {
	return bytes.Equal(t.Params, o.Params) && bytes.Equal(t.Results, o.Results)
}

// Import is one import of the module. Type is set for functions.
type Import struct {
	Module, Name string
	Kind         ExternKind
	Type         FuncType
}

// Export is one export of the module. Type is set for functions.
type Export struct {
	Name  string
	Kind  ExternKind
	Index uint32
	Type  FuncType
}

// Module is a parsed binary. It aliases the bytes it was parsed from.
type Module struct {
	Imports []Import
	Exports []Export
	// Memories is the number of memories that the module defines; MemoryMin pages of 64 KiB is what the first starts with.
	Memories  int
	MemoryMin uint32

	types    []FuncType
	funcs    []uint32 // type index of all functions, imported ones first
	imported int      // of funcs
	globals  int      // defined or imported
	tables   int
	start    int64    // function index, -1: none
	refs     []uint32 // functions that a reference may point to
	bodies   [][]byte // code of defined functions with their locals
	sections [13][]byte
	present  [13]bool
	names    []byte // body of the name section
}

const (
	secType = iota + 1
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is the place of a section among the others: the data count stands before the code.
var order = [13]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// Parse reads a module. Errors wrap ErrMalformed.
func Parse(wasm []byte) (*Module, error) {
	m := &Module{start: -1}
	if len(wasm) < 8 || string(wasm[:4]) != "\x00asm" {
		return nil, malformed("it does not begin as a WebAssembly binary does")
	}
	if !bytes.Equal(wasm[4:8], []byte{1, 0, 0, 0}) {
		return nil, malformed("it is not a core module of version 1 (a component, perhaps)")
	}
	r := &reader{b: wasm, pos: 8}
	last := 0
	for r.more() {
		id := r.byte()
		body := r.take(r.u32())
		if r.err != nil {
			break
		}
		if id == 0 {
			s := &reader{b: body}
			if s.name() == "name" && s.err == nil {
				m.names = body[s.pos:]
			}
			if s.err != nil {
				return nil, s.err
			}
			continue
		}
		if id > secDataCount {
			r.fail("section %d is unknown", id)
			break
		}
		if order[id] <= last {
			r.fail("section %d is out of order", id)
			break
		}
		last = order[id]
		m.sections[id], m.present[id] = body, true
		if err := m.section(id, body); err != nil {
			return nil, err
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if defined := len(m.funcs) - m.imported; defined != len(m.bodies) {
		return nil, malformed("function and code sections differ in length")
	}
	for i := range m.Exports {
		e := &m.Exports[i]
		if e.Kind == Func {
			e.Type = m.types[m.funcs[e.Index]]
		}
	}
	return m, nil
}

func (m *Module) section(id byte, body []byte) error {
	r := &reader{b: body}
	switch id {
	case secType:
		m.readTypes(r)
	case secImport:
		m.readImports(r)
	case secFunction:
		for range r.count("functions") {
			m.addFunc(r)
		}
	case secTable:
		for range r.count("tables") {
			m.tables++
			tableType(r)
		}
		if m.tables > maxTables {
			r.fail("%d tables", m.tables)
		}
	case secMemory:
		for range r.count("memories") {
			flag := r.byte()
			if flag > 1 {
				r.fail("memory is shared or 64-bit")
			}
			lo := r.u32()
			if flag == 1 {
				r.u32()
			}
			if m.Memories == 0 {
				m.MemoryMin = lo
			}
			m.Memories++
		}
	case secGlobal:
		for range r.count("globals") {
			valType(r)
			if r.byte() > 1 {
				r.fail("mutability of a global")
			}
			m.constExpr(r, nil)
			m.globals++
		}
	case secExport:
		m.readExports(r)
	case secStart:
		m.start = int64(m.funcIndex(r))
	case secElement:
		m.walkElements(r, nil)
	case secCode:
		for range r.count("bodies") {
			m.bodies = append(m.bodies, r.take(r.u32()))
		}
	case secData, secDataCount: // taken over as they are
		return nil
	}
	if r.err == nil && r.pos != len(r.b) {
		r.fail("section %d has bytes behind its end", id)
	}
	return r.err
}

func (m *Module) readTypes(r *reader) {
	for range r.count("types") {
		if r.byte() != 0x60 {
			r.fail("type that is no function's")
		}
		var t FuncType
		t.Params = valTypes(r, maxParams)
		t.Results = valTypes(r, maxResults)
		m.types = append(m.types, t)
	}
}

func (m *Module) readImports(r *reader) {
	for range r.count("imports") {
		im := Import{Module: r.name(), Name: r.name(), Kind: ExternKind(r.byte())}
		switch im.Kind {
		case Func:
			m.addFunc(r)
			m.imported++
			if r.err == nil {
				im.Type = m.types[m.funcs[len(m.funcs)-1]]
			}
		case Global:
			valType(r)
			r.byte()
			m.globals++
		case Table, Memory: // no host module has one, so the rest of the section need not be understood
			r.fail("it imports %s %s.%s", [...]string{Table: "table", Memory: "memory"}[im.Kind], im.Module, im.Name)
		default:
			r.fail("import of kind %d", im.Kind)
		}
		if im.Module == RefillModule {
			r.fail("it imports the reserved module %s", RefillModule)
		}
		m.Imports = append(m.Imports, im)
	}
}

func (m *Module) addFunc(r *reader) {
	t := r.u32()
	if r.err == nil && uint64(t) >= uint64(len(m.types)) {
		r.fail("function of unknown type %d", t)
	}
	m.funcs = append(m.funcs, t)
}

func (m *Module) readExports(r *reader) {
	for range r.count("exports") {
		e := Export{Name: r.name(), Kind: ExternKind(r.byte())}
		if e.Name == FuelName || e.Name == StackName {
			r.fail("it exports the reserved name %s", e.Name)
		}
		switch e.Kind {
		case Func:
			e.Index = m.funcIndex(r)
			m.refs = append(m.refs, e.Index)
		case Global:
			if e.Index = r.u32(); uint64(e.Index) >= uint64(m.globals) {
				r.fail("export of unknown global %d", e.Index)
			}
		case Table, Memory:
			e.Index = r.u32()
		default:
			r.fail("export of kind %d", e.Kind)
		}
		m.Exports = append(m.Exports, e)
	}
}

func (m *Module) funcIndex(r *reader) uint32 {
	i := r.u32()
	if r.err == nil && uint64(i) >= uint64(len(m.funcs)) {
		r.fail("unknown function %d", i)
	}
	return i
}

func (m *Module) globalIndex(r *reader) uint32 {
	i := r.u32()
	if r.err == nil && uint64(i) >= uint64(m.globals) {
		r.fail("unknown global %d", i)
	}
	return i
}

func valType(r *reader) ValType {
	t := r.byte()
	if !slices.Contains([]byte{I32, I64, F32, F64, V128, FuncRef, ExternRef}, t) {
		r.fail("value type %#x is not of core 2.0", t)
	}
	return t
}

func valTypes(r *reader, most int) []ValType {
	n := r.count("value types")
	if n > most {
		r.fail("function type with %d parameters or results", n)
		return nil
	}
	ts := make([]ValType, 0, n)
	for range n {
		ts = append(ts, valType(r))
	}
	return ts
}

// tableType reads a table's type and returns it with the maximum cut to MaxTable.
func tableType(r *reader) (elem byte, lo, hi uint32) {
	if elem = r.byte(); elem != FuncRef && elem != ExternRef {
		r.fail("table of type %#x", elem)
	}
	flag := r.byte()
	if flag > 1 {
		r.fail("table is shared or 64-bit")
	}
	lo, hi = r.u32(), MaxTable
	if flag == 1 {
		hi = min(r.u32(), MaxTable)
	}
	if lo > MaxTable {
		r.fail("table of %d elements, at most %d are allowed", lo, MaxTable)
	}
	return elem, lo, max(lo, hi)
}
