package plugins

import (
	"bytes"
	"context"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// The kinds of JSON value that json_get tells apart; the bytes behind are the text of a number, the contents of a string,
// and objects and arrays as they stand.
const (
	jsonNull   = 'n'
	jsonTrue   = 't'
	jsonFalse  = 'f'
	jsonNumber = '0'
	jsonString = 's'
	jsonObject = 'o'
	jsonArray  = 'a'
)

// jsonGet (path, length, out, capacity) finds a value in the current record's, which costs a guest some 50 times as much to do
// with its language's decoder. A path is keys and indices: a.b[2].c; an empty one is the whole value. The result is a byte
// for the kind and the value's bytes, and their number is returned; if it is larger than the capacity, nothing was
// copied. -1: no such value, -2: the path or what was read of the record is malformed.
//
// The value is found, not validated: behind it the record may be anything.
func jsonGet(ctx context.Context, _ api.Module, stack []uint64) {
	in := instanceOf(ctx)
	path := in.bytes(stack[0], stack[1])
	r := in.run
	if !r.active || r.current < 0 {
		code(stack, codeNoTransform)
		return
	}
	value := r.in[r.current].Payload.Value()
	in.charge(len(value)/2 + len(path))
	kind, raw, c := jsonFind(value, path)
	if c < 0 {
		code(stack, c)
		return
	}
	if kind == jsonString && bytes.IndexByte(raw, '\\') >= 0 {
		in.scratch = unescape(in.scratch[:0], raw)
		raw = in.scratch
	}
	size := uint32(1 + len(raw))
	if at := uint32(stack[2]); size <= uint32(stack[3]) {
		if !in.mem.WriteByte(at, kind) || !in.mem.Write(at+1, raw) {
			panic(errPointer)
		}
	}
	code(stack, int32(size))
}

// Results of jsonFind.
const (
	codeAbsent    = -1
	codeMalformed = -2
)

// jsonFind returns the value at a path: its kind and its bytes, those of a string without quotes but with escapes.
func jsonFind(b, path []byte) (kind byte, raw []byte, code int32) {
	s := scanner{b: b}
	for first := true; len(path) > 0; first = false {
		s.space()
		var found bool
		if path[0] == '[' {
			end := bytes.IndexByte(path, ']')
			if end < 0 {
				return 0, nil, codeMalformed
			}
			n, err := strconv.ParseUint(string(path[1:end]), 10, 31)
			if err != nil {
				return 0, nil, codeMalformed
			}
			path = path[end+1:]
			found = s.element(int(n))
		} else {
			if path[0] == '.' {
				if first {
					return 0, nil, codeMalformed
				}
				path = path[1:]
			} else if !first {
				return 0, nil, codeMalformed
			}
			end := bytes.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			found = s.member(path[:end])
			path = path[end:]
		}
		if s.bad {
			return 0, nil, codeMalformed
		}
		if !found {
			return 0, nil, codeAbsent
		}
	}
	s.space()
	from := s.i
	s.skip()
	if s.bad {
		return 0, nil, codeMalformed
	}
	raw = b[from:s.i]
	switch c := raw[0]; {
	case c == '"':
		return jsonString, raw[1 : len(raw)-1], 0
	case c == '{':
		return jsonObject, raw, 0
	case c == '[':
		return jsonArray, raw, 0
	case c == '-' || c >= '0' && c <= '9':
		return jsonNumber, raw, 0
	case string(raw) == "null":
		return jsonNull, nil, 0
	case string(raw) == "true":
		return jsonTrue, nil, 0
	case string(raw) == "false":
		return jsonFalse, nil, 0
	}
	return 0, nil, codeMalformed
}
