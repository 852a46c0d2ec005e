package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rivulet/plugins"
	"rivulet/storage"
)

// AttachSpec binds a plugin to a topic.
type AttachSpec struct {
	Plugin  string            `json:"plugin"`
	Topic   string            `json:"topic"`
	Stage   string            `json:"stage"` // ingest
	Outputs []string          `json:"outputs,omitempty"`
	Set     map[string]string `json:"set,omitempty"`
	OnError plugins.OnError   `json:"on_error"`
	Order   int               `json:"order"`
}

// AttachmentInfo is a spec with its counters.
type AttachmentInfo struct {
	AttachSpec
	Revision int           `json:"revision"`
	Stats    plugins.Stats `json:"stats"`
}

func (a AttachSpec) key() string { return a.Topic + "\x00" + a.Plugin }

// AttachPlugin binds a plugin to a topic, or changes the binding; what is published after it returned passes the plugin.
// Errors: ErrNoPlugin, plugins.ErrModule.
func (b *Broker) AttachPlugin(ctx context.Context, a AttachSpec) error {
	a.defaults()
	if err := a.check(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.plugins[a.Plugin] == nil {
		return fmt.Errorf("attach plugin %s: %w; push it first", a.Plugin, ErrNoPlugin)
	}
	if _, err := b.EnsureTopic(ctx, a.Topic); err != nil {
		return err
	}
	value, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode attachment: %w", err)
	}
	specs := slices.DeleteFunc(b.attachSpecs(), func(o AttachSpec) bool { return o.key() == a.key() })
	return b.commitPipes(ctx, append(specs, a), storage.Put{Space: attachSpace, Key: a.key(), Value: value})
}

// DetachPlugin ends a binding. Errors: ErrNotAttached.
func (b *Broker) DetachPlugin(ctx context.Context, plugin, topic string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := AttachSpec{Plugin: plugin, Topic: topic}.key()
	specs := b.attachSpecs()
	rest := slices.DeleteFunc(slices.Clone(specs), func(o AttachSpec) bool { return o.key() == key })
	if len(rest) == len(specs) {
		return fmt.Errorf("detach %s from %s: %w", plugin, topic, ErrNotAttached)
	}
	return b.commitPipes(ctx, rest, storage.Put{Space: attachSpace, Key: key})
}

// Attachments lists the bindings by topic and order.
func (b *Broker) Attachments() []AttachmentInfo {
	var list []AttachmentInfo
	if pipes := b.pipes.Load(); pipes != nil {
		for _, p := range *pipes {
			p.mu.RLock()
			for _, l := range p.links {
				list = append(list, AttachmentInfo{AttachSpec: l.spec, Revision: l.rev.Number, Stats: l.stats()})
			}
			p.mu.RUnlock()
		}
	}
	slices.SortFunc(list, func(x, y AttachmentInfo) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), x.Order-y.Order, strings.Compare(x.Plugin, y.Plugin))
	})
	return list
}

func (a *AttachSpec) defaults() {
	a.Stage, a.OnError = cmp.Or(a.Stage, "ingest"), cmp.Or(a.OnError, plugins.DeadLetter)
}

// Equal reports whether two specifications mean the same.
func (a AttachSpec) Equal(o AttachSpec) bool {
	a.defaults()
	o.defaults()
	return a.Plugin == o.Plugin && a.Topic == o.Topic && a.Stage == o.Stage && a.OnError == o.OnError && a.Order == o.Order &&
		slices.Equal(a.Outputs, o.Outputs) && maps.Equal(a.Set, o.Set)
}

func (a AttachSpec) check() error {
	if a.Stage != "ingest" {
		return fmt.Errorf("%w: stage %q: only ingest is supported", ErrInvalidConfig, a.Stage)
	}
	switch a.OnError {
	case plugins.DeadLetter, plugins.Drop, plugins.Pass, plugins.Reject, plugins.Halt:
	default:
		return fmt.Errorf("%w: on_error %q: want dlq, drop, pass, reject or halt", ErrInvalidConfig, a.OnError)
	}
	for _, t := range append([]string{a.Topic}, a.Outputs...) {
		if err := CheckTopicName(t); err != nil {
			return err
		}
		if Internal(t) {
			return fmt.Errorf("attach to %s: %w", t, ErrInternal)
		}
	}
	return nil
}

