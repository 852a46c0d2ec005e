package plugins

import (
	"bytes"
	"context"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

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

// scanner walks through JSON text. It neither allocates nor recurses.
type scanner struct {
	b   []byte
	i   int
	bad bool
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\n' || s.b[s.i] == '\r') {
		s.i++
	}
}

// accept passes over c, behind white space, if it is next.
func (s *scanner) accept(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// str passes over a string and returns what is between its quotes.
func (s *scanner) str() []byte {
	if !s.accept('"') {
		s.bad = true
		return nil
	}
	from := s.i
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			s.i++
			return s.b[from : s.i-1]
		case '\\':
			s.i++
		}
		s.i++
	}
	s.i = len(s.b)
	s.bad = true
	return nil
}

// skip passes over one value.
func (s *scanner) skip() {
	s.space()
	depth := 0
	for {
		switch c := s.peek(); c {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			if depth == 0 {
				s.bad = true
				return
			}
			depth--
			s.i++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				s.bad = true
				return
			}
			s.i++
		default:
			from := s.i
			for s.i < len(s.b) && !delimits(s.b[s.i]) {
				s.i++
			}
			s.bad = s.bad || from == s.i // the end
		}
		if depth == 0 || s.bad {
			return
		}
	}
}

func delimits(c byte) bool {
	switch c {
	case ',', ':', '[', ']', '{', '}', '"', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// member moves to the value of an object's member; of several of one name, to the first.
func (s *scanner) member(key []byte) bool {
	if !s.accept('{') {
		return false
	}
	if s.accept('}') {
		return false
	}
	for {
		s.space()
		name := s.str()
		if !s.accept(':') {
			s.bad = true
		}
		if s.bad {
			return false
		}
		if sameKey(name, key) {
			return true
		}
		s.skip()
		if s.accept('}') {
			return false
		}
		if s.bad || !s.accept(',') {
			s.bad = true
			return false
		}
	}
}

// element moves to an array's n-th element.
func (s *scanner) element(n int) bool {
	if !s.accept('[') {
		return false
	}
	if s.accept(']') {
		return false
	}
	for ; n > 0; n-- {
		s.skip()
		if s.accept(']') {
			return false
		}
		if s.bad || !s.accept(',') {
			s.bad = true
			return false
		}
	}
	return true
}

func sameKey(raw, key []byte) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return bytes.Equal(raw, key)
	}
	return len(raw) >= len(key) && bytes.Equal(unescape(nil, raw), key)
}

// unescape appends a string's contents to dst. What is no escape becomes U+FFFD.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		if i == len(s) {
			return utf8.AppendRune(dst, utf8.RuneError)
		}
		switch c := s[i]; c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(s[i+1:])
			if !ok {
				dst = utf8.AppendRune(dst, utf8.RuneError)
				continue
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if i+2 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					low, ok = hex4(s[i+3:])
				}
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
	}
	return dst
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[:4]), 16, 32)
	return rune(n), err == nil
}
