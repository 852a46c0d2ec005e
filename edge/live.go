package edge

import (
	"context"
	"slices"

	"rivulet/storage/batch"
)

// LiveMessage is a message of a route with `store: none`: it is delivered to who is there, and never logged.
type LiveMessage struct {
	Topic  string // MQTT
	Record batch.Record
}

// LiveSink delivers such messages, in order. It keeps nothing of msgs, may wait for room until ctx ends, and then drops the rest.
// Calls come from many goroutines at once.
type LiveSink func(ctx context.Context, msgs []LiveMessage)

// AttachLive adds a sink for as long as detach is not called.
func (b *Broker) AttachLive(sink LiveSink) (detach func()) {
	entry := &sink
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLive(append(b.liveSinks(), entry))
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.setLive(slices.DeleteFunc(b.liveSinks(), func(s *LiveSink) bool { return s == entry }))
	}
}

func (b *Broker) liveSinks() []*LiveSink {
	if list := b.live.Load(); list != nil {
		return slices.Clone(*list)
	}
	return nil
}

func (b *Broker) setLive(list []*LiveSink) { b.live.Store(&list) }

func (b *Broker) deliverLive(ctx context.Context, msgs []LiveMessage) {
	list := b.live.Load()
	if list == nil {
		return
	}
	for _, sink := range *list {
		(*sink)(ctx, msgs)
	}
}

// cloneLive copies what is to be delivered after the records' memory went back to the front end.
func cloneLive(msgs []LiveMessage) []LiveMessage {
	msgs = slices.Clone(msgs)
	for i := range msgs {
		msgs[i].Record.Payload = slices.Clone(msgs[i].Record.Payload)
	}
	return msgs
}
