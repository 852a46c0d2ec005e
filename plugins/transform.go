package plugins

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Result codes of the module redpanda_transform.
const (
	codeNoTransform   = -1
	codeInvalidBuffer = -2
	codeInvalidWrite  = -3
	codeNotGranted    = -4 // rivulet_v1 only
)

// errPointer traps a guest whose pointer leads out of its memory.
var errPointer = errors.New("pointer outside of the module's memory")

type hostFunc struct {
	name    string
	fn      api.GoModuleFunc
	params  []api.ValueType
	results []api.ValueType
}

func i32s(n int) []api.ValueType {
	t := make([]api.ValueType, n)
	for i := range t {
		t[i] = api.ValueTypeI32
	}
	return t
}

func marker(context.Context, api.Module, []uint64) {}

// transformFuncs is Redpanda's module redpanda_transform, versions 1 and 2.
func transformFuncs() []hostFunc {
	one := i32s(1)
	return []hostFunc{
		{"check_abi_version_1", marker, nil, nil},
		{"check_abi_version_2", marker, nil, nil},
		{"read_batch_header", readBatchHeader, i32s(10), one},
		{"read_next_record", readNextRecord, i32s(5), one},
		{"write_record", writeRecord, i32s(2), one},
		{"write_record_with_options", writeRecordWithOptions, i32s(4), one},
	}
}

func exportModule(ctx context.Context, r wazero.Runtime, name string, funcs []hostFunc) error {
	b := r.NewHostModuleBuilder(name)
	for _, f := range funcs {
		b.NewFunctionBuilder().WithGoModuleFunction(f.fn, f.params, f.results).WithName(f.name).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// bytes is a stretch of the guest's memory. It is good until the guest runs on.
func (in *instance) bytes(at, n uint64) []byte {
	b, ok := in.mem.Read(uint32(at), uint32(n))
	if !ok {
		panic(errPointer)
	}
	return b
}

func code(stack []uint64, c int32) { stack[0] = uint64(uint32(c)) }

// readBatchHeader parks the guest until there is a batch. It returns the largest payload's size.
func readBatchHeader(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	var at [10]uint32 // the stack is used for the result, and by others while the guest is parked
	for i := range at {
		at[i] = uint32(stack[i])
	}
	if in.yield == nil {
		panic(errors.New("read_batch_header is called outside of _start"))
	}
	if !in.yield(struct{}{}) {
		panic(errStopped)
	}
	r := in.run
	r.active = true
	h := r.header()
	mem := in.mem
	in.millis = h.firstTS
	ok := mem.WriteUint64Le(at[0], uint64(h.base)) &&
		mem.WriteUint32Le(at[1], uint32(h.count)) &&
		mem.WriteUint32Le(at[2], 0) && // leader epoch
		mem.WriteUint16Le(at[3], 0) && // attributes
		mem.WriteUint32Le(at[4], uint32(h.lastDelta)) &&
		mem.WriteUint64Le(at[5], uint64(h.firstTS)) &&
		mem.WriteUint64Le(at[6], uint64(h.maxTS)) &&
		mem.WriteUint64Le(at[7], ^uint64(0)) && // producer id: none
		mem.WriteUint16Le(at[8], ^uint16(0)) &&
		mem.WriteUint32Le(at[9], ^uint32(0))
	if !ok {
		panic(errPointer)
	}
	code(stack, int32(h.largest))
}

// readNextRecord hands over one record and refills the CPU budget.
func readNextRecord(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	r := in.run
	if !r.active {
		code(stack, codeNoTransform)
		return
	}
	r.skip()
	if r.next >= len(r.in) {
		code(stack, codeNoTransform)
		return
	}
	rec := &r.in[r.next]
	if uint64(uint32(stack[4])) < uint64(len(rec.Payload)) {
		code(stack, codeInvalidBuffer)
		return
	}
	offset := r.offset(r.next)
	mem := in.mem
	if !mem.WriteByte(uint32(stack[0]), 0) ||
		!mem.WriteUint64Le(uint32(stack[1]), uint64(rec.Timestamp)) ||
		!mem.WriteUint64Le(uint32(stack[2]), uint64(offset)) ||
		!mem.Write(uint32(stack[3]), rec.Payload) {
		panic(errPointer) // on account of the record before
	}
	r.read()
	in.millis = rec.Timestamp
	in.errs.forget()
	in.settle()
	in.refuel()
	code(stack, int32(len(rec.Payload)))
}

func writeRecord(ctx context.Context, _ api.Module, stack []uint64) {
	instanceOf(ctx).write(stack, nil)
}

func writeRecordWithOptions(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	in.write(stack, in.bytes(stack[2], stack[3]))
}

// write stages what the guest emits; stack[0] and [1] are its pointer and length.
func (in *instance) write(stack []uint64, opts []byte) {
	p := in.bytes(stack[0], stack[1])
	r := in.run
	if !r.writable() {
		code(stack, codeNoTransform)
		return
	}
	output, c := in.a.topicOption(opts)
	if c < 0 {
		code(stack, c)
		return
	}
	in.charge(len(p) >> 3)
	if !r.emit(in.a.topics[output], p) {
		code(stack, codeInvalidBuffer)
		return
	}
	code(stack, int32(len(p)))
}
