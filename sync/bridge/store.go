package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rivulet/edge"
)

// bundle is messages that are handed in together.
type bundle struct {
	in       edge.Ingest
	messages []mqtt.Message
	items    []mqtt.Message // of them those that are in.Items
	added    []uint16       // packet ids that were not known
	bytes    int
	done     chan struct{} // closed when the commit has ended, well or not
}

// Bounds of a batch, and how many may be under way.
const (
	maxBatch      = 512
	maxBatchBytes = 512 << 10
	maxBatches    = 8
)

// store hands in what comes until the connection ends, and returns when all of it has settled.
func (l *link) store() {
	acks := make(chan *bundle, maxBatches)
	acked := make(chan struct{})
	go func() {
		defer close(acked)
		l.acknowledge(acks)
	}()
	defer func() {
		close(acks)
		<-acked
	}()
	targets := map[string]*edge.Target{}
	var epoch uint64
	for {
		b := l.gather()
		if b == nil {
			l.b.inFlight.Add(-int64(len(l.queue))) // the other side sends them again
			return
		}
		if now := l.b.o.Broker.Epoch(); now != epoch || len(targets) > 4096 {
			clear(targets)
			epoch = now
		}
		if err := l.fill(b, targets); err != nil {
			b.fail(err)
		} else {
			l.handIn(b)
		}
		acks <- b
		if !sleepFor(l.ctx, l.b.bucket.take(l.b.o.Now(), b.bytes)) {
			continue // gather finds out
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool { return d <= 0 || sleep(ctx, d) }

// gather waits for a message and takes what has come with it; nil when the connection has ended.
func (l *link) gather() *bundle {
	b := &bundle{done: make(chan struct{})}
	select {
	case m := <-l.queue:
		b.messages = append(b.messages, m)
		l.taken(m)
	case <-l.ctx.Done():
		return nil
	}
	for n := size(b.messages[0]); len(b.messages) < maxBatch && n < maxBatchBytes; {
		select {
		case m := <-l.queue:
			b.messages = append(b.messages, m)
			l.taken(m)
			n += size(m)
		default:
			return b
		}
	}
	return b
}

var errQoS = errors.New("the other broker sent a message of QoS 3 (MQTT-3.3.1-4)")

// fail ends a batch that was not taken.
func (b *bundle) fail(err error) {
	b.in.Err = err
	close(b.done)
}

// fill makes records of the messages. What can never be stored is counted and acknowledged like the rest: it would be sent again
// for ever, and hold up what is behind it. An error is the broker's, not a message's.
func (l *link) fill(b *bundle, targets map[string]*edge.Target) error {
	br := l.b
	for _, m := range b.messages {
		b.bytes += int(size(m))
		if m.Qos() > 2 {
			return errQoS
		}
		if _, ok := m.(cutMessage); ok {
			br.refuse(m, edge.ErrTooLarge)
			continue
		}
		topic, loops := br.local(m.Topic())
		if loops {
			br.looped.Add(1)
			continue
		}
		t := targets[topic]
		if t == nil {
			var err error
			if t, err = br.target(l.ctx, topic); err != nil {
				if l.ctx.Err() != nil || !atFault(err) {
					return err
				}
				br.refuse(m, err)
				continue
			}
			targets[topic] = t
		}
		if m.Qos() == 2 {
			put, isNew := br.ids.add(m.MessageID(), l.unsure && !m.Duplicate())
			if !isNew {
				br.again.Add(1)
				continue
			}
			b.added = append(b.added, m.MessageID())
			b.in.Puts = append(b.in.Puts, put)
		}
		it := edge.Item{Target: t, Retain: m.Retained()}
		it.Record.Payload = appendRecord(nil, t, m, br.o.ClientID)
		b.in.Items = append(b.in.Items, it)
		b.items = append(b.items, m)
	}
	return nil
}

// target waits while the store takes nothing: a topic may have to be made.
func (b *Bridge) target(ctx context.Context, topic string) (t *edge.Target, err error) {
	if strings.HasPrefix(topic, "$") {
		return nil, edge.ErrInvalidTopic
	}
	err = b.untilTaken(ctx, func() error {
		t, err = b.o.Broker.Target(ctx, topic)
		return err
	})
	return t, err
}

// local is a topic's name here. loops says that it has been here before, as far as the prefix tells.
func (b *Bridge) local(topic string) (name string, loops bool) {
	name = strings.TrimPrefix(topic, b.o.Strip)
	if b.o.Prefix == "" {
		return name, false
	}
	return b.o.Prefix + name, strings.HasPrefix(name, b.o.Prefix)
}

// handIn gives a batch to the broker, one message at a time if one of them is at fault.
func (l *link) handIn(b *bundle) {
	b.in.Done = func(*edge.Ingest) { close(b.done) }
	if len(b.in.Items) == 0 && len(b.in.Puts) == 0 {
		close(b.done)
		return
	}
	err := l.b.untilTaken(l.ctx, func() error { return l.b.o.Broker.Ingest(l.ctx, &b.in) })
	switch {
	case err == nil:
		return
	case l.ctx.Err() != nil || !atFault(err):
		b.fail(err)
		return
	}
	l.oneByOne(b)
	close(b.done)
}

// oneByOne is slow, and for batches with a message that the broker refuses.
func (l *link) oneByOne(b *bundle) {
	puts := b.in.Puts
	for i := range b.in.Items {
		one := edge.Ingest{Items: b.in.Items[i : i+1]}
		m := b.items[i]
		if m.Qos() == 2 {
			one.Puts, puts = puts[:1], puts[1:]
		}
		done := make(chan struct{})
		one.Done = func(*edge.Ingest) { close(done) }
		err := l.b.untilTaken(l.ctx, func() error { return l.b.o.Broker.Ingest(l.ctx, &one) })
		if err == nil {
			<-done
			err = one.Err
		}
		switch {
		case err == nil:
			if m.Qos() == 2 {
				b.added = b.added[1:]
			}
		case l.ctx.Err() != nil || !atFault(err):
			b.in.Err = err
			return
		default:
			l.b.refuse(m, err)
			b.in.Items[i].Err = err // counted
			if m.Qos() == 2 {
				l.b.ids.undo(b.added[:1])
				b.added = b.added[1:]
			}
		}
	}
}

// untilTaken tries again while the store takes nothing, or a plugin halts the topic: both wait for an operator, or for space.
func (b *Bridge) untilTaken(ctx context.Context, try func() error) error {
	pause := 50 * time.Millisecond
	waited := false
	for {
		err := try()
		if err == nil || !passes(err) {
			if waited {
				b.enter(StateRunning, nil)
			}
			return err
		}
		if !waited {
			b.o.Log.Warn("bridge waits", "bridge", b.o.Name, "err", err)
		}
		waited = true
		b.enter(StateWaiting, err)
		if !sleep(ctx, pause) {
			return err
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// passes reports whether an error ends without the message being changed.
func passes(err error) bool {
	return errors.Is(err, edge.ErrFull) || errors.Is(err, edge.ErrReadOnly) || errors.Is(err, edge.ErrHalted)
}

// atFault reports whether a message itself is why it cannot be stored: trying again would end in the same way. Anything else (the store is
// being closed, its topic was deleted meanwhile) ends the connection, and the message comes again.
func atFault(err error) bool {
	return slices.ContainsFunc([]error{
		edge.ErrInvalidTopic, edge.ErrInvalidConfig, edge.ErrInternal, edge.ErrNotAuthorized, edge.ErrTooLarge, edge.ErrRejected,
	}, func(of error) bool { return errors.Is(err, of) })
}

func (b *Bridge) refuse(m mqtt.Message, err error) {
	b.refused.Add(1)
	b.o.Log.Warn("bridge drops a message that cannot be stored", "bridge", b.o.Name, "topic", m.Topic(), "bytes", len(m.Payload()), "err", err)
}

// acknowledge acknowledges batches in order as they become durable. After a commit that failed the connection is given up: what was
// not acknowledged is sent again.
func (l *link) acknowledge(batches <-chan *bundle) {
	failed := false
	for b := range batches {
		<-b.done
		l.b.inFlight.Add(-int64(len(b.messages)))
		if err := b.in.Err; err != nil {
			failed = true
			l.cancel(err)
			l.b.ids.undo(b.added)
		}
		if failed { // nothing behind it either: what is stored and comes again is known by its id, or is QoS 1
			continue
		}
		stored := 0
		for i := range b.in.Items {
			switch err := b.in.Items[i].Err; {
			case err == nil:
				stored++
			case errors.Is(err, edge.ErrRejected):
				l.b.refused.Add(1)
			}
		}
		if stored > 0 {
			l.b.committed.Add(uint64(stored))
			l.b.bytes.Add(uint64(b.bytes))
			l.b.lastAt.Store(l.b.o.Now().UnixMilli())
		}
		for _, m := range b.messages {
			m.Ack()
		}
	}
}

// appendRecord is the record of a publish, as a device's would be.
func appendRecord(dst []byte, t *edge.Target, m mqtt.Message, client string) []byte {
	dst = append(dst, t.Head...)
	dst = binary.AppendVarint(dst, int64(len(m.Payload())))
	dst = append(dst, m.Payload()...)
	n := int64(2)
	if m.Qos() > 0 {
		n++
	}
	if m.Retained() {
		n++
	}
	dst = append(binary.AppendVarint(dst, n), t.TopicHeader...)
	if m.Qos() > 0 {
		dst = appendHeader(dst, edge.HeaderQoS, string('0'+rune(m.Qos())))
	}
	if m.Retained() {
		dst = appendHeader(dst, edge.HeaderRetain, "1")
	}
	return appendHeader(dst, edge.HeaderClient, client)
}

func appendHeader(dst []byte, name, value string) []byte {
	dst = append(binary.AppendVarint(dst, int64(len(name))), name...)
	return append(binary.AppendVarint(dst, int64(len(value))), value...)
}
