package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// send carries a burst and the positions behind it in one transaction. After an error it is not known whether the centre
// has it; the next open tells.
func (s *session) send(ctx context.Context, b *burst, positions map[int]string) error {
	tctx, cancel := context.WithTimeout(ctx, s.u.txnTimeout)
	defer cancel()
	streams := s.streams(b)
	err := s.fill(tctx, streams, positions)
	if err != nil {
		s.abort(ctx)
		return err
	}
	return s.endTxn(tctx, true)
}

// fill puts everything into the open transaction.
func (s *session) fill(ctx context.Context, streams []*stream, positions map[int]string) error {
	if !s.tv2 && len(streams) > 0 {
		if err := s.addPartitions(ctx, streams); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var offsets error
	wg.Go(func() {
		if offsets = s.commitOffsets(ctx, positions); offsets != nil {
			cancel()
		}
	})
	err := s.produce(ctx, streams)
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err == nil || offsets != nil && errors.Is(err, context.Canceled) {
		return offsets // which ended the other
	}
	return err
}

func (s *session) addPartitions(ctx context.Context, streams []*stream) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = s.u.txid, s.pid, s.epoch
	topics := make(map[string]int)
	for _, st := range streams {
		i, ok := topics[st.to.topic]
		if !ok {
			i = len(req.Topics)
			topics[st.to.topic] = i
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = st.to.topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, st.to.partition)
	}
	err := s.u.retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		var first error
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				// The others are OPERATION_NOT_ATTEMPTED when one is refused.
				err := kerr.ErrorForCode(p.ErrorCode)
				if err == nil {
					continue
				}
				if i := slices.IndexFunc(streams, func(st *stream) bool { return st.to.topic == t.Topic }); i >= 0 {
					s.forbids(streams[i], err)
				}
				if first == nil || errors.Is(first, kerr.OperationNotAttempted) {
					first = err
				}
			}
		}
		return first
	})
	if err != nil {
		return fmt.Errorf("add partitions to transaction: %w", err)
	}
	return nil
}

// commitOffsets puts the positions into the transaction.
func (s *session) commitOffsets(ctx context.Context, positions map[int]string) error {
	if !s.tv2 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.u.txid, s.pid, s.epoch, s.u.group
		err := s.u.retry(ctx, func() error {
			resp, err := req.RequestWith(ctx, s.cl)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		})
		if err != nil {
			return fmt.Errorf("add positions to transaction: %w", err)
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.u.txid, s.pid, s.epoch, s.u.group
	req.Generation = -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = progressTopic
	for shard, text := range positions {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = int32(shard), s.progress.counter+1, -1, &text
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	err := s.u.retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit positions: %w", err)
	}
	return nil
}

// endTxn ends the transaction. Of version 5 on the answer holds the producer id and epoch of the next one, and sequences begin anew.
func (s *session) endTxn(ctx context.Context, commit bool) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = s.u.txid, s.pid, s.epoch, commit
	return s.u.retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, s.cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return fmt.Errorf("end transaction: %w", err)
		}
		if s.tv2 && resp.ProducerID >= 0 {
			s.pid, s.epoch = resp.ProducerID, resp.ProducerEpoch
			clear(s.seqs)
		}
		return nil
	})
}

// patience is what an abort may take, also when the program ends.
const patience = 2 * time.Second

// abort tells the centre not to wait for the timeout. It is a courtesy: the next open, or the timeout, ends the transaction anyway.
func (s *session) abort(ctx context.Context) {
	actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := s.endTxn(actx, false); err != nil {
		s.u.o.Log.Debug("transaction was not aborted", "err", err)
	}
}
