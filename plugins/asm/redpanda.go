package asm

// What code in a Redpanda frame finds.
const (
	// RecordBuffer is the address of the current record's payload.
	RecordBuffer = 1 << 16
	// Free is the address of memory that the frame leaves to the code, up to RecordBuffer.
	Free = 1 << 10

	// RecordSize, a local, is the payload's length; Local0 is the first local that the code may use, of type i32.
	RecordSize = 2
	Local0     = 4
)

// Redpanda is a transform in the making: a module with the imports of the Redpanda ABI and a memory.
type Redpanda struct {
	*Module
	WriteRecord, WriteWithOptions uint32 // function indices

	readHeader, readNext, check uint32
}

// NewRedpanda begins a transform. Further imports may be added before Finish.
func NewRedpanda() *Redpanda {
	m := &Redpanda{Module: New()}
	const module = "redpanda_transform"
	i := func(n int) []Type {
		t := make([]Type, n)
		for k := range t {
			t[k] = I32
		}
		return t
	}
	m.check = m.Import(module, "check_abi_version_2", Sig())
	m.readHeader = m.Import(module, "read_batch_header", Sig(i(10)...).To(I32))
	m.readNext = m.Import(module, "read_next_record", Sig(i(5)...).To(I32))
	m.WriteRecord = m.Import(module, "write_record", Sig(i(2)...).To(I32))
	m.WriteWithOptions = m.Import(module, "write_record_with_options", Sig(i(4)...).To(I32))
	return m
}

// Emit writes bytes of memory as a record: code for address and for length. The result is dropped.
func (m *Redpanda) Emit(address, length []byte) []byte {
	return Join(address, length, Call(m.WriteRecord), Drop)
}

// Finish adds _start, which runs perRecord for each record of each batch, with that many i32 locals for it to use, and
// returns the module. The frame:
//
//	loop                                        ;; batches
//	  largest = read_batch_header(…)            ;; parks here
//	  if largest < 0: return
//	  make the memory hold RecordBuffer+largest
//	  left = record count
//	  while left > 0:
//	    left--
//	    size = read_next_record(…)
//	    perRecord
func (m *Redpanda) Finish(locals int, perRecord ...[]byte) []byte {
	const (
		headerAt = 0 // the fields of the batch header, 8 bytes apart
		recordAt = 96
		largest  = 0
		left     = 1
		scratch  = 3
	)
	var header []byte
	for k := range 10 {
		header = append(header, I32Const(int32(headerAt+8*k))...)
	}
	types := make([]Type, Local0+locals)
	for k := range types {
		types[k] = I32
	}
	m.Memory(2)
	start := m.Func(Sig(), types,
		Call(m.check),
		Loop,
		header, Call(m.readHeader), LocalTee(largest), I32Const(0), I32LtS, If, Return, End,
		// pages missing = ceil((RecordBuffer+largest)/64Ki) - memory.size
		LocalGet(largest), I32Const(RecordBuffer+1<<16-1), I32Add, I32Const(16), I32ShrU, MemorySize, I32Sub, LocalTee(scratch),
		I32Const(0), I32GtS, If, LocalGet(scratch), MemoryGrow, I32Const(-1), I32Eq, If, Unreachable, End, End,
		I32Const(headerAt+8), I32Load(0), LocalSet(left),
		Block, Loop,
		LocalGet(left), I32Eqz, BrIf(1),
		LocalGet(left), I32Const(1), I32Sub, LocalSet(left),
		I32Const(recordAt), I32Const(recordAt+8), I32Const(recordAt+16), I32Const(RecordBuffer), LocalGet(largest), Call(m.readNext), LocalSet(RecordSize),
		Block, Join(perRecord...), End,
		Br(0), End, End,
		Br(0), End,
	)
	m.ExportFunc("_start", start)
	return m.Bytes()
}
