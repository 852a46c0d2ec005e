package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rivulet/storage"
	"rivulet/storage/batch"
)

// BatchIn is one record batch of a Kafka producer for one partition.
type BatchIn struct {
	Principal *Principal
	Topic     *Topic
	Partition int32
	Batch     []byte // validated by batch.Validate; the broker keeps and may rewrite it until Done
	Done      func(*BatchIn)

	Err       error // nil, ErrDuplicate (Base is then the offset of then) or another of storage's producer errors
	Base      int64 // offset of the first record, -1 when plugins dropped all
	Timestamp int64 // LogAppendTime, -1 for CreateTime
}

// maxBatchRaw bounds what a compressed batch may unfold to when a plugin or a clock has to look into it.
const maxBatchRaw = 32 << 20

// IngestBatch is Ingest for a whole batch: without plugins its bytes are stored as they are. An error means that nothing
// was taken and Done is not called; ErrRejected is one of them, and ErrNotAuthorized for an MQTT topic that the principal may not
// publish to.
func (b *Broker) IngestBatch(ctx context.Context, in *BatchIn) error {
	if in.Partition < 0 || int(in.Partition) >= len(in.Topic.Partitions) {
		return fmt.Errorf("partition %d of %s: %w", in.Partition, in.Topic.Name, ErrNoTopic)
	}
	h, err := batch.ParseHeader(in.Batch)
	if err != nil {
		return err
	}
	if in.Batch, h, err = b.claimBatch(in.Principal, in.Topic.Name, in.Batch, h); err != nil {
		return err
	}
	part := in.Topic.Partitions[in.Partition]
	in.Err, in.Base, in.Timestamp = nil, -1, -1
	var st staging
	c := &st.commit
	settings, now := settingsOf(in.Topic), b.now().UnixMilli()
	pipe := pipeOf(b.pipes.Load(), in.Topic.Name)
	if settings.timestamps == "arrival" {
		in.Timestamp = now
	}
	clamp := settings.timestamps == "clamp" && h.MaxTimestamp > now+clampAhead.Milliseconds()
	switch {
	case pipe != nil:
		recs, err := decodeAll(in.Batch)
		if err != nil {
			return err
		}
		for i := range recs {
			recs[i].Timestamp = settings.stamp(recs[i].Timestamp, now)
		}
		refused := false
		err = b.transform(ctx, &st, pipe, in.Topic, part, recs, func(_ int, kind outcome, _ place, _ batch.Payload) {
			refused = refused || kind == rejected
		})
		if err != nil {
			return err
		}
		if refused { // the producer sent one batch and gets one answer
			return ErrRejected
		}
	case clamp:
		raw, err := restamp(in.Batch, h, &settings, now)
		if err != nil {
			return err
		}
		c.Appends = []storage.Append{{Partition: part, Batch: raw}}
	default:
		if in.Timestamp >= 0 {
			batch.SetLogAppendTime(in.Batch, now)
		}
		c.Appends = []storage.Append{{Partition: part, Batch: in.Batch}}
	}
	if h.ProducerID >= 0 {
		c.Producer = &storage.Producer{
			Partition: part, ID: h.ProducerID, Epoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
			Records: h.LastOffsetDelta + 1, Transactional: h.Transactional(),
		}
	}
	c.Done = func(c *storage.Commit) {
		in.Err = c.Err
		for _, a := range c.Appends {
			if a.Partition == part || errors.Is(c.Err, ErrDuplicate) {
				in.Base = a.Base
				break
			}
		}
		if c.Err == nil {
			b.messagesIn.Add(uint64(h.NumRecords))
			b.bytesIn.Add(uint64(len(in.Batch)))
		}
		in.Done(in)
	}
	return b.store.Submit(ctx, c)
}

// decodeAll unfolds a batch into records that share one buffer.
func decodeAll(raw []byte) ([]batch.Record, error) {
	var d batch.Decoder
	if err := d.Reset(raw, maxBatchRaw); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	recs := slices.Grow([]batch.Record(nil), int(d.Header().NumRecords))
	for {
		r, ok := d.Next()
		if !ok {
			return recs, d.Err()
		}
		recs = append(recs, r)
	}
}

// restamp encodes a batch anew with its timestamps put right, uncompressed; the sealer compresses it.
func restamp(raw []byte, h batch.Header, s *topicSettings, now int64) ([]byte, error) {
	recs, err := decodeAll(raw)
	if err != nil {
		return nil, err
	}
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, r := range recs {
		w.Add(s.stamp(r.Timestamp, now), r.Payload)
	}
	return w.End(h.Attributes&batch.AttrTransactional, h.ProducerID, h.ProducerEpoch, h.BaseSequence), nil
}
