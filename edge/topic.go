package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"rivulet/storage"
)

// TopicSpec declares a topic.
type TopicSpec struct {
	Name       string
	Partitions int               // 0: the default
	Config     map[string]string // Kafka's names; ours begin with rivulet.
}

// MaxPartitions bounds what one request can make: a partition costs memory for ever.
const MaxPartitions = 10000

// CheckTopicName refuses what Kafka refuses: 1 to 249 of [a-zA-Z0-9._-], not "." or "..".
func CheckTopicName(name string) error {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("%w %q: 1 to 249 characters, and neither . nor .. alone", ErrInvalidTopic, name)
	}
	for i := range len(name) {
		if !topicByte(name[i]) {
			return fmt.Errorf("%w %q: only letters, digits, '.', '_' and '-'", ErrInvalidTopic, name)
		}
	}
	return nil
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// Internal reports whether clients may only read the topic.
func Internal(topic string) bool { return strings.HasPrefix(topic, "_rivulet") }

// CreateTopic checks name and configuration and makes the topic. Errors: ErrInvalidTopic, ErrInvalidConfig, ErrTopicExists.
func (b *Broker) CreateTopic(ctx context.Context, t TopicSpec) (*Topic, error) {
	if err := CheckTopicName(t.Name); err != nil {
		return nil, err
	}
	if err := CheckTopicConfig(t.Config); err != nil {
		return nil, err
	}
	if t.Partitions == 0 {
		t.Partitions = b.defaultPartitions(t.Name)
	}
	if t.Partitions < 1 || t.Partitions > MaxPartitions {
		return nil, fmt.Errorf("%w: %d partitions, want 1 to %d", ErrInvalidConfig, t.Partitions, MaxPartitions)
	}
	return b.store.CreateTopic(ctx, t.Name, t.Partitions, t.Config)
}

// EnsureTopic returns a topic, making it with defaults when there is none and its name is valid.
func (b *Broker) EnsureTopic(ctx context.Context, name string) (*Topic, error) {
	if t, ok := b.store.Topic(name); ok {
		return t, nil
	}
	t, err := b.CreateTopic(ctx, TopicSpec{Name: name})
	if errors.Is(err, storage.ErrTopicExists) { // someone else was faster
		if t, ok := b.store.Topic(name); ok {
			return t, nil
		}
	}
	return t, err
}

// AlterTopic changes single configuration keys: a nil value in set takes the key back to its default.
func (b *Broker) AlterTopic(ctx context.Context, name string, set map[string]*string) (*Topic, error) {
	b.topicMu.Lock() // read, change, write
	defer b.topicMu.Unlock()
	t, ok := b.store.Topic(name)
	if !ok {
		return nil, fmt.Errorf("alter topic %s: %w", name, ErrNoTopic)
	}
	config := maps.Clone(t.Config)
	if config == nil {
		config = map[string]string{}
	}
	for k, v := range set {
		if v == nil {
			delete(config, k)
		} else {
			config[k] = *v
		}
	}
	if err := CheckTopicConfig(config); err != nil {
		return nil, err
	}
	return b.store.AlterTopic(ctx, name, config)
}

func (b *Broker) defaultPartitions(name string) int {
	switch {
	case strings.HasSuffix(name, dlqSuffix):
		return 1
	case b.o.Partitions > 0:
		return b.o.Partitions
	case name == DefaultTopic:
		return 4
	}
	return 1
}
