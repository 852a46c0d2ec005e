package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/storage/batch"
)

// stream is what a burst carries to one partition of the centre, in order.
type stream struct {
	to      destination
	target  *target
	parcels []*parcel
	acked   int // parcels that the centre has
	sent    int
	err     error // of parcels[acked]
}

// refusal says that the centre does not take a parcel, whatever is done about the link.
type refusal struct {
	parcel  *parcel
	err     *kerr.Error
	text    string
	records []int32 // in the parcel; empty: the centre did not say which
}

func (r *refusal) Error() string {
	return fmt.Sprintf("centre refuses records of %s/%d from offset %d to %d: %s", r.parcel.lane.topic, r.parcel.lane.index, r.parcel.from, r.parcel.next-1, r.text)
}

func (r *refusal) Unwrap() error { return r.err }

// streams sorts the parcels by destination and gives each its place in the producer's sequence.
func (s *session) streams(b *burst) []*stream {
	byTo := make(map[destination]*stream)
	var out []*stream
	for i := range b.parcels {
		p := &b.parcels[i]
		to := destination{p.lane.target.name, p.lane.index}
		st := byTo[to]
		if st == nil {
			st = &stream{to: to, target: p.lane.target}
			byTo[to] = st
			out = append(out, st)
		}
		seq := s.seqs[to]
		batch.SetProducer(p.data, s.pid, s.epoch, seq, true)
		s.seqs[to] = advance(seq, p.records)
		st.parcels = append(st.parcels, p)
	}
	return out
}

// advance adds to a sequence, which wraps from 2^31-1 to 0.
func advance(seq, records int32) int32 { return int32((int64(seq) + int64(records)) & 0x7fffffff) }

// produce sends all parcels to their leaders, in parallel, and returns when all are acknowledged. What the centre answers with
// "not now, nothing was appended" is sent again, with the same sequence.
func (s *session) produce(ctx context.Context, all []*stream) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		byLeader := make(map[int32][]*stream)
		for _, st := range all {
			if st.acked == len(st.parcels) {
				continue
			}
			if int(st.to.partition) >= len(st.target.leaders) || st.target.leaders[st.to.partition] < 0 {
				return fmt.Errorf("produce to %s/%d: %w", st.to.topic, st.to.partition, kerr.LeaderNotAvailable)
			}
			leader := st.target.leaders[st.to.partition]
			st.sent, st.err = st.acked, nil
			byLeader[leader] = append(byLeader[leader], st)
		}
		if len(byLeader) == 0 {
			return nil
		}
		rctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var failed error
		for node, streams := range byLeader {
			wg.Go(func() {
				if err := s.produceTo(rctx, node, streams); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
					}
					mu.Unlock()
					cancel()
				}
			})
		}
		wg.Wait()
		cancel()
		if failed != nil {
			return failed
		}
		stale := false
		var final error
		for _, st := range all {
			switch {
			case st.err == nil:
			case !later(st.err):
				final = cmp.Or(final, st.err)
				s.forbids(st, st.err)
			default:
				failed = st.err
				stale = stale || !errors.Is(st.err, kerr.ConcurrentTransactions)
			}
		}
		if final != nil {
			return final
		}
		if failed == nil {
			continue
		}
		if err := sleep(ctx, s.u.jitter(pause)); err != nil {
			for _, st := range all {
				if errors.Is(err, context.DeadlineExceeded) && st.err != nil && !errors.Is(st.err, kerr.ConcurrentTransactions) {
					s.u.bar(st.target, st.to.partition, fmt.Sprintf("partition %d of topic %s at the centre takes nothing: %v", st.to.partition, st.to.topic, st.err))
				}
			}
			return failed
		}
		if stale {
			if err := s.refreshLeaders(ctx, all); err != nil {
				return err
			}
		}
	}
}

// forbids takes note when the centre does not let this edge write to a topic.
func (s *session) forbids(st *stream, err error) {
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		s.u.bar(st.target, -1, fmt.Sprintf("the centre does not let this edge write to topic %s: %v", st.to.topic, kerr.TopicAuthorizationFailed))
	}
}

