package edge

import (
	"context"
	"fmt"
	"maps"
)

// SetRoutes replaces all routes. What is published from now on goes by the new ones; a slice that is on its way goes by the old ones.
func (b *Broker) SetRoutes(routes []Route) error {
	t, err := compileRoutes(routes)
	if err != nil {
		return err
	}
	old := b.routes.Swap(t)
	b.warnClaims(old, t)
	b.changes.Add(1) // behind it: who sees the new epoch sees the new routes
	return nil
}

// warnClaims says which topics have records whose mqtt.topic headers count from now on, although nobody asked then whether their producers may
// publish there: a header is looked at when its record comes, on topics that routes write to (claim.go).
func (b *Broker) warnClaims(old, now *routeTable) {
	if b.o.Authorize == nil {
		return
	}
	for _, t := range b.store.Topics() {
		if Internal(t.Name) || t.Name == DefaultTopic || old.writesTo(t.Name) || !now.writesTo(t.Name) {
			continue
		}
		for _, p := range t.Partitions {
			if start, _, high := p.Offsets(); high > start {
				b.log.Warn("a route leads to a topic that has records: their mqtt.topic headers name them for MQTT subscribers from now on, although they were never checked; trim the topic if others than the broker could write to it", "topic", t.Name)
				break
			}
		}
	}
}

// CheckDeclared says what DeclareTopic would refuse now; it changes nothing.
func (b *Broker) CheckDeclared(spec TopicSpec) error {
	if err := CheckTopicName(spec.Name); err != nil {
		return err
	}
	if err := CheckTopicConfig(spec.Config); err != nil {
		return err
	}
	if spec.Partitions < 0 || spec.Partitions > MaxPartitions {
		return fmt.Errorf("%w: %d partitions, want 1 to %d", ErrInvalidConfig, spec.Partitions, MaxPartitions)
	}
	if t, ok := b.store.Topic(spec.Name); ok && spec.Partitions != 0 && spec.Partitions < len(t.Partitions) {
		return fmt.Errorf("%w: it has %d partitions, which cannot shrink to %d", ErrInvalidConfig, len(t.Partitions), spec.Partitions)
	}
	return nil
}

// DeclareTopic makes a configured topic, or brings an existing one to its partitions and configuration. Keys that the specification does not
// name stay as they are. It reports whether anything changed.
func (b *Broker) DeclareTopic(ctx context.Context, spec TopicSpec) (changed bool, err error) {
	if err := b.CheckDeclared(spec); err != nil {
		return false, err
	}
	b.topicMu.Lock() // read, change, write
	defer b.topicMu.Unlock()
	t, ok := b.store.Topic(spec.Name)
	if !ok {
		_, err := b.CreateTopic(ctx, spec)
		return err == nil, err
	}
	if spec.Partitions > len(t.Partitions) {
		if _, err := b.store.AddPartitions(ctx, spec.Name, spec.Partitions); err != nil {
			return false, err
		}
		changed = true
	}
	config := maps.Clone(t.Config)
	if config == nil {
		config = map[string]string{}
	}
	maps.Copy(config, spec.Config)
	if maps.Equal(config, t.Config) {
		return changed, nil
	}
	_, err = b.store.AlterTopic(ctx, spec.Name, config)
	return changed || err == nil, err
}
