package edge

import (
	"context"
	"fmt"

	"rivulet/storage"
)

// Trim is one log start to be: records of the partition before Offset are deleted. HighWatermark stands for the end of the log.
type Trim struct {
	Partition int32
	Offset    int64
}

// HighWatermark as a Trim's offset is the high watermark at that moment, as in Kafka's DeleteRecords.
const HighWatermark = -1

// TrimTopic deletes records before offsets, all in one commit: durable when it returns, and readers are refused those records from
// then on. A log start that is further on already stays. A topic that is compacted and nothing else is refused: its records go
// when their keys get newer ones, and a reader that begins anew must see all keys. Errors: ErrNoTopic, ErrOffsetRange,
// ErrCompacted.
func (b *Broker) TrimTopic(ctx context.Context, topic string, trims []Trim) error {
	t, ok := b.store.Topic(topic)
	if !ok {
		return fmt.Errorf("trim %s: %w", topic, ErrNoTopic)
	}
	if t.Policy.Compact && !t.Policy.Delete {
		return fmt.Errorf("trim %s: %w", topic, ErrCompacted)
	}
	starts := make([]storage.Start, 0, len(trims))
	for _, tr := range trims {
		if tr.Partition < 0 || int(tr.Partition) >= len(t.Partitions) {
			return fmt.Errorf("trim %s/%d: %w", topic, tr.Partition, ErrNoTopic)
		}
		p := t.Partitions[tr.Partition]
		if tr.Offset == HighWatermark {
			_, _, tr.Offset = p.Offsets()
		}
		starts = append(starts, storage.Start{Partition: p, Offset: tr.Offset})
	}
	return b.store.Trim(ctx, starts)
}
