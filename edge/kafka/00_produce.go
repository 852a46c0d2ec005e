package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// Produce: 0 to 11 advertised, 3 to 11 served
//
//   - Versions 0 to 2 carry message formats older than record batches. They are advertised, since librdkafka takes
//     compression from it, and answered UNSUPPORTED_VERSION.
//   - A partition's records are exactly one batch. It is validated as a broker must: magic 2, CRC, counts, framing.
//   - acks 1 and -1 are answered when the batch is synced; acks 0 is not answered, and an error closes the connection.
//   - zstd from version 7. A batch above max.message.bytes: MESSAGE_TOO_LARGE.
//   - Records of a compacted topic need a key: INVALID_RECORD. A batch that claims LogAppendTime: INVALID_TIMESTAMP.
//   - A batch that was stored before is answered with the offset of then.
//   - The store is full: KAFKA_STORAGE_ERROR with a throttle time.
//   - From version 12 a transaction's partitions need not be added first (KIP-890): not served, so not advertised.
func produceAPI() api {
	return api{key: kmsg.Produce, min: 0, served: oldestProduce, max: 11, refuse: refuseProduce}
}

const (
	oldestProduce = 3
	zstdProduce   = 7
	// maxBatchRaw bounds what a compressed batch may unfold to.
	maxBatchRaw = 32 << 20
	// keepParts is for how many partitions a connection keeps the memory of a Produce or Fetch for the next one.
	keepParts = 4096
	// fullThrottle is how long a client waits before it tries again when there is no space.
	fullThrottle = 1000
)

// produceCall is a Produce under way. It is filled by the reader, by the completions of its batches, and read by the
// writer when all of them are in.
type produceCall struct {
	conn     *conn
	sl       *slot
	version  int16
	acks     int16
	throttle int32
	left     atomic.Int32 // batches under way, and one for the reader
	topics   []produceTopic
	parts    []*producePart
	spare    []*producePart
}

type produceTopic struct {
	name  string
	parts int
}

type producePart struct {
	call  *produceCall
	in    edge.BatchIn
	lease edge.TxnLease
	code  int16
	err   error // what to tell the user
	start int64 // log start
	index int32
}

// produce hands a request's batches to the broker. The response follows when they are synced.
func (c *conn) produce(sl *slot, req *kmsg.ProduceRequest) {
	call := c.newProduce()
	call.sl, call.version, call.acks = sl, req.Version, req.Acks
	sl.produce, sl.flexible = call, req.IsFlexible()
	call.left.Store(1)
	c.produces.Add(1)
	c.send(sl, false)
	var refused error // of all
	if req.TransactionID != nil && !c.allow(edge.OpTxn, *req.TransactionID) {
		refused = errNoTxnID
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		topic, err := c.writable(t.Topic)
		if refused != nil {
			err = refused
		}
		call.topics = append(call.topics, produceTopic{t.Topic, len(t.Partitions)})
		for j := range t.Partitions {
			p := call.part(t.Partitions[j].Partition)
			perr := err
			if perr == nil && req.Acks != 0 && req.Acks != 1 && req.Acks != -1 {
				perr = errAcks
			}
			if perr == nil {
				perr = c.produceBatch(p, topic, req, t.Partitions[j].Records)
			}
			if perr != nil {
				p.fail(perr)
			}
		}
	}
	call.done()
}

// newProduce returns a call from the connection's stock.
func (c *conn) newProduce() *produceCall {
	select {
	case call := <-c.calls:
		return call
	default:
		return &produceCall{conn: c}
	}
}

// part adds a partition to the call.
func (call *produceCall) part(index int32) *producePart {
	var p *producePart
	if n := len(call.spare); n > 0 {
		p, call.spare = call.spare[n-1], call.spare[:n-1]
	} else {
		p = &producePart{call: call}
		p.in.Done = p.done
	}
	p.index = index
	call.parts = append(call.parts, p)
	return p
}

// recycle gives the call back to the connection.
func (call *produceCall) recycle() {
	for _, p := range call.parts {
		*p = producePart{call: call, in: edge.BatchIn{Done: p.in.Done}}
	}
	if len(call.parts) > keepParts {
		call.parts, call.topics = nil, nil
	}
	call.spare = append(call.spare, call.parts...)
	call.spare = call.spare[:min(len(call.spare), keepParts)]
	call.parts, call.topics = call.parts[:0], call.topics[:0]
	call.sl, call.throttle = nil, 0
	select {
	case call.conn.calls <- call:
	default:
	}
}

var (
	errAcks     = errors.New("acks must be 0, 1 or -1")
	errOneBatch = errors.New("a partition takes exactly one record batch")
	errZstd     = errors.New("zstd needs Produce version 7")
	errNoTxnID  = errors.New("transactional batch without a transactional id, or with one that this user may not write")
)

// topicLimits is what Produce needs of a topic's configuration.
type topicLimits struct {
	topic     *edge.Topic // the snapshot that it was read from
	maxBytes  int
	compacted bool
}

// writable finds a topic that the client may write to.
func (c *conn) writable(name string) (*topicLimits, error) {
	t, ok := c.s.broker.Store().Topic(name)
	switch {
	case !c.allow(edge.OpWrite, name):
		return nil, edge.ErrNotAuthorized
	case edge.Internal(name):
		return nil, fmt.Errorf("%s: %w", name, edge.ErrInternal)
	case !ok:
		return nil, edge.ErrNoTopic
	}
	l := c.limits[name]
	if l == nil || l.topic != t {
		l = &topicLimits{topic: t, maxBytes: defaultMaxBytes}
		if n, err := strconv.Atoi(t.Config["max.message.bytes"]); err == nil {
			l.maxBytes = n
		}
		l.compacted = t.Policy.Compact
		c.limits[name] = l
	}
	return l, nil
}

