package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// pluginFile is a plugin of the configuration with what its file holds.
type pluginFile struct {
	config.Plugin
	wasm []byte
}

func (p pluginFile) spec() edge.AttachSpec {
	return edge.AttachSpec{
		Plugin: p.Name, Topic: p.Topic, Stage: p.Stage, Outputs: p.Output, Set: p.Set, OnError: plugins.OnError(p.OnError), Order: p.Order,
	}
}

// attached reports whether the broker runs this very module with this very attachment.
func (p pluginFile) attached(b *edge.Broker) bool {
	sum := sha256.Sum256(p.wasm)
	for _, have := range b.Plugins() {
		if latest := have.Revisions[len(have.Revisions)-1]; have.Name != p.Name || latest.SHA256 != hex.EncodeToString(sum[:]) {
			continue
		}
		return slices.ContainsFunc(b.Attachments(), func(a edge.AttachmentInfo) bool { return a.Equal(p.spec()) })
	}
	return false
}

// readPlugins reads the files of the plugins.
func readPlugins(c *config.Config) ([]pluginFile, error) {
	var list []pluginFile
	for i, p := range c.Plugins {
		wasm, err := os.ReadFile(p.File)
		if err != nil {
			return nil, c.At(fmt.Sprintf("plugins[%d].file", i), err)
		}
		list = append(list, pluginFile{p, wasm})
	}
	return list, nil
}

// checkPlugins starts every plugin that is not running as it should, and ends it again.
func checkPlugins(ctx context.Context, b *edge.Broker, c *config.Config, list []pluginFile) error {
	for i, p := range list {
		if p.attached(b) {
			continue
		}
		if err := b.CheckPlugin(ctx, p.wasm, p.spec()); err != nil {
			return c.At(fmt.Sprintf("plugins[%d]", i), err)
		}
	}
	return nil
}

// declarePlugins pushes and attaches what the configuration says, and detaches what it said before and says no more. What runs as it should
// is left running. It reports whether anything changed.
func declarePlugins(ctx context.Context, b *edge.Broker, list []pluginFile) (changed bool, err error) {
	var before, now []declaredPlugin
	value, err := b.Store().Get(declaredSpace, declaredKey)
	if err != nil {
		return false, fmt.Errorf("load declared plugins: %w", err)
	}
	if value == nil && len(list) == 0 {
		return false, nil
	}
	if value != nil {
		if err := json.Unmarshal(value, &before); err != nil {
			return false, fmt.Errorf("load declared plugins: %w", err)
		}
	}
	for _, p := range list {
		now = append(now, declaredPlugin{p.Name, p.Topic})
		if p.attached(b) {
			continue
		}
		changed = true
		_, err := b.PushPlugin(ctx, p.Name, p.Version, "configuration", p.wasm)
		if err == nil {
			err = b.AttachPlugin(ctx, p.spec())
		}
		if err != nil {
			return changed, fmt.Errorf("plugin %s of the configuration: %w", p.Name, err)
		}
	}
	for _, d := range before {
		if slices.Contains(now, d) {
			continue
		}
		changed = true
		if err := b.DetachPlugin(ctx, d.Plugin, d.Topic); err != nil && !errors.Is(err, edge.ErrNotAttached) {
			return changed, err
		}
	}
	if slices.Equal(before, now) {
		return changed, nil
	}
	if value, err = json.Marshal(now); err != nil {
		return changed, fmt.Errorf("encode declared plugins: %w", err)
	}
	return true, b.Store().Do(ctx, &storage.Commit{Puts: []storage.Put{{Space: declaredSpace, Key: declaredKey, Value: value}}, Urgent: true})
}
