package asm

// Instructions without operands.
var (
	Unreachable = []byte{0x00}
	Nop         = []byte{0x01}
	Block       = []byte{0x02, 0x40} // without result, as the next two
	Loop        = []byte{0x03, 0x40}
	If          = []byte{0x04, 0x40}
	Else        = []byte{0x05}
	End         = []byte{0x0b}
	Return      = []byte{0x0f}
	Drop        = []byte{0x1a}
	MemorySize  = []byte{0x3f, 0}
	MemoryGrow  = []byte{0x40, 0}
	I32Eqz      = []byte{0x45}
	I32Eq       = []byte{0x46}
	I32Ne       = []byte{0x47}
	I32LtS      = []byte{0x48}
	I32LtU      = []byte{0x49}
	I32GtS      = []byte{0x4a}
	I32GtU      = []byte{0x4b}
	I32LeU      = []byte{0x4d}
	I32GeS      = []byte{0x4e}
	I32GeU      = []byte{0x4f}
	I32Add      = []byte{0x6a}
	I32Sub      = []byte{0x6b}
	I32Mul      = []byte{0x6c}
	I32And      = []byte{0x71}
	I32Or       = []byte{0x72}
	I32Xor      = []byte{0x73}
	I32Shl      = []byte{0x74}
	I32ShrS     = []byte{0x75}
	I32ShrU     = []byte{0x76}
	I64Add      = []byte{0x7c}
	I64Mul      = []byte{0x7e}
	I64Xor      = []byte{0x85}
	MemoryCopy  = []byte{0xfc, 10, 0, 0}
	MemoryFill  = []byte{0xfc, 11, 0}
)

// Join concatenates code.
func Join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Instructions with operands.
func I32Const(v int32) []byte     { return append([]byte{0x41}, sleb(int64(v))...) }
func I64Const(v int64) []byte     { return append([]byte{0x42}, sleb(v)...) }
func LocalGet(i uint32) []byte    { return append([]byte{0x20}, uleb(uint64(i))...) }
func LocalSet(i uint32) []byte    { return append([]byte{0x21}, uleb(uint64(i))...) }
func LocalTee(i uint32) []byte    { return append([]byte{0x22}, uleb(uint64(i))...) }
func GlobalGet(i uint32) []byte   { return append([]byte{0x23}, uleb(uint64(i))...) }
func GlobalSet(i uint32) []byte   { return append([]byte{0x24}, uleb(uint64(i))...) }
func Br(label uint32) []byte      { return append([]byte{0x0c}, uleb(uint64(label))...) }
func BrIf(label uint32) []byte    { return append([]byte{0x0d}, uleb(uint64(label))...) }
func Call(f uint32) []byte        { return append([]byte{0x10}, uleb(uint64(f))...) }
func RefFunc(f uint32) []byte     { return append([]byte{0xd2}, uleb(uint64(f))...) }
func I32Load(off uint32) []byte   { return append([]byte{0x28, 0}, uleb(uint64(off))...) }
func I64Load(off uint32) []byte   { return append([]byte{0x29, 0}, uleb(uint64(off))...) }
func I32Load8U(off uint32) []byte { return append([]byte{0x2d, 0}, uleb(uint64(off))...) }

// I32Load16U loads two bytes.
func I32Load16U(off uint32) []byte { return append([]byte{0x2f, 0}, uleb(uint64(off))...) }

// I32Store stores an i32, I32Store8 its low byte, I64Store an i64.
func I32Store(off uint32) []byte  { return append([]byte{0x36, 0}, uleb(uint64(off))...) }
func I64Store(off uint32) []byte  { return append([]byte{0x37, 0}, uleb(uint64(off))...) }
func I32Store8(off uint32) []byte { return append([]byte{0x3a, 0}, uleb(uint64(off))...) }

// CallIndirect calls through table 0; typ is from TypeIndex.
func CallIndirect(typ uint32) []byte { return append(append([]byte{0x11}, uleb(uint64(typ))...), 0) }
