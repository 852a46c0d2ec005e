package compare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// Partition yields what a partition of this process's log holds now, up to its last stable offset, without what was aborted.
func Partition(p *edge.Partition) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		at, end, _ := p.Offsets()
		var d batch.Decoder
		var headers []batch.KV
		for at < end {
			const chunk = 1 << 20
			set, aborted, err := p.ReadCommitted(at, end, chunk)
			if err != nil {
				yield(Record{}, fmt.Errorf("read %s/%d at offset %d: %w", p.Topic(), p.Index, at, err))
				return
			}
			if len(set) == 0 {
				return
			}
			for _, b := range set {
				if err := d.Reset(b, 0); err != nil {
					yield(Record{}, fmt.Errorf("read %s/%d at offset %d: %w", p.Topic(), p.Index, at, err))
					return
				}
				h := d.Header()
				if edge.Committed(aborted, h) {
					for r, ok := d.Next(); ok; r, ok = d.Next() {
						if r.Offset < at {
							continue
						}
						headers = r.Payload.Headers(headers[:0])
						if !yield(Record{r.Offset, r.Payload.Key(), r.Payload.Value(), headers}, nil) {
							return
						}
					}
					if err := d.Err(); err != nil {
						yield(Record{}, fmt.Errorf("read %s/%d at offset %d: %w", p.Topic(), p.Index, at, err))
						return
					}
				}
				at = h.NextOffset()
			}
		}
	}
}

// Topic yields what a partition of a Kafka topic holds now for a reader with isolation level read_committed. It waits for the
// end of the transactions that are open: a commit is acknowledged before readers can see it. opts are those of the connection:
// seed brokers, TLS, SASL.
func Topic(ctx context.Context, topic string, partition int32, opts ...kgo.Opt) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := readTopic(ctx, topic, partition, opts, yield); err != nil {
			yield(Record{}, fmt.Errorf("read %s/%d: %w", topic, partition, err))
		}
	}
}

func readTopic(ctx context.Context, topic string, partition int32, opts []kgo.Opt, yield func(Record, error) bool) error {
	opts = append(slices.Clip(opts),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they may be the last of the log, and are what says that its end is reached
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	const uncommitted, committed = 0, 1 // isolation levels
	start, err := listOffset(ctx, cl, topic, partition, -2, committed)
	if err != nil {
		return err
	}
	end, err := listOffset(ctx, cl, topic, partition, -1, uncommitted)
	if err != nil {
		return err
	}
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; {
		stable, err := listOffset(ctx, cl, topic, partition, -1, committed)
		if err != nil {
			return err
		}
		if stable >= end {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a transaction is open at offset %d of %d", stable, end)
		}
		t := time.NewTimer(10 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	var headers []batch.KV
	for at := start; at < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			return e.Err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			at = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			if r.Offset >= end {
				return nil
			}
			headers = headers[:0]
			for _, h := range r.Headers {
				headers = append(headers, batch.KV{Key: h.Key, Value: h.Value})
			}
			if !yield(Record{r.Offset, r.Key, r.Value, headers}, nil) {
				return nil
			}
		}
	}
	return nil
}

func listOffset(ctx context.Context, cl *kgo.Client, topic string, partition int32, when int64, isolation int8) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, when
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, errors.New("the broker did not name its offsets")
}
