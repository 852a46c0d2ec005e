package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"

	"go.yaml.in/yaml/v3"

	"rivulet/edge/auth"
)

// usersFile is the file that auth.users_file names.
type usersFile struct {
	Users []fileUser `yaml:"users"`
}

// fileUser is one user in it. `rivulet user hash` makes the lines of scram.
type fileUser struct {
	Name     string   `yaml:"name"`
	Groups   []string `yaml:"groups,omitempty"`
	Disabled bool     `yaml:"disabled,omitempty"`
	SCRAM    []string `yaml:"scram,omitempty"`
}

// ParseUsers reads a users file. The result is never nil without an error. The error is Errors when the content is at fault; it
// quotes nothing of a credential.
func ParseUsers(name string, data []byte) ([]auth.User, error) {
	var f usersFile
	d := &decoder{file: name, at: positions{}}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := reader.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return []auth.User{}, nil
	case err != nil:
		d.syntax(err)
		return nil, d.errs
	}
	d.decode(doc.Content[0], reflect.ValueOf(&f).Elem(), "")
	if err := reader.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		d.fail(nil, "a users file is one document")
	}
	list := make([]auth.User, 0, len(f.Users))
	seen := map[string]bool{}
	for i, u := range f.Users {
		fail := func(key string, err error) {
			at, _ := d.at.of(fmt.Sprintf("users[%d]%s", i, key))
			d.errs = append(d.errs, &Error{File: name, Line: at.line, Column: at.column, Text: fmt.Sprintf("users[%d]%s: %s", i, key, err)})
		}
		user := auth.User{Name: u.Name, Groups: u.Groups, Disabled: u.Disabled}
		if err := auth.CheckUserName(u.Name); err != nil {
			fail("", err)
		}
		if seen[u.Name] {
			fail(".name", fmt.Errorf("user %s is there twice", u.Name))
		}
		seen[u.Name] = true
		for j, text := range u.SCRAM {
			c, err := auth.ParseCredential(text)
			if err != nil {
				fail(fmt.Sprintf(".scram[%d]", j), err)
				continue
			}
			user.Credentials = append(user.Credentials, c)
		}
		if err := user.Check(); err != nil && len(d.errs) == 0 {
			fail("", err)
		}
		list = append(list, user)
	}
	if len(d.errs) > 0 {
		return nil, d.errs
	}
	return list, nil
}

// PrintUser is a user as an entry of a users file.
func PrintUser(u auth.User) ([]byte, error) {
	f := fileUser{Name: u.Name, Groups: u.Groups, Disabled: u.Disabled}
	for _, c := range u.Credentials {
		f.SCRAM = append(f.SCRAM, c.String())
	}
	out, err := yaml.Marshal([]fileUser{f})
	if err != nil {
		return nil, fmt.Errorf("encode user: %w", err)
	}
	return out, nil
}
