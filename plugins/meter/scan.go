package meter

// function is what the first pass learns of a defined function.
type function struct {
	typ       FuncType
	decl      []byte // declarations of locals without their count
	groups    uint32 // of declarations
	locals    uint32 // parameters included
	code      []byte
	calls     []uint32 // defined functions
	indirect  bool     // it calls through a table
	bulk      bool     // it has instructions that are charged by an operand
	recursive bool     // it may be on the stack twice
	frame     int64    // estimate of its native frame in bytes
	ends      []int32  // of all blocks and arms in the order they open, the function first: instructions up to their end
}

// Cost of a call in units of fuel, besides what the callee charges. Host functions are dearer since they do more than
// one instruction can; some of WASI's loop over lists that the guest makes.
const (
	costInstr    = 1
	costHostCall = 50
	costHostLoop = 2000
)

// hostLoops are the host functions whose work the guest decides without the host charging it by length.
var hostLoops = map[string]bool{"poll_oneoff": true, "fd_write": true, "fd_pwrite": true, "fd_read": true, "fd_pread": true, "args_get": true, "environ_get": true}

// scan reads all bodies.
func (m *Module) scan() ([]function, error) {
	fs := make([]function, len(m.bodies))
	for i, b := range m.bodies {
		if err := m.scanBody(&fs[i], m.types[m.funcs[m.imported+i]], b); err != nil {
			return nil, err
		}
	}
	m.markRecursive(fs)
	return fs, nil
}

func (m *Module) scanBody(f *function, t FuncType, body []byte) error {
	r := &reader{b: body}
	if len(body) > maxBody {
		return malformed("function of %d bytes, at most %d are allowed", len(body), maxBody)
	}
	f.typ = t
	f.locals = uint32(len(t.Params))
	f.groups = r.u32()
	from := r.pos
	for range f.groups {
		if r.err != nil {
			return r.err
		}
		n := r.u32()
		valType(r)
		if uint64(f.locals)+uint64(n) > maxLocals {
			r.fail("function with more than %d locals", maxLocals)
			return r.err
		}
		f.locals += n
	}
	if r.err != nil {
		return r.err
	}
	f.decl, f.code = body[from:r.pos], body[r.pos:]
	n := int32(0)
	f.ends = append(f.ends, 0)
	open := []int{0} // of f.ends
	for r.more() {
		in := m.next(r, f.locals)
		n++
		switch in.op {
		case opBlock, opLoop, opIf:
			open = append(open, len(f.ends))
			f.ends = append(f.ends, 0)
		case opElse:
			if len(open) == 1 {
				r.fail("else without if")
				break
			}
			f.ends[open[len(open)-1]] = n
			open[len(open)-1] = len(f.ends)
			f.ends = append(f.ends, 0)
		case opEnd:
			f.ends[open[len(open)-1]] = n
			open = open[:len(open)-1]
			if len(open) == 0 && r.more() {
				r.fail("instructions behind a function's end")
			}
		case opCall:
			if int(in.arg) >= m.imported {
				f.calls = append(f.calls, in.arg-uint32(m.imported))
			}
		case opCallIndirect:
			f.indirect = true
		case opRefFunc:
			m.refs = append(m.refs, in.arg)
		case opMemoryGrow:
			f.bulk = true
		case opMisc:
			f.bulk = f.bulk || chargedByLength(in.sub)
		}
	}
	if r.err == nil && len(open) > 0 {
		r.fail("function without its end")
	}
	if blocks := len(f.ends); blocks > maxBlocks || blocks*int(f.locals) > maxBlockLocals {
		r.fail("function of %d blocks and %d locals is too large to compile", blocks, f.locals)
	}
	// Values that live across calls are spilled; a quarter of the instructions, at most 2 KiB, stands for them.
	f.frame = 64 + 8*int64(f.locals) + min(int64(n)*2, 2048)
	return r.err
}

func chargedByLength(sub uint32) bool {
	switch sub {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return true
	}
	return false
}

// markRecursive finds the functions on a cycle of calls, by Tarjan's algorithm without recursion. One node more than
// there are functions stands for a table: whoever calls through it may reach all functions to which a reference exists.
func (m *Module) markRecursive(fs []function) {
	table := len(fs)
	targets := make([]uint32, 0, len(m.refs))
	for _, i := range m.refs {
		if int(i) >= m.imported {
			targets = append(targets, i-uint32(m.imported))
		}
	}
	edges := func(v int) ([]uint32, bool) {
		if v == table {
			return targets, false
		}
		return fs[v].calls, fs[v].indirect
	}
	type frame struct{ v, next int }
	index := make([]int32, table+1) // 0: not visited
	low := make([]int32, table+1)
	onStack := make([]bool, table+1)
	var stack []int
	var work []frame
	count := int32(0)
	enter := func(v int) {
		count++
		index[v], low[v] = count, count
		onStack[v] = true
		stack = append(stack, v)
		work = append(work, frame{v: v})
	}
	for root := range table {
		if index[root] != 0 {
			continue
		}
		enter(root)
		for len(work) > 0 {
			w := &work[len(work)-1]
			v := w.v
			out, indirect := edges(v)
			n := len(out)
			if indirect {
				n++
			}
			if w.next < n {
				to := table
				if w.next < len(out) {
					to = int(out[w.next])
				}
				w.next++
				switch {
				case index[to] == 0:
					enter(to)
				case onStack[to]:
					low[v] = min(low[v], index[to])
				}
				if to == v {
					fs[v].recursive = true
				}
				continue
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				parent := work[len(work)-1].v
				low[parent] = min(low[parent], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			single := stack[len(stack)-1] == v
			for {
				t := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				onStack[t] = false
				if !single && t != table {
					fs[t].recursive = true
				}
				if t == v {
					break
				}
			}
		}
	}
}
