package meter

// constExpr reads an initialiser. With out it appends it with moved function indices.
func (m *Module) constExpr(r *reader, out *[]byte) {
	for r.err == nil {
		from := r.pos
		op := r.byte()
		switch op {
		case 0x0b:
		case 0x41:
			r.signed(5)
		case 0x42:
			r.signed(10)
		case 0x43:
			r.take(4)
		case 0x44:
			r.take(8)
		case 0x23:
			m.globalIndex(r)
		case 0xd0:
			r.byte()
		case 0xd2:
			i := m.funcIndex(r)
			if out != nil {
				*out = appendU32(append(*out, op), m.moved(i))
				continue
			}
			m.refs = append(m.refs, i)
		case 0xfd:
			if r.u32() != 12 {
				r.fail("initialiser is no constant")
			}
			r.take(16)
		default:
			r.fail("initialiser is no constant (opcode %#x)", op)
		}
		if r.err == nil && out != nil {
			*out = append(*out, r.b[from:r.pos]...)
		}
		if op == 0x0b {
			return
		}
	}
}

// walkElements reads the element section; with out it appends it with moved function indices.
func (m *Module) walkElements(r *reader, out *[]byte) {
	copyFrom := func(from int) {
		if out != nil && r.err == nil {
			*out = append(*out, r.b[from:r.pos]...)
		}
	}
	n := r.count("elements")
	copyFrom(0)
	for range n {
		from := r.pos
		flag := r.u32()
		if flag > 7 {
			r.fail("element segment of kind %d", flag)
			return
		}
		if flag&1 == 0 && flag&2 != 0 { // active, with a table index
			r.u32()
		}
		copyFrom(from)
		if flag&1 == 0 {
			m.constExpr(r, out)
		}
		from = r.pos
		if flag&3 != 0 {
			r.byte() // element kind or reference type
		}
		items := r.count("items")
		copyFrom(from)
		for range items {
			if r.err != nil {
				return
			}
			if flag&4 != 0 {
				m.constExpr(r, out)
				continue
			}
			i := m.funcIndex(r)
			if out != nil {
				*out = appendU32(*out, m.moved(i))
			} else {
				m.refs = append(m.refs, i)
			}
		}
	}
}

// moved is a function's index in the rewritten module.
func (m *Module) moved(i uint32) uint32 {
	if int(i) >= m.imported {
		return i + 1
	}
	return i
}
