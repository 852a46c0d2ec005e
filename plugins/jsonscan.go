package plugins

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

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
