package config

import (
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"rivulet/edge"
)

// Print writes the configuration as YAML that Load takes, with secrets masked. Passwords and keys are in files of their own,
// of which the name is shown; what looks like a secret among a plugin's settings is masked.
func (c *Config) Print(w io.Writer) error {
	shown := *c
	shown.Plugins = slices.Clone(c.Plugins)
	for i := range shown.Plugins {
		shown.Plugins[i].Set = edge.Masked(shown.Plugins[i].Set)
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&shown); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return e.Close()
}
