package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"rivulet/edge"
)

// decoder fills structs from YAML nodes and keeps going after an error, so that all of them are told at once.
type decoder struct {
	file string
	at   positions
	errs Errors
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	e := &Error{File: d.file, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	d.errs = append(d.errs, e)
}

// decode puts n into v. path is n's in the configuration, "" the whole.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	d.at[path] = position{d.file, n.Line, n.Column}
	if n.Kind == yaml.AliasNode {
		d.fail(n, "aliases are not supported: write the value out")
		return
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if d.want(n, yaml.ScalarNode, path) {
			if err := text.UnmarshalText([]byte(n.Value)); err != nil {
				d.fail(n, "%s: %s", path, err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.dictionary(n, v, path)
	default:
		if d.want(n, yaml.ScalarNode, path) {
			d.scalar(n, v, path)
		}
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Bool:
		if n.Value != "true" && n.Value != "false" {
			d.fail(n, "%s: %q is not true or false", path, n.Value)
			return
		}
		v.SetBool(n.Value == "true")
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if err != nil {
			d.fail(n, "%s: %q is not a whole number", path, n.Value)
			return
		}
		v.SetInt(i)
	case reflect.String:
		v.SetString(n.Value)
	default:
		panic("BUG: configuration field " + path + " of type " + v.Type().String())
	}
}

// want reports whether n is of the kind that the path takes. A value that is left out counts as an empty list or mapping.
func (d *decoder) want(n *yaml.Node, kind yaml.Kind, path string) bool {
	empty := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	if n.Kind == kind && !empty {
		return true
	}
	name := path
	if name == "" {
		name = "the configuration"
	}
	switch {
	case empty && kind == yaml.ScalarNode:
		d.fail(n, "%s: the value is missing", name)
	case empty:
	case kind == yaml.ScalarNode:
		d.fail(n, "%s: want a single value", name)
	case kind == yaml.SequenceNode:
		d.fail(n, "%s: want a list", name)
	default:
		d.fail(n, "%s: want keys and values", name)
	}
	return false
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if !d.want(n, yaml.MappingNode, path) {
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		switch {
		case f < 0:
			names := make([]string, len(fields))
			for i, f := range fields {
				names[i] = f.name
			}
			d.fail(key, "unknown key %q%s; did you mean %q?", key.Value, in(path), edge.Nearest(key.Value, names))
		case seen[key.Value]:
			d.fail(key, "key %q is given twice", join(path, key.Value))
		default:
			seen[key.Value] = true
			before := len(d.errs)
			d.decode(value, v.Field(fields[f].index), join(path, key.Value))
			if len(d.errs) == before {
				d.restrict(fields[f], v.Field(fields[f].index), join(path, key.Value), key, value)
			}
		}
	}
}

// restrict applies the tags oneof and later.
func (d *decoder) restrict(f field, v reflect.Value, path string, key, value *yaml.Node) {
	if f.oneof != nil && !slices.Contains(f.oneof, v.String()) {
		d.fail(value, "%s: %q is not one of %s; did you mean %q?", path, v.String(), strings.Join(f.oneof, ", "), edge.Nearest(v.String(), f.oneof))
		return
	}
	empty := v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
	if f.later != "" && !empty {
		d.fail(key, "not supported yet: %s (%s)", path, f.later)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if !d.want(n, yaml.SequenceNode, path) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		d.decode(c, v.Index(i), path+"["+strconv.Itoa(i)+"]")
	}
}

// dictionary reads a map of strings. Numbers and booleans in it are their text.
func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, path string) {
	if !d.want(n, yaml.MappingNode, path) {
		return
	}
	m := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if _, ok := m[key.Value]; ok {
			d.fail(key, "key %q is given twice", join(path, key.Value))
		}
		d.at[join(path, key.Value)] = position{d.file, key.Line, key.Column}
		if d.want(value, yaml.ScalarNode, join(path, key.Value)) {
			m[key.Value] = value.Value
		}
	}
	v.Set(reflect.ValueOf(m))
}

// field is what the tags of a struct field say.
type field struct {
	name  string
	index int
	oneof []string
	later string
}

func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		x := field{name: name, index: i, later: f.Tag.Get("later")}
		if words := f.Tag.Get("oneof"); words != "" {
			x.oneof = strings.Fields(words)
		}
		list = append(list, x)
	}
	return list
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
