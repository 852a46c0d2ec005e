package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"rivulet/edge"
	"rivulet/edge/auth"
	edgehttp "rivulet/edge/http"
	"rivulet/storage/batch"
)

// auditTopicName is where the audit log goes besides the log.
const auditTopicName = "_rivulet-audit"

// auditConfig bounds it: 32 MiB, thirty days.
var auditConfig = map[string]string{"retention.bytes": "33554432", "retention.ms": "2592000000"}

// openAuthority reads users and rules, from the files and from the store.
func (s *server) openAuthority() error {
	c, err := s.cfg.Authority()
	if err != nil {
		return err
	}
	var broker atomic.Pointer[edge.Broker]
	s.auth, err = auth.New(auth.Options{
		Store: s.store, Edge: s.cfg.Edge, Config: c, Log: s.log,
		Changed: func() {
			if b := broker.Load(); b != nil {
				b.PermissionsChanged()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("open users and rules: %w", err)
	}
	s.brokerOpened = broker.Store
	s.warnStale(c)
	return nil
}

// warnStale says which revocation lists wait for their successor. They are taken as they are: a gateway that cannot reach its authority
// goes on.
func (s *server) warnStale(c auth.Config) {
	for _, r := range c.Revoked {
		if until := r.Until(); !until.IsZero() && time.Now().After(until) {
			s.log.Warn("a revocation list is out of date; what was revoked since is let in", "next_update", until)
		}
	}
}

// warnOpen says what an open door means, since the configuration alone does not show it.
func (s *server) warnOpen() {
	switch {
	case s.auth.Open():
		for _, l := range s.cfg.NetworkListeners() {
			s.log.Warn("whoever reaches this address may do everything, administration too: auth.anonymous is true and there is no rule", "listener", l)
		}
	case !s.auth.Usable():
		s.log.Warn("clients have to log in, and nobody may do anything yet: make a user (rivulet user add NAME --admin --server unix:DATA_DIR/admin.sock) and rules (rivulet acl allow)")
	}
}

// auditTopic writes the audit log to a topic.
type auditTopic struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func openAudit(b *edge.Broker, a *auth.Authority) *auditTopic {
	run, stop := context.WithCancel(context.Background())
	t := &auditTopic{stop: stop}
	t.wg.Go(func() {
		a.Start(run, func(_ context.Context, events [][]byte) error { return writeAudit(b, events) })
	})
	return t
}

// auditTimeout bounds the wait for a store that takes nothing: the log has the events, too.
const auditTimeout = 10 * time.Second

// writeAudit makes the topic with the first event.
func writeAudit(b *edge.Broker, events [][]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	topic, ok := b.Store().Topic(auditTopicName)
	if !ok {
		var err error
		if topic, err = b.CreateTopic(ctx, edge.TopicSpec{Name: auditTopicName, Partitions: 1, Config: auditConfig}); err != nil {
			return fmt.Errorf("make the audit topic: %w", err)
		}
	}
	done := make(chan struct{})
	in := &edge.Ingest{Items: make([]edge.Item, len(events)), Done: func(*edge.Ingest) { close(done) }}
	for i, e := range events {
		in.Items[i] = edge.Item{Topic: topic, Partition: 0}
		in.Items[i].Record.Payload = batch.AppendPayload(nil, nil, e, nil)
	}
	if err := b.Ingest(ctx, in); err != nil {
		return err
	}
	<-done
	return in.Err
}

func (t *auditTopic) close() {
	t.stop()
	t.wg.Wait()
}

// ownersDoor is the HTTP side on the admin socket.
type ownersDoor struct{ *edgehttp.Server }

func (d ownersDoor) Serve(ctx context.Context, l net.Listener) error { return d.ServeOwner(ctx, l) }
