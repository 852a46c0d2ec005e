package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/plugins"
	"rivulet/storage"
)

// DefaultTopic takes what no route matches, so that nothing a device sent is lost for want of configuration.
const DefaultTopic = "mqtt"

// Options of a broker. The zero value of every field but Store is its default.
type Options struct {
	Edge       string // id of this edge
	Store      *storage.Store
	Plugins    plugins.Options // the host starts with the first plugin, so that a broker without one does not pay for it
	PluginDir  string          // where uploads are kept, by sha256; empty: plugins are refused
	Routes     []Route
	Topics     []TopicSpec
	Partitions int        // of a topic that is made on first use; default 1, and 4 for `mqtt`
	Authorize  Authorizer // nil: everything is allowed
	Now        func() time.Time
	Log        *slog.Logger
}

// Broker is one edge broker. All methods may be called by many goroutines.
type Broker struct {
	o     Options
	store *storage.Store
	log   *slog.Logger
	now   func() time.Time

	routes   atomic.Pointer[routeTable]
	changes  atomic.Uint64 // of routes, attachments and permissions; part of Epoch
	pipes    atomic.Pointer[map[string]*pipeline]
	catalog  atomic.Pointer[[]Plugin]
	live     atomic.Pointer[[]*LiveSink]
	retained retained
	rr       atomic.Uint32 // round robin over partitions for records without key

	messagesIn, bytesIn   atomic.Uint64
	messagesOut, bytesOut atomic.Uint64

	groups *Groups
	txns   *Txns

	topicMu sync.Mutex // one AlterTopic at a time

	mu      sync.Mutex // guards what follows, and changes of pipes
	host    *plugins.Host
	plugins map[string]*Plugin
}

// Open makes declared topics, loads retained messages, plugins and their attachments.
func Open(ctx context.Context, o Options) (*Broker, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	routes, err := compileRoutes(o.Routes)
	if err != nil {
		return nil, err
	}
	b := &Broker{o: o, store: o.Store, log: o.Log, now: o.Now, plugins: map[string]*Plugin{}}
	b.routes.Store(routes)
	for _, t := range o.Topics {
		if _, err := b.DeclareTopic(ctx, t); err != nil {
			return nil, fmt.Errorf("declare topic %s: %w", t.Name, err)
		}
	}
	if err := b.retained.load(b.store); err != nil {
		return nil, err
	}
	if b.groups, err = NewGroups(o.Store, GroupOptions{Now: o.Now, Log: o.Log}); err != nil {
		return nil, err
	}
	if b.txns, err = NewTxns(ctx, o.Store, b.groups, TxnOptions{Now: o.Now, Log: o.Log}); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := b.loadPlugins(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Groups coordinates consumer groups.
func (b *Broker) Groups() *Groups { return b.groups }

// Txns coordinates transactions.
func (b *Broker) Txns() *Txns { return b.txns }

// Close ends the plugins and the coordinators. The store is the caller's.
func (b *Broker) Close() error {
	if b.txns != nil {
		b.txns.Close()
	}
	if b.groups != nil {
		b.groups.Close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.pipes.Swap(nil); old != nil {
		for _, p := range *old {
			p.close()
		}
	}
	if b.host == nil {
		return nil
	}
	err := b.host.Close(context.Background())
	b.host = nil
	return err
}

// Edge is this edge's id.
func (b *Broker) Edge() string { return b.o.Edge }

// Store is the broker's log, for readers: Topic, Topics, Frames, WatchAll, Get, Scan, LastSeq.
func (b *Broker) Store() *storage.Store { return b.store }

// Epoch grows when topics, routes, attachments or permissions change. What Target returned is good while it stays the same.
func (b *Broker) Epoch() uint64 { return b.store.Epoch() + b.changes.Load() }

// Counters of the path since Open.
type Counters struct {
	MessagesIn  uint64 `json:"messages_in"`
	BytesIn     uint64 `json:"bytes_in"` // payload bytes of what was committed, before plugins
	MessagesOut uint64 `json:"messages_out"`
	BytesOut    uint64 `json:"bytes_out"`
}

// Counters returns a snapshot.
func (b *Broker) Counters() Counters {
	return Counters{
		MessagesIn: b.messagesIn.Load(), BytesIn: b.bytesIn.Load(),
		MessagesOut: b.messagesOut.Load(), BytesOut: b.bytesOut.Load(),
	}
}

// CountOut adds deliveries to readers; front ends call it once per slice.
func (b *Broker) CountOut(messages, bytes int) {
	b.messagesOut.Add(uint64(messages))
	b.bytesOut.Add(uint64(bytes))
}
