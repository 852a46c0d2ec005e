package config

import (
	"context"

	"rivulet/edge"
)

// nothing is a store that forgets.
type nothing struct{}

func (nothing) Do(context.Context, *edge.Commit) error                         { return nil }
func (nothing) Scan(string, string, func(key string, value []byte) bool) error { return nil }
