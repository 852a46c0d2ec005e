// Package builtin assembles small plugins from Go code, for the demo, for benchmarks and to be read: each is what a
// transform written with Redpanda's SDK compiles to, without the SDK. Where there is only Go, nothing else is needed.
package builtin

import a "rivulet/plugins/asm"

// Identity passes every record on.
func Identity() []byte {
	m := a.NewRedpanda()
	return m.Finish(0, emitAll(m))
}

// emitAll writes the current record as it is.
func emitAll(m *a.Redpanda) []byte {
	return m.Emit(a.I32Const(a.RecordBuffer), a.LocalGet(a.RecordSize))
}

// DropCold drops the records whose JSON value says "temp" with a number below the threshold, in whole degrees; the
// fraction is not looked at. A record without "temp" passes. In Go it would read:
//
//	for p := buffer; p < end-6; p++ {
//		if string(p[:6]) != `"temp"` {
//			continue
//		}
//		skip ':' and blanks; sign := 1; if '-' { sign = -1 }
//		n := the digits
//		if sign*n < threshold { return }
//		break
//	}
//	emit
func DropCold(threshold int) []byte {
	const (
		p    = a.Local0 + iota // cursor
		end                    // of the record
		char                   // at the cursor
		n                      // number so far
		sign
	)
	const (
		temp = '"' | 't'<<8 | 'e'<<16 | 'm'<<24 // the bytes of "tem as a word
		rest = 'p' | '"'<<8                     // and of p"
	)
	m := a.NewRedpanda()
	// next loads the byte at the cursor, 0 behind the end, and moves on.
	next := a.Join(
		a.I32Const(0), a.LocalSet(char),
		a.LocalGet(p), a.LocalGet(end), a.I32LtU, a.If,
		a.LocalGet(p), a.I32Load8U(0), a.LocalSet(char),
		a.End,
		a.LocalGet(p), a.I32Const(1), a.I32Add, a.LocalSet(p),
	)
	is := func(c byte) []byte { return a.Join(a.LocalGet(char), a.I32Const(int32(c)), a.I32Eq) }
	parse := a.Join(
		a.LocalGet(p), a.I32Const(6), a.I32Add, a.LocalSet(p),
		a.I32Const(0), a.LocalSet(n),
		a.I32Const(1), a.LocalSet(sign),
		a.Loop, next, is(':'), is(' '), a.I32Or, a.BrIf(0), a.End,
		is('-'), a.If, a.I32Const(-1), a.LocalSet(sign), next, a.End,
		a.Block, a.Loop,
		a.LocalGet(char), a.I32Const('0'), a.I32Sub, a.I32Const(9), a.I32GtU, a.BrIf(1),
		a.LocalGet(n), a.I32Const(10), a.I32Mul, a.LocalGet(char), a.I32Add, a.I32Const('0'), a.I32Sub, a.LocalSet(n),
		next, a.Br(0),
		a.End, a.End,
	)
	return m.Finish(5,
		a.I32Const(a.RecordBuffer), a.LocalTee(p), a.LocalGet(a.RecordSize), a.I32Add, a.LocalSet(end),
		a.Block, // searched
		a.Loop,
		a.LocalGet(p), a.I32Const(6), a.I32Add, a.LocalGet(end), a.I32GtU, a.BrIf(1),
		a.LocalGet(p), a.I32Load(0), a.I32Const(temp), a.I32Eq,
		a.LocalGet(p), a.I32Load16U(4), a.I32Const(rest), a.I32Eq, a.I32And, a.If,
		parse,
		a.LocalGet(n), a.LocalGet(sign), a.I32Mul, a.I32Const(int32(threshold)), a.I32LtS,
		a.BrIf(3), // cold: out of the code for this record
		a.Br(2),   // warm: out of the search
		a.End,
		a.LocalGet(p), a.I32Const(1), a.I32Add, a.LocalSet(p),
		a.Br(0),
		a.End,
		a.End,
		emitAll(m),
	)
}

// DropHalf drops every record whose value ends in an odd byte, such as an odd digit. Values are found by their length
// behind the key's, so it works on any record without headers; on others it looks at the last header.
func DropHalf() []byte {
	m := a.NewRedpanda()
	// The payload's last byte is the number of headers; the one before it is the value's last.
	return m.Finish(0,
		a.I32Const(a.RecordBuffer-2), a.LocalGet(a.RecordSize), a.I32Add, a.I32Load8U(0), a.I32Const(1), a.I32And, a.BrIf(0),
		emitAll(m),
	)
}
