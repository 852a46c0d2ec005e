package plugins

import "rivulet/storage/batch"

const (
	blockSize = 64 << 10
	keepBytes = 1 << 20 // what an Output holds on to between two uses
)

// Output collects results; reuse it with Reset. It is not for concurrent use; the zero value is ready.
type Output struct {
	Results []Result

	blocks [][]byte // payloads; a block is never moved, so that results may alias it
	block  int      // the one that is being filled
}

// Reset empties the output and keeps its memory.
func (o *Output) Reset() {
	o.rollback(mark{})
	kept := 0
	for i, b := range o.blocks {
		if kept += cap(b); kept > keepBytes {
			clear(o.blocks[i:])
			o.blocks = o.blocks[:i]
			break
		}
	}
}

// mark is a point to go back to.
type mark struct{ results, block, used int }

func (o *Output) mark() mark {
	m := mark{results: len(o.Results), block: o.block}
	if o.block < len(o.blocks) {
		m.used = len(o.blocks[o.block])
	}
	return m
}

func (o *Output) rollback(m mark) {
	clear(o.Results[m.results:]) // they refer to payloads and errors
	o.Results = o.Results[:m.results]
	for i := m.block; i < len(o.blocks) && i <= o.block; i++ {
		o.blocks[i] = o.blocks[i][:0]
	}
	o.block = m.block
	if m.block < len(o.blocks) {
		o.blocks[m.block] = o.blocks[m.block][:m.used]
	}
}

// hold copies a payload into the output.
func (o *Output) hold(p []byte) batch.Payload {
	for ; o.block < len(o.blocks); o.block++ {
		if b := o.blocks[o.block]; cap(b)-len(b) >= len(p) {
			break
		}
	}
	if o.block == len(o.blocks) {
		o.blocks = append(o.blocks, make([]byte, 0, max(blockSize, len(p))))
	}
	b := o.blocks[o.block]
	from := len(b)
	b = append(b, p...)
	o.blocks[o.block] = b
	return batch.Payload(b[from:len(b):len(b)])
}
