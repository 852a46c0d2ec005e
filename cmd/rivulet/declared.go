package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"rivulet/cmd/rivulet/config"
	"rivulet/edge"
	"rivulet/plugins"
	"rivulet/storage"
)

// What the file declares is remembered, so that what it no longer declares can be detached: an attachment that the API made is
// left alone.
const (
	declaredSpace = "declared"
	declaredKey   = "plugins"
)

type declaredPlugin struct {
	Plugin string `json:"plugin"`
	Topic  string `json:"topic"`
}

// declarePlugins pushes and attaches what the configuration says, and detaches what it said at the last start and says no more.
func declarePlugins(ctx context.Context, b *edge.Broker, list []config.Plugin) error {
	var before, now []declaredPlugin
	value, err := b.Store().Get(declaredSpace, declaredKey)
	if err != nil {
		return fmt.Errorf("load declared plugins: %w", err)
	}
	if value == nil && len(list) == 0 {
		return nil
	}
	if value != nil {
		if err := json.Unmarshal(value, &before); err != nil {
			return fmt.Errorf("load declared plugins: %w", err)
		}
	}
	for _, p := range list {
		now = append(now, declaredPlugin{p.Name, p.Topic})
		if err := declarePlugin(ctx, b, p); err != nil {
			return fmt.Errorf("plugin %s of the configuration: %w", p.Name, err)
		}
	}
	for _, d := range before {
		if slices.Contains(now, d) {
			continue
		}
		if err := b.DetachPlugin(ctx, d.Plugin, d.Topic); err != nil && !errors.Is(err, edge.ErrNotAttached) {
			return err
		}
	}
	if slices.Equal(before, now) {
		return nil
	}
	if value, err = json.Marshal(now); err != nil {
		return fmt.Errorf("encode declared plugins: %w", err)
	}
	return b.Store().Do(ctx, &storage.Commit{Puts: []storage.Put{{Space: declaredSpace, Key: declaredKey, Value: value}}, Urgent: true})
}

func declarePlugin(ctx context.Context, b *edge.Broker, p config.Plugin) error {
	wasm, err := os.ReadFile(p.File)
	if err != nil {
		return err
	}
	if _, err := b.PushPlugin(ctx, p.Name, p.Version, "configuration", wasm); err != nil {
		return err
	}
	return b.AttachPlugin(ctx, edge.AttachSpec{
		Plugin: p.Name, Topic: p.Topic, Stage: p.Stage, Outputs: p.Output, Set: p.Set, OnError: plugins.OnError(p.OnError), Order: p.Order,
	})
}
