package config

import (
	"encoding"
	"errors"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

const envPrefix = "RIVULET_"

// environment lays RIVULET_… over the configuration. Variables that name no key are left alone: clients have theirs, too.
func (c *Config) environment(environ []string) Errors {
	env := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	var errs Errors
	c.overlay(env, reflect.ValueOf(c).Elem(), "", &errs)
	return errs
}

// overlay walks through the keys, since a variable's name alone does not tell where a key with an underscore ends.
func (c *Config) overlay(env map[string]string, v reflect.Value, path string, errs *Errors) {
	for _, f := range fieldsOf(v.Type()) {
		fv, fpath := v.Field(f.index), join(path, f.name)
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(fpath, ".", "_"))
		if _, text := reflect.TypeAssert[encoding.TextUnmarshaler](fv.Addr()); !text {
			if fv.Kind() == reflect.Struct {
				c.overlay(env, fv, fpath, errs)
				continue
			}
			if fv.Kind() == reflect.Pointer && fv.Type().Elem().Kind() == reflect.Struct {
				if anyBelow(env, name) {
					if fv.IsNil() {
						fv.Set(reflect.New(fv.Type().Elem()))
					}
					c.overlay(env, fv.Elem(), fpath, errs)
				}
				continue
			}
		}
		value, ok := env[name]
		if !ok {
			continue
		}
		d := &decoder{file: name, at: c.at}
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
		if k := fv.Kind(); k == reflect.Slice || k == reflect.Map {
			var doc yaml.Node
			if err := yaml.NewDecoder(strings.NewReader(value)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
				d.syntax(err)
			} else if len(doc.Content) > 0 {
				n = doc.Content[0]
			}
		}
		if len(d.errs) == 0 {
			d.decode(n, fv, fpath)
		}
		if len(d.errs) == 0 {
			d.restrict(f, fv, fpath, n, n)
		}
		*errs = append(*errs, d.errs...)
	}
}

func anyBelow(env map[string]string, name string) bool {
	for k := range env {
		if strings.HasPrefix(k, name+"_") {
			return true
		}
	}
	return false
}
