package auth

import (
	"fmt"
	"strings"

	"rivulet/edge"
)

// A template is a resource with placeholders, cut into pieces when rules are compiled; {edge} is filled in then. Values are compared
// piece by piece and never put into the text, so that nothing that a client chose can be read as a wildcard or a level.
type template []piece

// piece is text, or a placeholder.
type piece struct {
	text string
	what byte // 0: text, 'u': {user}, 'c': {client}
}

func parseTemplate(s, edgeID string) (template, error) {
	var t template
	for s != "" {
		before, after, ok := strings.Cut(s, "{")
		if before != "" {
			t = append(t, piece{text: before})
		}
		if !ok {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		switch {
		case closed && name == "user":
			t = append(t, piece{what: 'u'})
		case closed && name == "client":
			t = append(t, piece{what: 'c'})
		case closed && name == "edge":
			t = append(t, piece{text: edgeID})
		default:
			return nil, fmt.Errorf("%q: want {user}, {client} or {edge}", "{"+after)
		}
		s = rest
	}
	return t, nil
}

// plain returns the text of a template without placeholders.
func (t template) plain() (string, bool) {
	var text strings.Builder
	for _, p := range t {
		if p.what != 0 {
			return "", false
		}
		text.WriteString(p.text)
	}
	return text.String(), true
}

// safe reports whether a value may stand for a placeholder.
func safe(value string) bool { return value != "" && !strings.ContainsAny(value, "+#/\x00") }

// value of a piece for a principal; not ok when the rule matches nothing for it.
func (p piece) value(who *edge.Principal) (string, bool) {
	switch p.what {
	case 'u':
		return who.Name, safe(who.Name)
	case 'c':
		return who.Client, safe(who.Client)
	}
	return p.text, true
}

// cut removes the filled-in template from the beginning of s.
func (t template) cut(s string, who *edge.Principal) (rest string, ok bool) {
	for _, p := range t {
		v, ok := p.value(who)
		if !ok {
			return "", false
		}
		if s, ok = strings.CutPrefix(s, v); !ok {
			return "", false
		}
	}
	return s, true
}

// equal reports whether the filled-in template is s.
func (t template) equal(s string, who *edge.Principal) bool {
	rest, ok := t.cut(s, who)
	return ok && rest == ""
}

// level is one level of an MQTT filter in a rule.
type level struct {
	wild byte // '+', '#', or 0
	text template
}

// filter is an MQTT filter in a rule.
type filter []level

func parseFilter(s, edgeID string) (filter, error) {
	var f filter
	for l := range strings.SplitSeq(s, "/") {
		switch l {
		case "+", "#":
			f = append(f, level{wild: l[0]})
			continue
		}
		t, err := parseTemplate(l, edgeID)
		if err != nil {
			return nil, err
		}
		for i, p := range t { // an edge's id with a slash or a wildcard in it must not widen a rule either
			if p.what == 0 && strings.ContainsAny(p.text, "+#/") {
				return nil, fmt.Errorf("level %q: {edge} is %q, which holds a wildcard or a slash", l, t[i].text)
			}
		}
		f = append(f, level{text: t})
	}
	return f, nil
}

// next cuts the first level off a topic or filter.
func next(s string) (first, rest string, more bool) {
	return strings.Cut(s, "/")
}

// covers reports whether everything that the filter s matches is matched by f, too. A topic is a filter without wildcards, so
// this is also whether f matches a topic (MQTT-4.7). A rule's leading wildcard speaks of no topic that begins with $.
func (f filter) covers(s string, who *edge.Principal) bool {
	if strings.HasPrefix(s, "$") && f[0].wild != 0 {
		return false
	}
	more := true
	for i := range f {
		if f[i].wild == '#' {
			return true // the rest, and nothing: a/# matches a
		}
		if !more {
			return false
		}
		var l string
		l, s, more = next(s)
		switch {
		case l == "#":
			return false // it matches more levels than f has
		case f[i].wild == '+':
		case l == "+" || !f[i].text.equal(l, who):
			return false
		}
	}
	return !more
}

// overlaps reports whether there can be a topic that f and the filter s both match.
func (f filter) overlaps(s string, who *edge.Principal) bool {
	if strings.HasPrefix(s, "$") && f[0].wild != 0 {
		return false
	}
	if (s == "#" || s == "+" || strings.HasPrefix(s, "+/")) && len(f[0].text) > 0 && f[0].dollar() {
		return false
	}
	more := true
	for i := range f {
		if f[i].wild == '#' {
			return true
		}
		if !more {
			return false
		}
		var l string
		l, s, more = next(s)
		switch {
		case l == "#":
			return f[i:].possible(who)
		case f[i].wild == '+':
		case l == "+":
			if !f[i : i+1].possible(who) {
				return false
			}
		case !f[i].text.equal(l, who):
			return false
		}
	}
	return !more || s == "#" // a/# matches a
}

func (l level) dollar() bool {
	return l.wild == 0 && len(l.text) > 0 && l.text[0].what == 0 && strings.HasPrefix(l.text[0].text, "$")
}

// possible reports whether all placeholders have values that may stand in a level.
func (f filter) possible(who *edge.Principal) bool {
	for _, l := range f {
		for _, p := range l.text {
			if _, ok := p.value(who); !ok {
				return false
			}
		}
	}
	return true
}