// later reports whether an answer means that nothing was appended and that it may be tried again in the same transaction.
func later(err error) bool {
	for _, e := range []*kerr.Error{kerr.ConcurrentTransactions, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *session) refreshLeaders(ctx context.Context, all []*stream) error {
	seen := make(map[*target]bool)
	var targets []*target
	for _, st := range all {
		if !seen[st.target] {
			seen[st.target] = true
			targets = append(targets, st.target)
		}
	}
	topics, err := s.metadata(ctx, targets)
	if err != nil {
		return err
	}
	for _, t := range targets {
		for _, p := range topics[t.name].Partitions {
			if int(p.Partition) < len(t.leaders) {
				t.leaders[p.Partition] = p.Leader
			}
		}
	}
	return nil
}

// produceTo sends streams to one leader: in every request at most one parcel a partition, which is all that Kafka takes, and
// at most maxInFlight requests under way. A request is begun when the one before it has been written, so that they stay in order.
// The error is one of the link; what the centre answered is in the streams.
func (s *session) produceTo(ctx context.Context, node int32, streams []*stream) error {
	ctx, cancel := context.WithCancel(ctx)
	written := s.writes.of(node)
	var under []*call // way, oldest first
	defer func() {
		cancel()
		for _, c := range under {
			<-c.done
		}
	}()
	for next := 0; ; {
		var c *call
		if len(under) < maxInFlight {
			c, next = s.request(streams, next)
		}
		if c == nil {
			if len(under) == 0 {
				return nil
			}
			oldest := under[0]
			<-oldest.done
			under = under[1:]
			if oldest.err != nil {
				return fmt.Errorf("produce to broker %d: %w", node, oldest.err)
			}
			s.answered(oldest.sent, oldest.resp)
			continue
		}
		select {
		case <-written: // left over from an earlier request
		default:
		}
		under = append(under, c)
		go func() {
			defer close(c.done)
			resp, err := s.cl.Broker(int(node)).Request(ctx, c.req)
			c.err = err
			if c.resp, _ = resp.(*kmsg.ProduceResponse); err == nil && c.resp == nil {
				c.err = errors.New("no answer")
			}
		}()
		select {
		case <-written:
		case <-c.done:
		}
	}
}

// call is one ProduceRequest under way.
type call struct {
	req  *kmsg.ProduceRequest
	sent []*stream

	done chan struct{} // closed when resp and err are set
	resp *kmsg.ProduceResponse
	err  error
}

// request builds the next request, beginning with stream next so that each has its turn. nil: nothing can be sent now.
func (s *session) request(streams []*stream, next int) (*call, int) {
	var c *call
	topics := make(map[string]int)
	size := 0
	for i := range streams {
		at := (next + i) % len(streams)
		st := streams[at]
		// The first parcel puts the partition into the transaction; the centre may say that it cannot yet, and then a second
		// one must not have been taken.
		if st.err != nil || st.sent == len(st.parcels) || st.sent > 0 && st.acked == 0 {
			continue
		}
		data := st.parcels[st.sent].data
		if c != nil && size+len(data) > maxRequest {
			return c, at
		}
		if c == nil {
			req := kmsg.NewPtrProduceRequest()
			req.TransactionID = &s.u.txid
			req.Acks = -1
			req.TimeoutMillis = int32(s.u.o.txnTimeout.Milliseconds())
			c = &call{req: req, done: make(chan struct{})}
		}
		ti, ok := topics[st.to.topic]
		if !ok {
			t := kmsg.NewProduceRequestTopic()
			t.Topic = st.to.topic
			ti = len(c.req.Topics)
			topics[st.to.topic] = ti
			c.req.Topics = append(c.req.Topics, t)
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = st.to.partition, data
		c.req.Topics[ti].Partitions = append(c.req.Topics[ti].Partitions, p)
		size += len(data)
		st.sent++
		c.sent = append(c.sent, st)
	}
	return c, next
}

// answered notes the answers for the oldest unacknowledged parcel of each stream of a request.
func (s *session) answered(sent []*stream, resp *kmsg.ProduceResponse) {
	answers := make(map[destination]*kmsg.ProduceResponseTopicPartition)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			answers[destination{t.Topic, t.Partitions[j].Partition}] = &t.Partitions[j]
		}
	}
	for _, st := range sent {
		if st.err != nil {
			continue // the first error holds; what follows it is out of order
		}
		a := answers[st.to]
		if a == nil {
			st.err = fmt.Errorf("produce to %s/%d: the answer does not name it", st.to.topic, st.to.partition)
			continue
		}
		err := kerr.TypedErrorForCode(a.ErrorCode)
		if err == nil {
			st.acked++
			continue
		}
		if !refuses(err) {
			st.err = fmt.Errorf("produce to %s/%d: %w", st.to.topic, st.to.partition, err)
			continue
		}
		r := &refusal{parcel: st.parcels[st.acked], err: err, text: err.Message}
		if a.ErrorMessage != nil {
			r.text = err.Message + ": " + *a.ErrorMessage
		}
		for _, er := range a.ErrorRecords {
			r.records = append(r.records, er.RelativeOffset)
		}
		st.err = r
	}
}

// refuses reports whether an answer is about what is in the batch.
func refuses(err *kerr.Error) bool {
	switch err {
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTimestamp, kerr.InvalidRecord, kerr.CorruptMessage,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.PolicyViolation:
		return true
	}
	return false
}

// writeHook tells when a produce request has been written to its connection.
type writeHook struct {
	mu     sync.Mutex
	byNode map[int32]chan struct{}
}

func newWriteHook() *writeHook { return &writeHook{byNode: make(map[int32]chan struct{})} }

func (h *writeHook) of(node int32) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.byNode[node]
	if c == nil {
		c = make(chan struct{}, 1)
		h.byNode[node] = c
	}
	return c
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (h *writeHook) OnBrokerWrite(meta kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key != 0 {
		return
	}
	select {
	case h.of(meta.NodeID) <- struct{}{}:
	default:
	}
}
