package meter

// Opcodes that the rewriter looks at.
const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opI64LtS       = 0x53
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Or        = 0x84
	opI32And       = 0x71
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd
	emptyBlock     = 0x40
)

// Second opcodes behind opMisc.
const (
	miscMemoryInit = 8 + iota
	miscDataDrop
	miscMemoryCopy
	miscMemoryFill
	miscTableInit
	miscElemDrop
	miscTableCopy
	miscTableGrow
	miscTableSize
	miscTableFill
)

// instr is one instruction. arg is its index: function, global, local or type; sub is the second opcode.
type instr struct {
	op  byte
	sub uint32
	arg uint32
}

// next reads one instruction of a function with that many locals and checks the indices that could reach what the
// rewriter adds.
func (m *Module) next(r *reader, locals uint32) instr {
	in := instr{op: r.byte()}
	switch op := in.op; {
	case op <= 0x01, op == opElse, op == opEnd, op == opReturn, op == 0x1a, op == 0x1b, op == 0xd1:
	case op == opBlock, op == opLoop, op == opIf:
		if t := r.signed(5); t >= int64(len(m.types)) {
			r.fail("block of unknown type %d", t)
		}
	case op == opBr, op == opBr+1:
		in.arg = r.u32()
	case op == opBrTable:
		for range r.count("labels") {
			r.u32()
		}
		r.u32()
	case op == opCall, op == opRefFunc:
		in.arg = m.funcIndex(r)
	case op == opCallIndirect:
		if in.arg = r.u32(); uint64(in.arg) >= uint64(len(m.types)) {
			r.fail("call of unknown type %d", in.arg)
		}
		r.u32()
	case op == 0x12, op == 0x13:
		r.fail("it uses tail calls; build it without the tail-call feature")
	case op == opSelectT:
		valTypes(r, 1)
	case op >= opLocalGet && op <= opLocalTee:
		if in.arg = r.u32(); in.arg >= locals {
			r.fail("unknown local %d", in.arg)
		}
	case op == opGlobalGet, op == opGlobalSet:
		in.arg = m.globalIndex(r)
	case op == opTableGet, op == opTableSet:
		r.u32()
	case op >= 0x28 && op <= 0x3e:
		memArg(r)
	case op == 0x3f, op == opMemoryGrow:
		r.byte()
	case op == opI32Const:
		r.signed(5)
	case op == opI64Const:
		r.signed(10)
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op >= 0x45 && op <= 0xc4:
	case op == opRefNull:
		r.byte()
	case op == opMisc:
		in.sub = r.u32()
		miscArgs(r, in.sub)
	case op == opVector:
		in.sub = r.u32()
		vectorArgs(r, in.sub)
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		r.fail("it uses exceptions (opcode %#x); build it without them", op)
	case op == 0xfe:
		r.fail("it uses atomics; build it without threads")
	default:
		r.fail("opcode %#x is not of core 2.0", op)
	}
	return in
}

func memArg(r *reader) {
	if r.u32() >= 32 {
		r.fail("alignment of a memory access (or a second memory)")
	}
	r.u32()
}

func miscArgs(r *reader, sub uint32) {
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncations
	case miscMemoryInit, miscMemoryCopy, miscTableInit, miscTableCopy:
		r.u32()
		r.u32()
	case miscDataDrop, miscMemoryFill, miscElemDrop, miscTableGrow, miscTableSize, miscTableFill:
		r.u32()
	default:
		r.fail("opcode 0xfc %d is not of core 2.0", sub)
	}
}

func vectorArgs(r *reader, sub uint32) {
	switch {
	case sub <= 11, sub == 92, sub == 93: // loads and stores
		memArg(r)
	case sub == 12, sub == 13: // v128.const, i8x16.shuffle
		r.take(16)
	case sub >= 21 && sub <= 34: // lanes
		r.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		memArg(r)
		r.byte()
	case sub <= 255:
	default:
		r.fail("opcode 0xfd %d is not of core 2.0; build it without relaxed SIMD", sub)
	}
}