// attachSpecs are the bindings in force. b.mu is held.
func (b *Broker) attachSpecs() []AttachSpec {
	var specs []AttachSpec
	for _, a := range b.Attachments() {
		specs = append(specs, a.AttachSpec)
	}
	return specs
}

func (b *Broker) scanAttachments() (specs []AttachSpec, err error) {
	var bad error
	err = b.store.Scan(attachSpace, "", func(key string, value []byte) bool {
		var a AttachSpec
		if bad = json.Unmarshal(value, &a); bad != nil {
			bad = fmt.Errorf("attachment %q in the store is unreadable: %w", key, bad)
			return false
		}
		specs = append(specs, a)
		return true
	})
	return specs, errors.Join(err, bad)
}

// commitPipes starts the new pipelines, makes the change durable and then puts them in force. b.mu is held.
func (b *Broker) commitPipes(ctx context.Context, specs []AttachSpec, put storage.Put) error {
	pipes, err := b.buildPipes(ctx, specs, nil)
	if err != nil {
		return err
	}
	if err := b.store.Do(ctx, &storage.Commit{Puts: []storage.Put{put}, Urgent: true}); err != nil {
		closePipes(pipes)
		return err
	}
	b.swapPipes(pipes)
	b.sweepHost()
	return nil
}

// buildPipes starts every binding anew. A binding that does not start is an error, or, when broken is given, a link that
// refuses records after broken was told. b.mu is held.
func (b *Broker) buildPipes(ctx context.Context, specs []AttachSpec, broken func(AttachSpec, error)) (map[string]*pipeline, error) {
	slices.SortStableFunc(specs, func(x, y AttachSpec) int { return cmp.Or(x.Order-y.Order, strings.Compare(x.Plugin, y.Plugin)) })
	pipes := map[string]*pipeline{}
	for _, a := range specs {
		l, err := b.start(ctx, a)
		if err != nil && broken == nil {
			closePipes(pipes)
			return nil, fmt.Errorf("attach plugin %s to %s: %w", a.Plugin, a.Topic, err)
		}
		if err != nil {
			broken(a, err)
			l = link{spec: a, broken: err}
		}
		if pipes[a.Topic] == nil {
			pipes[a.Topic] = &pipeline{}
		}
		pipes[a.Topic].links = append(pipes[a.Topic].links, l)
	}
	return pipes, nil
}

func (b *Broker) start(ctx context.Context, a AttachSpec) (link, error) {
	p := b.plugins[a.Plugin]
	if p == nil {
		return link{}, ErrNoPlugin
	}
	host, err := b.pluginHost(ctx)
	if err != nil {
		return link{}, err
	}
	wasm, err := b.readWasm(p.latest().SHA256)
	if err != nil {
		return link{}, err
	}
	mod, err := host.Compile(ctx, wasm)
	if err != nil {
		return link{}, err
	}
	att, err := host.Attach(ctx, mod, plugins.AttachOptions{
		Name: a.Plugin, Revision: p.latest().Number, Input: a.Topic, Outputs: a.Outputs, Env: a.Set, OnError: a.OnError, Lanes: lanes(),
		Log: func(stderr bool, line string) {
			b.log.Info("plugin says", "plugin", a.Plugin, "stderr", stderr, "line", line)
		},
	})
	if err != nil {
		return link{}, err
	}
	return link{spec: a, rev: p.latest(), att: att}, nil
}

// swapPipes puts pipelines in force; the old ones end when the slices in them are through. b.mu is held.
func (b *Broker) swapPipes(pipes map[string]*pipeline) {
	next := &pipes
	if len(pipes) == 0 {
		next = nil
	}
	old := b.pipes.Swap(next)
	b.changes.Add(1)
	if old != nil {
		closePipes(*old)
	}
}

func closePipes(pipes map[string]*pipeline) {
	for _, p := range pipes {
		p.close()
	}
}