const defaultMaxBytes = 1048588

// produceBatch validates one partition's batch and hands it on.
func (c *conn) produceBatch(p *producePart, t *topicLimits, req *kmsg.ProduceRequest, records []byte) error {
	if p.index < 0 || int(p.index) >= len(t.topic.Partitions) {
		return edge.ErrNoTopic
	}
	p.start, _, _ = t.topic.Partitions[p.index].Offsets()
	b, rest, err := batch.Split(records)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return errOneBatch
	case len(b) > t.maxBytes:
		return fmt.Errorf("batch of %d bytes, max.message.bytes of %s is %d: %w", len(b), t.topic.Name, t.maxBytes, edge.ErrTooLarge)
	}
	var d batch.Decoder
	if _, err := d.Validate(b, maxBatchRaw); err != nil {
		return err
	}
	h := d.Header()
	if h.Codec() == batch.Zstd && req.Version < zstdProduce {
		return errZstd
	}
	if latest := d.MaxTimestamp(); h.MaxTimestamp != latest {
		batch.SetMaxTimestamp(b, latest)
	}
	if t.compacted {
		if err := checkKeys(&d); err != nil {
			return err
		}
	}
	if h.Transactional() {
		if req.TransactionID == nil {
			return errNoTxnID
		}
		if p.lease, err = c.s.txns.Lease(*req.TransactionID, h.ProducerID, h.ProducerEpoch, t.topic.Name, p.index); err != nil {
			return err
		}
	}
	p.in.Principal, p.in.Topic, p.in.Partition, p.in.Batch = c.who, t.topic, p.index, b
	p.call.left.Add(1)
	if err := c.s.broker.IngestBatch(c.ctx(), &p.in); err != nil {
		p.call.left.Add(-1) // not the last: the reader's own is still there
		return err
	}
	return nil
}

func checkKeys(d *batch.Decoder) error {
	for {
		r, ok := d.Next()
		if !ok {
			return d.Err()
		}
		if r.Payload.Key() == nil {
			return edge.ErrNoKey
		}
	}
}

// done is called by the broker when the batch is synced or failed.
func (p *producePart) done(in *edge.BatchIn) {
	if in.Err != nil && !errors.Is(in.Err, edge.ErrDuplicate) {
		p.fail(in.Err)
	}
	p.lease.Release()
	p.lease = edge.TxnLease{}
	p.call.done()
}

func (p *producePart) fail(err error) {
	c := p.call.conn
	switch {
	case errors.Is(err, errAcks):
		p.code = kerr.InvalidRequiredAcks.Code
	case errors.Is(err, errZstd):
		p.code = kerr.UnsupportedCompressionType.Code
	case errors.Is(err, errNoTxnID):
		p.code = kerr.TransactionalIDAuthorizationFailed.Code
	case errors.Is(err, errOneBatch):
		p.code = kerr.InvalidRecord.Code
	default:
		p.code = c.code(err)
	}
	p.err = err
	p.lease.Release()
	p.lease = edge.TxnLease{}
}

// done counts one batch, or the reader, as finished; the last one releases the response.
func (call *produceCall) done() {
	if call.left.Add(-1) > 0 {
		return
	}
	// The writer may recycle the call as soon as it is ready.
	c, sl := call.conn, call.sl
	for _, p := range call.parts {
		if errors.Is(p.err, edge.ErrFull) || errors.Is(p.err, edge.ErrReadOnly) {
			call.throttle = fullThrottle
		}
		sl.hangUp = sl.hangUp || call.acks == 0 && p.code != 0
	}
	sl.ready <- struct{}{}
	c.produces.Done()
}

// appendTo encodes the response; by hand, since it is on the hot path and its shape is small.
func (call *produceCall) appendTo(dst []byte) []byte {
	v := call.version
	flexible := v >= 9
	dst = appendArrayLen(dst, len(call.topics), flexible)
	parts := call.parts
	for _, t := range call.topics {
		dst = appendString(dst, t.name, flexible)
		dst = appendArrayLen(dst, t.parts, flexible)
		for _, p := range parts[:t.parts] {
			base, stamp := p.in.Base, p.in.Timestamp
			if p.code != 0 {
				base, stamp = -1, -1
			}
			dst = kbin.AppendInt32(dst, p.index)
			dst = kbin.AppendInt16(dst, p.code)
			dst = kbin.AppendInt64(dst, base)
			dst = kbin.AppendInt64(dst, stamp)
			if v >= 5 {
				dst = kbin.AppendInt64(dst, p.start)
			}
			if v >= 8 {
				dst = appendArrayLen(dst, 0, flexible)
				if flexible {
					dst = kbin.AppendCompactNullableString(dst, message(p.err))
				} else {
					dst = kbin.AppendNullableString(dst, message(p.err))
				}
			}
			if flexible {
				dst = append(dst, 0)
			}
		}
		parts = parts[t.parts:]
		if flexible {
			dst = append(dst, 0)
		}
	}
	dst = kbin.AppendInt32(dst, call.throttle)
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(dst, n)
	}
	return kbin.AppendArrayLen(dst, n)
}

func appendString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactString(dst, s)
	}
	return kbin.AppendString(dst, s)
}

func refuseProduce(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.ProduceRequest)
	if req.Topics == nil && req.IsFlexible() { // it was not decoded
		return nil
	}
	resp := respond[*kmsg.ProduceResponse](req)
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, code, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
