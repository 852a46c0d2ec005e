package plugins

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	a "rivulet/plugins/asm"
)

func TestJSONFind(t *testing.T) {
	const doc = ` {"temp":21.5 , "a":{"b":[1,{"c":"x\"y"},[]] , "b2":null},"t":true,"f":false,"e":{},"u\u0041":"\ud83d\ude00\n","":7,"temp":9}`
	for _, tt := range []struct {
		doc, path, want string
	}{
		{doc, "temp", "0 21.5"},
		{doc, "a.b[1].c", `s x\"y`},
		{doc, "a.b[2]", "a []"},
		{doc, "a.b[1]", `o {"c":"x\"y"}`},
		{doc, "a.b2", "n "},
		{doc, "t", "t "},
		{doc, "f", "f "},
		{doc, "uA", `s \ud83d\ude00\n`},
		{doc, "a.b[3]", "-1"},
		{doc, "a.x", "-1"},
		{doc, "e.x", "-1"},
		{doc, "temp.x", "-1"},
		{doc, "[0]", "-1"},
		{doc, "a.b[0", "-2"},
		{doc, "a.b[-1]", "-2"},
		{doc, "a.b[x]", "-2"},
		{doc, ".temp", "-2"},
		{doc, "a.b[0]b", "-2"},
		{`[[1,2],[3]]`, "[0][1]", "0 2"},
		{`3`, "", "0 3"},
		{`"s"`, "", "s s"},
		{``, "", "-2"},
		{`{"a"`, "a", "-2"},
		{`{"a":`, "a", "-2"},
		{`{"a":"x`, "a", "-2"},
		{`{"b":1 "a":2}`, "a", "-2"},
		{`{"a":nope}`, "a", "-2"},
		{`{"a":[1,2}`, "a", "a [1,2}"}, // found, not validated
		{`{"a":]`, "a", "-2"},
	} {
		kind, raw, c := jsonFind([]byte(tt.doc), []byte(tt.path))
		got := fmt.Sprintf("%c %s", kind, raw)
		if c < 0 {
			got = fmt.Sprint(c)
		}
		if got != tt.want {
			t.Errorf("%q in %.20s: got %s, want %s", tt.path, tt.doc, got, tt.want)
		}
	}
}

func TestJSONGet(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	get := m.Import(moduleRivulet, "json_get", a.Sig(a.I32, a.I32, a.I32, a.I32).To(a.I32))
	m.Data(4096, []byte("a.s"))
	// A record whose value is what json_get left behind: no key, a length of one byte.
	wasm := m.Finish(1,
		a.I32Const(4096), a.I32Const(3), a.I32Const(5002), a.I32Const(60), a.Call(get), a.LocalSet(a.Local0),
		a.I32Const(5000), a.I32Const(1), a.I32Store8(0),
		a.I32Const(5001), a.LocalGet(a.Local0), a.I32Const(1), a.I32Shl, a.I32Store8(0),
		a.LocalGet(a.Local0), a.I32Const(5002), a.I32Add, a.I32Const(0), a.I32Store8(0),
		m.Emit(a.I32Const(5000), a.Join(a.LocalGet(a.Local0), a.I32Const(3), a.I32Add)))
	att := attach(t, h, wasm, AttachOptions{})
	values := []string{`{"a":{"s":"caf\u00e9 \"x\""}}`, `{"a":{"s":17}}`}
	want := "0 scafé \"x\"\n1 017\n"
	if got := render(process(t, att, records(2, func(i int) string { return values[i] }))); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzJSONFind(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,{"c":"x\"y"},[]],"d":null},"e":true}`), "a", uint8(1))
	f.Add([]byte(`[["\ud83d\ude00",1e9],false]`), "", uint8(0))
	f.Fuzz(func(t *testing.T, doc []byte, key string, index uint8) {
		jsonFind(doc, []byte(key)) // must not panic
		if !json.Valid(doc) || strings.ContainsAny(key, ".[") || key == "" {
			return
		}
		var want any
		var path string
		if bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("[")) {
			var list []json.RawMessage
			if json.Unmarshal(doc, &list) != nil {
				return
			}
			if path = fmt.Sprintf("[%d]", index); int(index) < len(list) {
				want = list[index]
			}
		} else {
			var object map[string]json.RawMessage
			if json.Unmarshal(doc, &object) != nil || object == nil {
				return
			}
			path = key
			if v, ok := object[key]; ok {
				want = v
			}
		}
		kind, raw, c := jsonFind(doc, []byte(path))
		switch {
		case c == codeAbsent:
			if want != nil {
				t.Fatalf("%s of %s is not found", path, doc)
			}
		case c < 0:
			t.Fatalf("%s of %s: code %d", path, doc, c)
		case want == nil:
			t.Fatalf("%s of %s: found %c %s", path, doc, kind, raw)
		case kind == jsonString:
			var s string
			if json.Unmarshal(want.(json.RawMessage), &s) == nil && !strings.Contains(s, "\ufffd") && s != string(unescape(nil, raw)) && !duplicates(doc) {
				t.Fatalf("%s of %s: %q, want %q", path, doc, unescape(nil, raw), s)
			}
		}
	})
}

// duplicates reports whether an object may have a key twice; encoding/json takes the last, we the first.
func duplicates(doc []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(doc))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	seen := map[string]bool{}
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return false
		}
		if seen[k.(string)] {
			return true
		}
		seen[k.(string)] = true
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return false
		}
	}
	return false
}
