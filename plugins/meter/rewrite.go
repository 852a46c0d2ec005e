package meter

import "slices"

// Names that the rewritten module imports and exports. A guest may not use them.
const (
	RefillModule = "rivulet_meter"
	RefillName   = "refill"
	FuelName     = "__rivulet_fuel"
	StackName    = "__rivulet_stack"
)

// Rewrite returns the module with metering. stack is what its recursion may use, in bytes. The counters start at zero
// fuel, so that the first function that runs calls for more.
func (m *Module) Rewrite(stack int) ([]byte, error) {
	functions, err := m.scan()
	if err != nil {
		return nil, err
	}
	types := newTypes(m.types)
	w := &writer{
		m:       m,
		refill:  uint32(m.imported),
		fuel:    uint32(m.globals),
		stack:   uint32(m.globals) + 1,
		results: types.block,
	}
	for _, im := range m.Imports {
		if im.Kind == Func {
			fee := int64(costHostCall)
			if hostLoops[im.Name] {
				fee = costHostLoop
			}
			w.hostFee = append(w.hostFee, fee)
		}
	}
	refillType := types.index(FuncType{})
	code := appendU32(nil, uint32(len(functions)))
	for i := range functions {
		if code, err = w.function(code, &functions[i]); err != nil {
			return nil, err
		}
	}

	out := make([]byte, 0, len(code)+len(code)/8+64<<10)
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	section := func(id byte, body []byte) {
		out = append(out, id)
		out = appendU32(out, uint32(len(body)))
		out = append(out, body...)
	}
	asIs := func(id byte) {
		if m.present[id] {
			section(id, m.sections[id])
		}
	}
	section(secType, types.section())
	section(secImport, m.newImports(refillType))
	asIs(secFunction)
	if m.present[secTable] {
		section(secTable, m.newTables())
	}
	asIs(secMemory)
	globals := m.longer(secGlobal, 2)
	globals = append(globals, I64, 1, opI64Const, 0, opEnd, I64, 1, opI64Const)
	globals = append(appendS64(globals, int64(stack)), opEnd)
	section(secGlobal, globals)
	section(secExport, m.newExports(w))
	if m.start >= 0 {
		section(secStart, appendU32(nil, m.moved(uint32(m.start))))
	}
	if m.present[secElement] {
		var el []byte
		m.walkElements(&reader{b: m.sections[secElement]}, &el)
		section(secElement, el)
	}
	asIs(secDataCount)
	if m.present[secCode] {
		section(secCode, code)
	}
	asIs(secData)
	if names := m.newNames(); names != nil {
		section(0, names)
	}
	return out, nil
}

// longer is a section that is a vector, with its count raised by n.
func (m *Module) longer(id byte, n uint32) []byte {
	if !m.present[id] {
		return appendU32(nil, n)
	}
	r := &reader{b: m.sections[id]}
	count := r.u32()
	return append(appendU32(nil, count+n), r.b[r.pos:]...)
}

func (m *Module) newImports(refillType uint32) []byte {
	b := m.longer(secImport, 1)
	b = appendName(b, RefillModule)
	b = appendName(b, RefillName)
	b = append(b, byte(Func))
	return appendU32(b, refillType)
}

func (m *Module) newTables() []byte {
	r := &reader{b: m.sections[secTable]}
	n := r.u32()
	b := appendU32(nil, n)
	for range n {
		elem, lo, hi := tableType(r)
		b = append(b, elem, 1)
		b = appendU32(appendU32(b, lo), hi)
	}
	return b
}

func (m *Module) newExports(w *writer) []byte {
	b := appendU32(nil, uint32(len(m.Exports)+2))
	for _, e := range m.Exports {
		b = append(appendName(b, e.Name), byte(e.Kind))
		if e.Kind == Func {
			b = appendU32(b, m.moved(e.Index))
		} else {
			b = appendU32(b, e.Index)
		}
	}
	b = append(appendName(b, FuelName), byte(Global))
	b = appendU32(b, w.fuel)
	b = append(appendName(b, StackName), byte(Global))
	return appendU32(b, w.stack)
}

// newNames is the custom section of names with the functions moved, nil when there is none that can be read.
func (m *Module) newNames() []byte {
	b := appendName(nil, "name")
	empty := len(b)
	r := &reader{b: m.names}
	for r.more() {
		id := r.byte()
		body := r.take(r.u32())
		if r.err != nil {
			return nil
		}
		switch id {
		case 0: // the module's name
			s := &reader{b: body}
			if s.name(); s.err != nil || s.more() {
				continue
			}
		case 1: // functions
			if body = m.movedNames(body); body == nil {
				continue
			}
		default:
			continue
		}
		b = append(b, id)
		b = appendU32(b, uint32(len(body)))
		b = append(b, body...)
	}
	if len(b) == empty {
		return nil
	}
	return b
}

func (m *Module) movedNames(body []byte) []byte {
	r := &reader{b: body}
	n := r.count("names")
	b := appendU32(nil, uint32(n))
	last := int64(-1)
	for range n {
		i := r.u32()
		name := r.take(r.u32())
		if r.err != nil || int64(i) <= last || int(i) >= len(m.funcs) {
			return nil
		}
		last = int64(i)
		b = appendU32(b, m.moved(i))
		b = appendU32(b, uint32(len(name)))
		b = append(b, name...)
	}
	if r.more() {
		return nil
	}
	return b
}

// types is the type section with what the rewriter adds.
type types struct{ all []FuncType }

func newTypes(ts []FuncType) *types { return &types{all: slices.Clip(ts)} }

func (t *types) index(f FuncType) uint32 {
	for i, have := range t.all {
		if have.equal(f) {
			return uint32(i)
		}
	}
	t.all = append(t.all, f)
	return uint32(len(t.all) - 1)
}

// block is the block type that takes nothing and yields the results of f.
func (t *types) block(f FuncType) int64 {
	switch len(f.Results) {
	case 0:
		return emptyBlock - 128 // -64, which is written as 0x40
	case 1:
		return int64(f.Results[0]) - 128
	}
	return int64(t.index(FuncType{Results: f.Results}))
}

func (t *types) section() []byte {
	b := appendU32(nil, uint32(len(t.all)))
	for _, f := range t.all {
		b = append(b, 0x60)
		b = append(appendU32(b, uint32(len(f.Params))), f.Params...)
		b = append(appendU32(b, uint32(len(f.Results))), f.Results...)
	}
	return b
}
