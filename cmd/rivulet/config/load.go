package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read: a configuration of this size is a mistake.
const maxFile = 4 << 20

// Load reads a file ("" for none) and the environment over the defaults. Files that it names are taken as relative to it.
// It does not call Check. The error is Errors when the content is at fault.
func Load(file string, environ []string) (*Config, error) {
	c := Default()
	var errs Errors
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		errs = c.parse(file, data)
		c.relativeTo(filepath.Dir(file))
	}
	errs = append(errs, c.environment(environ)...)
	if len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

// Parse reads one document over the defaults, for tests and for what does not come from a file.
func Parse(name string, data []byte) (*Config, error) {
	c := Default()
	if errs := c.parse(name, data); len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

func (c *Config) parse(name string, data []byte) Errors {
	d := &decoder{file: name, at: c.at}
	if len(data) > maxFile {
		d.fail(nil, "%d bytes are too long for a configuration", len(data))
		return d.errs
	}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := reader.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // empty: the defaults
	case err != nil:
		d.syntax(err)
		return d.errs
	}
	d.decode(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	var second yaml.Node
	switch err := reader.Decode(&second); {
	case err == nil:
		d.fail(&second, "a second document begins here; a configuration is one document")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	return d.errs
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax tells an error of the YAML reader, which knows the line alone.
func (d *decoder) syntax(err error) {
	e := &Error{File: d.file, Text: err.Error()}
	if m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " ")); m != nil {
		e.Text = "not YAML: " + m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			e.Line, e.Column = n, 1
		}
	}
	d.errs = append(d.errs, e)
}

// relativeTo makes the files that the configuration names relative to its own folder.
func (c *Config) relativeTo(dir string) {
	place := func(names ...*string) {
		for _, name := range names {
			if *name != "" && !filepath.IsAbs(*name) {
				*name = filepath.Join(dir, *name)
			}
		}
	}
	for _, l := range c.Listeners.all() {
		if path := l.Socket(); path != "" {
			place(&path)
			l.Addr = "unix:" + path
		}
		if t := l.TLS; t != nil {
			place(&t.Cert, &t.Key, &t.ClientCA, &t.CRL)
		}
	}
	place(&c.Auth.UsersFile)
	if j := c.Auth.JWT; j != nil {
		for i := range j.Keys {
			place(&j.Keys[i])
		}
	}
	for i := range c.Plugins {
		place(&c.Plugins[i].File)
	}
	for i := range c.Bridges {
		if t := c.Bridges[i].TLS; t != nil {
			place(&t.CA, &t.Cert, &t.Key)
		}
		place(&c.Bridges[i].PasswordFile)
	}
	for i := range c.Sync {
		if t := c.Sync[i].Kafka.TLS; t != nil {
			place(&t.CA, &t.Cert, &t.Key)
		}
		if s := c.Sync[i].Kafka.SASL; s != nil {
			place(&s.PasswordFile)
		}
	}
}
