package meter

import "encoding/binary"

// splitAt is the number of instructions, before or behind, for which a stretch of code is divided behind branches and
// where they join. Guests whose compiler makes one loop around a function (Go's does) would else pay for all of it at each
// turn, 5 to 20 times too much. A charge takes less than a nanosecond; finer parts were not measurably slower, coarser
// ones not faster.
const splitAt = 16

// region is a stretch of code that is charged at once.
type region struct {
	patch int // of the cost in the output
	cost  int64
}

// pending is the region of code that is reached by a branch past the charge before it: the next instruction begins one.
const pending = -1

type block struct {
	op     byte
	region int   // where it was opened
	end    int32 // instructions up to its end, or to that of its arm
}

// writer rewrites one function after the other; it reuses its memory.
type writer struct {
	m       *Module
	refill  uint32 // function index
	fuel    uint32 // global index
	stack   uint32 // global index
	hostFee []int64
	results func(FuncType) int64 // block type that yields a function's results

	out     []byte
	blocks  []block
	regions []region
	current int
	n       int32 // instructions so far
	ends    []int32
}

// function appends the body of f to dst, with its length.
func (w *writer) function(dst []byte, f *function) ([]byte, error) {
	w.out, w.blocks, w.regions = w.out[:0], w.blocks[:0], w.regions[:0]
	if f.bulk { // a scratch local for lengths
		w.out = appendU32(w.out, f.groups+1)
		w.out = append(w.out, f.decl...)
		w.out = append(w.out, 1, I32)
	} else {
		w.out = appendU32(w.out, f.groups)
		w.out = append(w.out, f.decl...)
	}
	if f.recursive {
		// All ways out lead through the end of a block around the body, where the frame is given back: a branch to the
		// function's own label has the same number as one to that block.
		w.out = append(w.out, opBlock)
		w.out = appendS64(w.out, w.results(f.typ))
		w.adjust(w.stack, opI64Sub, f.frame)
	}
	w.n, w.ends = 0, f.ends[1:]
	w.begin()
	w.check(f.recursive)
	r := &reader{b: f.code}
	from := 0
	for r.more() {
		at := r.pos
		in := w.m.next(r, f.locals)
		if r.err != nil {
			break
		}
		w.n++
		flush := func() { w.out = append(w.out, f.code[from:at]...); from = at }
		skip := func() { from = r.pos }
		if w.current == pending && in.op != opEnd && in.op != opElse {
			flush()
			w.begin()
		}
		switch in.op {
		case opBlock:
			w.open(in.op)
		case opIf:
			w.open(in.op)
			w.charge(costInstr)
			w.split(f)
		case opLoop:
			w.open(in.op)
			at = r.pos
			flush()
			w.begin()
			w.check(false)
		case opBr, opBr + 1, opBrTable:
			w.charge(costInstr)
			w.split(f)
		case opElse:
			b := &w.blocks[len(w.blocks)-1]
			b.end = w.nextEnd()
			w.join(b.region, f)
		case opEnd:
			if len(w.blocks) == 0 {
				if f.recursive {
					flush()
					skip()
					w.out = append(w.out, opEnd)
					w.adjust(w.stack, opI64Add, f.frame)
					w.out = append(w.out, opEnd)
				}
				break
			}
			b := w.blocks[len(w.blocks)-1]
			w.blocks = w.blocks[:len(w.blocks)-1]
			if b.op == opLoop { // what follows is reached from inside the loop only, once for each time it is entered
				w.current = b.region
			} else {
				w.join(b.region, f)
			}
		case opReturn:
			if f.recursive {
				flush()
				skip()
				w.out = append(w.out, opBr)
				w.out = appendU32(w.out, uint32(len(w.blocks)))
			}
		case opCall, opRefFunc:
			if int(in.arg) < w.m.imported {
				if in.op == opCall {
					w.charge(w.hostFee[in.arg])
				}
				break
			}
			flush()
			skip()
			w.out = append(w.out, in.op)
			w.out = appendU32(w.out, in.arg+1)
		case opMemoryGrow:
			flush()
			// Cheap, since a memory can only grow so far; what it cannot have fails at once and costs what the low bits say.
			w.byLength(f.locals, 0x3ff, 6)
		case opMisc:
			if chargedByLength(in.sub) {
				flush()
				if in.sub <= miscMemoryFill {
					w.byLength(f.locals, -1, -3) // eight bytes a unit
				} else {
					w.byLength(f.locals, -1, 1)
				}
			}
		}
		switch in.op {
		case opEnd, opElse, opIf, opBr, opBr + 1, opBrTable:
		default:
			w.charge(costInstr)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	w.out = append(w.out, f.code[from:]...)
	for _, g := range w.regions {
		putPadded(w.out[g.patch:], g.cost)
	}
	dst = appendU32(dst, uint32(len(w.out)))
	return append(dst, w.out...), nil
}

func (w *writer) charge(units int64) {
	if w.current != pending {
		w.regions[w.current].cost += units
	}
}

// join is called where code can be reached by a branch out of a block that was opened in the region was.
func (w *writer) join(was int, f *function) {
	if w.current != was {
		w.current = pending
	}
	w.split(f)
}

// split ends a region that is or would become large. It may end anywhere; only where the next begins matters, see join.
func (w *writer) split(f *function) {
	end := f.ends[0]
	if len(w.blocks) > 0 {
		end = w.blocks[len(w.blocks)-1].end
	}
	if w.current != pending && (w.regions[w.current].cost >= splitAt || end-w.n >= splitAt) {
		w.current = pending
	}
}

func (w *writer) open(op byte) { w.blocks = append(w.blocks, block{op, w.current, w.nextEnd()}) }

func (w *writer) nextEnd() int32 {
	end := w.ends[0]
	w.ends = w.ends[1:]
	return end
}

// begin starts a region here: fuel -= cost, which is filled in at the end.
func (w *writer) begin() {
	w.out = append(w.out, opGlobalGet)
	w.out = appendU32(w.out, w.fuel)
	w.out = append(w.out, opI64Const)
	w.current = len(w.regions)
	w.regions = append(w.regions, region{patch: len(w.out)})
	w.out = append(w.out, 0, 0, 0, 0, 0, opI64Sub, opGlobalSet)
	w.out = appendU32(w.out, w.fuel)
}

// check calls the host when a counter is below zero.
func (w *writer) check(stack bool) {
	w.out = append(w.out, opGlobalGet)
	w.out = appendU32(w.out, w.fuel)
	if stack {
		w.out = append(w.out, opGlobalGet)
		w.out = appendU32(w.out, w.stack)
		w.out = append(w.out, opI64Or)
	}
	w.out = append(w.out, opI64Const, 0, opI64LtS, opIf, emptyBlock, opCall)
	w.out = appendU32(w.out, w.refill)
	w.out = append(w.out, opEnd)
}

func (w *writer) adjust(global uint32, op byte, by int64) {
	w.out = append(w.out, opGlobalGet)
	w.out = appendU32(w.out, global)
	w.out = append(w.out, opI64Const)
	w.out = appendS64(w.out, by)
	w.out = append(w.out, op, opGlobalSet)
	w.out = appendU32(w.out, global)
}

// byLength charges by the i32 on top of the operand stack, and leaves it there: fuel -= (n & mask) shifted.
func (w *writer) byLength(scratch uint32, mask int32, shift int64) {
	w.out = append(w.out, opLocalTee)
	w.out = appendU32(w.out, scratch)
	w.out = append(w.out, opGlobalGet)
	w.out = appendU32(w.out, w.fuel)
	w.out = append(w.out, opLocalGet)
	w.out = appendU32(w.out, scratch)
	if mask != -1 {
		w.out = append(w.out, opI32Const)
		w.out = appendS64(w.out, int64(mask))
		w.out = append(w.out, opI32And)
	}
	w.out = append(w.out, opI64ExtendU, opI64Const)
	if shift < 0 {
		w.out = appendS64(w.out, -shift)
		w.out = append(w.out, opI64ShrU)
	} else {
		w.out = appendS64(w.out, shift)
		w.out = append(w.out, opI64Shl)
	}
	w.out = append(w.out, opI64Sub, opGlobalSet)
	w.out = appendU32(w.out, w.fuel)
	w.check(false)
}

// putPadded writes a cost as a signed LEB128 of five bytes, which hold 35 bits.
func putPadded(b []byte, cost int64) {
	v := uint64(min(cost, 1<<34-1))
	var p [8]byte
	for i := range 5 {
		p[i] = byte(v>>(7*i))&0x7f | 0x80
	}
	p[4] &= 0x7f
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(p[:]))
	b[4] = p[4]
}
