package plugins

import (
	"encoding/binary"
	"fmt"

	"rivulet/storage/batch"
)

const (
	maxRecordOutput = 1 << 20 // bytes that one input record may become, if it is not larger itself
	maxResults      = 4096    // records that it may become
	maxCallOutput   = 32 << 20
	resultSize      = 64 // of the memory that a result takes beside its payload
)

// failed is a record that has failed and is left out of further attempts.
type failed struct {
	index int
	err   error
}

// run is one batch on its way through an instance, and its staged results.
type run struct {
	a      *Attachment
	in     []batch.Record
	out    *Output
	failed []failed // ascending
	total  int      // bytes staged, results counted as resultSize
	limit  int      // of total

	active  bool // the guest has been told of the batch
	next    int  // input record to read
	flushed int  // of failed: what OnError says of them is among the results
	current int  // input record read last, -1: none
	refused bool // the guest has rejected the current record
	begin   mark // where the current record's results begin
	bytes   int  // of the current record's results
	count   int
}

func (r *run) reset() {
	r.active, r.next, r.flushed, r.current, r.refused, r.total = false, 0, 0, -1, false, 0
}

// skip passes over records that have failed before, and appends what OnError says of them.
func (r *run) skip() {
	for r.flushed < len(r.failed) && r.failed[r.flushed].index == r.next {
		f := r.failed[r.flushed]
		r.a.applyOnError(r.out, f.index, r.in[f.index].Payload, f.err)
		r.flushed++
		r.next++
	}
}

// finish appends what is to be said of failed records that the guest would have read later.
func (r *run) finish() {
	for ; r.next < len(r.in); r.next++ {
		r.skip()
	}
	r.active = false
}

func (r *run) offset(i int) int64 {
	if o := r.in[i].Offset; o != 0 || i == 0 {
		return o
	}
	return r.in[0].Offset + int64(i)
}

// header is what read_batch_header tells: of the records that have not failed.
type header struct {
	base, firstTS, maxTS int64
	count, lastDelta     int32
	largest              int
}

func (r *run) header() header {
	h := header{count: int32(len(r.in) - len(r.failed))}
	skip, first, last := 0, true, 0
	for i := range r.in {
		if skip < len(r.failed) && r.failed[skip].index == i {
			skip++
			continue
		}
		ts := r.in[i].Timestamp
		if first {
			first = false
			h.base, h.firstTS, h.maxTS = r.offset(i), ts, ts
		}
		h.maxTS = max(h.maxTS, ts)
		h.largest = max(h.largest, len(r.in[i].Payload))
		last = i
	}
	h.lastDelta = int32(r.offset(last) - h.base)
	return h
}

// read makes the next record current.
func (r *run) read() {
	r.current = r.next
	r.next++
	r.refused, r.bytes, r.count = false, 0, 0
	r.begin = r.out.mark()
}

// writable reports whether there is a record that results may belong to.
func (r *run) writable() bool { return r.active && r.current >= 0 && !r.refused }

// emit stages one record for an output topic. It reports false when the payload is malformed.
func (r *run) emit(topic string, p []byte) bool {
	in := r.in[r.current].Payload
	same := len(p) == len(in) && string(p) == string(in)
	if !same && batch.Payload(p).Valid() != nil {
		return false
	}
	r.bytes += len(p)
	r.count++
	if r.bytes > max(maxRecordOutput, len(in)) || r.count > maxResults {
		panic(fmt.Errorf("%w: %d bytes in %d records", ErrOutput, r.bytes, r.count))
	}
	r.total += resultSize
	if !same {
		r.total += len(p)
	}
	if r.total > r.limit {
		panic(fmt.Errorf("%w: the batch has %d bytes", ErrOutput, r.total))
	}
	res := Result{Source: r.current, Topic: topic, Payload: in}
	if !same {
		res.Payload = r.out.hold(p)
	}
	r.out.Results = append(r.out.Results, res)
	return true
}

// reject is the guest's own verdict on the current record; what it emitted for it is taken back.
func (r *run) reject(policy OnError, err error) {
	r.out.rollback(r.begin)
	r.refused = true
	applyPolicy(r.out, policy, r.current, r.in[r.current].Payload, err)
}

// topicOption reads the options of write_record_with_options: a topic's index among the outputs, or an error code.
func (a *Attachment) topicOption(opts []byte) (output int, code int32) {
	if len(opts) == 0 {
		return 0, 0
	}
	n, w := binary.Varint(opts[1:])
	if opts[0] != 1 || w <= 0 || n < 0 || n != int64(len(opts)-1-w) {
		return 0, codeInvalidBuffer
	}
	name := opts[1+w:]
	for i, t := range a.outputs {
		if string(name) == t {
			return i, 0
		}
	}
	return 0, codeInvalidWrite
}

// applyPolicy appends what becomes of a record that failed.
func applyPolicy(out *Output, policy OnError, source int, p batch.Payload, err error) {
	switch policy {
	case Drop:
	case Pass:
		out.Results = append(out.Results, Result{Source: source, Payload: p})
	case Reject:
		out.Results = append(out.Results, Result{Source: source, Kind: Rejected, Payload: p, Err: err})
	default:
		out.Results = append(out.Results, Result{Source: source, Kind: Dead, Payload: p, Err: err})
	}
}

func (a *Attachment) applyOnError(out *Output, source int, p batch.Payload, err error) {
	applyPolicy(out, a.o.OnError, source, p, err)
}
