package edge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rivulet/plugins"
	"rivulet/storage"
)

// Plugin is one uploaded plugin with its revisions, newest last.
type Plugin struct {
	Name      string     `json:"name"`
	Revisions []Revision `json:"revisions"`
}

// Revision is one upload.
type Revision struct {
	Number  int       `json:"revision"`
	Version string    `json:"version,omitempty"`
	SHA256  string    `json:"sha256"`
	Bytes   int       `json:"bytes"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
	Imports []string  `json:"imports,omitempty"`
}

// keepRevisions bounds what stays on disk of a plugin that is pushed again and again.
const keepRevisions = 5

const (
	pluginSpace = "plugins"
	attachSpace = "attachments"
)

// latest is the revision that attachments run.
func (p *Plugin) latest() Revision { return p.Revisions[len(p.Revisions)-1] }

// pluginHost starts the host with the first plugin. b.mu is held.
func (b *Broker) pluginHost(ctx context.Context) (*plugins.Host, error) {
	if b.host == nil {
		o := b.o.Plugins
		if o.Log == nil {
			o.Log = b.log
		}
		h, err := plugins.NewHost(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("start plugin host: %w", err)
		}
		b.host = h
	}
	return b.host, nil
}

// PushPlugin compiles and keeps an upload; the same bytes again are the same revision. Attachments of the plugin go over
// to the new revision between two slices. Errors wrap plugins.ErrModule when the module is at fault.
func (b *Broker) PushPlugin(ctx context.Context, name, version, by string, wasm []byte) (Revision, error) {
	if err := CheckTopicName(name); err != nil {
		return Revision{}, fmt.Errorf("plugin name: %w", err)
	}
	if b.o.PluginDir == "" {
		return Revision{}, errors.New("this broker keeps no plugins: it has no plugin folder")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	host, err := b.pluginHost(ctx)
	if err != nil {
		return Revision{}, err
	}
	mod, err := host.Compile(ctx, wasm)
	if err != nil {
		return Revision{}, err
	}
	sum := sha256.Sum256(wasm)
	old := b.plugins[name]
	next := &Plugin{Name: name}
	rev := Revision{Number: 1, Version: version, SHA256: hex.EncodeToString(sum[:]), Bytes: len(wasm), At: b.now().UTC(), By: by, Imports: mod.Imports()}
	if old != nil {
		if old.latest().SHA256 == rev.SHA256 {
			return old.latest(), nil
		}
		rev.Number = old.latest().Number + 1
		next.Revisions = slices.Clone(old.Revisions)
	}
	next.Revisions = append(next.Revisions, rev)
	next.Revisions = next.Revisions[max(0, len(next.Revisions)-keepRevisions):]
	if err := b.keepWasm(rev.SHA256, wasm); err != nil {
		return Revision{}, err
	}
	value, err := json.Marshal(next)
	if err != nil {
		return Revision{}, fmt.Errorf("encode plugin: %w", err)
	}
	b.plugins[name] = next
	pipes, err := b.buildPipes(ctx, b.attachSpecs(), nil)
	if err != nil {
		b.restorePlugin(name, old)
		return Revision{}, err
	}
	if err := b.store.Do(ctx, &storage.Commit{Puts: []storage.Put{{Space: pluginSpace, Key: name, Value: value}}, Urgent: true}); err != nil {
		b.restorePlugin(name, old)
		closePipes(pipes)
		return Revision{}, err
	}
	b.swapPipes(pipes)
	b.sweepPlugins()
	return rev, nil
}

func (b *Broker) restorePlugin(name string, old *Plugin) {
	if old == nil {
		delete(b.plugins, name)
	} else {
		b.plugins[name] = old
	}
}

// DeletePlugin refuses while the plugin is attached. Errors: ErrNoPlugin, ErrAttached.
func (b *Broker) DeletePlugin(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.plugins[name] == nil {
		return fmt.Errorf("delete plugin %s: %w", name, ErrNoPlugin)
	}
	for _, a := range b.attachSpecs() {
		if a.Plugin == name {
			return fmt.Errorf("delete plugin %s: %w to %s; detach it first", name, ErrAttached, a.Topic)
		}
	}
	if err := b.store.Do(ctx, &storage.Commit{Puts: []storage.Put{{Space: pluginSpace, Key: name}}, Urgent: true}); err != nil {
		return err
	}
	delete(b.plugins, name)
	b.sweepPlugins()
	return nil
}

// Plugins lists the uploads by name. It does not wait for one that is being compiled.
func (b *Broker) Plugins() []Plugin {
	if list := b.catalog.Load(); list != nil {
		return *list
	}
	return []Plugin{}
}

// sweepPlugins lets go of what changed uploads left behind, and shows the list anew. b.mu is held.
func (b *Broker) sweepPlugins() {
	b.publishCatalog()
	b.sweepWasm()
	b.sweepHost()
}

// sweepHost frees the compiled code of what is not attached. b.mu is held.
func (b *Broker) sweepHost() {
	if b.host == nil {
		return
	}
	if err := b.host.Sweep(context.Background()); err != nil {
		b.log.Warn("free compiled plugins", "err", err)
	}
}

func (b *Broker) publishCatalog() {
	list := make([]Plugin, 0, len(b.plugins))
	for _, p := range b.plugins {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(x, y Plugin) int { return strings.Compare(x.Name, y.Name) })
	b.catalog.Store(&list)
}

// loadPlugins reads what the store knows of plugins and starts what is attached. The broker starts also when one of them does
// not: its topic is halted.
func (b *Broker) loadPlugins(ctx context.Context) error {
	var bad error
	err := b.store.Scan(pluginSpace, "", func(name string, value []byte) bool {
		p := &Plugin{}
		if err := json.Unmarshal(value, p); err != nil || len(p.Revisions) == 0 {
			bad = fmt.Errorf("plugin %s in the store is unreadable: %w", name, errors.Join(err, ErrCorrupt))
			return false
		}
		b.plugins[name] = p
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("load plugins: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.publishCatalog()
	specs, err := b.scanAttachments()
	if err != nil || len(specs) == 0 {
		return err
	}
	pipes, err := b.buildPipes(ctx, specs, func(a AttachSpec, err error) {
		b.log.Error("plugin did not start, its topic refuses records: push it again or detach it", "plugin", a.Plugin, "topic", a.Topic, "err", err)
	})
	if err != nil {
		return err
	}
	b.swapPipes(pipes)
	return nil
}

// keepWasm writes an upload under its digest, durable before the store may name it. What it could not write whole it removes. A full
// disk is an ErrFull.
func (b *Broker) keepWasm(sum string, wasm []byte) error {
	if err := os.MkdirAll(b.o.PluginDir, 0o700); err != nil {
		return fmt.Errorf("make plugin folder: %w", err)
	}
	path := filepath.Join(b.o.PluginDir, sum+".wasm")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	err := writeWasm(path, wasm)
	if err == nil {
		err = syncFolder(b.o.PluginDir)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("keep plugin of %d bytes: %w: %w; make room on the disk and push it again", len(wasm), ErrFull, err)
	case err != nil:
		return fmt.Errorf("keep plugin: %w", err)
	}
	return nil
}

// writeWasm leaves a whole file, or none.
func writeWasm(path string, wasm []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(wasm); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // on a full disk it takes what somebody else needs
	}
	return err
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (b *Broker) readWasm(sum string) ([]byte, error) {
	wasm, err := os.ReadFile(filepath.Join(b.o.PluginDir, sum+".wasm"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("upload %s.wasm is missing from %s: push the plugin again", sum, b.o.PluginDir)
	}
	if err != nil {
		return nil, fmt.Errorf("read plugin: %w", err)
	}
	if got := sha256.Sum256(wasm); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("upload %s.wasm: %w: push the plugin again", sum, ErrCorrupt)
	}
	return wasm, nil
}

// sweepWasm deletes uploads that no revision names any more, and halves that a crash left. What it cannot delete it leaves for the next time.
func (b *Broker) sweepWasm() {
	keep := map[string]bool{}
	for _, p := range b.plugins {
		for _, r := range p.Revisions {
			keep[r.SHA256+".wasm"] = true
		}
	}
	files, err := os.ReadDir(b.o.PluginDir)
	if err != nil {
		return
	}
	for _, f := range files {
		if name := f.Name(); !f.IsDir() && (strings.HasSuffix(name, ".wasm") || strings.HasSuffix(name, ".wasm.tmp")) && !keep[name] {
			if err := os.Remove(filepath.Join(b.o.PluginDir, name)); err != nil {
				b.log.Warn("delete old plugin", "file", name, "err", err)
			}
		}
	}
}
