package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mask stands for a secret.
const mask = "********"

// Print writes the configuration as YAML that Load takes, with secrets masked. Passwords and keys are in files of their own,
// of which the name is shown; what looks like a secret among a plugin's settings is masked.
func (c *Config) Print(w io.Writer) error {
	shown := *c
	shown.Plugins = slices.Clone(c.Plugins)
	for i := range shown.Plugins {
		set := maps.Clone(shown.Plugins[i].Set)
		for k := range set {
			if secret(k) {
				set[k] = mask
			}
		}
		shown.Plugins[i].Set = set
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&shown); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return e.Close()
}

func secret(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"password", "passwd", "secret", "token", "credential", "apikey", "api_key", "private"}, func(word string) bool {
		return strings.Contains(key, word)
	})
}
