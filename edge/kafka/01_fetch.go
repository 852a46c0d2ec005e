package kafka

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// Fetch: 4 to 12
//
//   - Whole batches, from the one that holds the offset; at least one, even if it is larger than the limits.
//   - Waits until there are MinBytes, at most MaxWaitMillis, on one Waiter for all partitions. A right that is taken away meanwhile ends the wait.
//   - read_committed: up to the last stable offset, with the aborted transactions.
//   - No sessions: SessionID is 0 for ever. A request that goes on with a session gets FETCH_SESSION_ID_NOT_FOUND.
//   - A zstd batch, and a topic whose batches are stored with zstd, for a version below 10: UNSUPPORTED_COMPRESSION_TYPE (KIP-110).
//   - Versions from 13 name topics by id: not served.
func fetchAPI() api {
	return api{key: kmsg.Fetch, min: 4, max: 12, refuse: refuseFetch}
}

const (
	zstdFetch    = 10
	maxFetchWait = 5 * time.Minute
	// tightFetch is what a response may hold when all responses together hold more than Options.MaxBuffered.
	tightFetch = 64 << 10
)

// unasked is an epoch that never comes.
const unasked = ^uint64(0)

// fetchState is a Fetch in the making, and its response until that is written. One belongs to a connection.
type fetchState struct {
	version   int16
	code      int16
	committed bool   // read_committed
	epoch     uint64 // at which it was asked whether the topics may be read
	topics    []fetchTopic
	parts     []fetchPart
	size      int // bytes of all batches
}

type fetchTopic struct {
	name  string
	parts int
}

type fetchPart struct {
	index               int32
	code                int16
	start, stable, high int64
	p                   *edge.Partition
	from                int64
	max                 int
	seen                int64 // limit up to which data was read; -1: not read
	data                [][]byte
	size                int
	next                int64 // offset behind data
	aborted             []edge.Aborted
}

// fetchRecords answers a Fetch, now or when there is enough.
func (c *conn) fetchRecords(sl *slot, req *kmsg.FetchRequest) {
	c.fetching.Wait() // the previous response is written
	f := &c.fetch
	f.reset(req)
	switch {
	case req.SessionID != 0:
		f.code = kerr.FetchSessionIDNotFound.Code
	case req.SessionEpoch > 0:
		f.code = kerr.InvalidFetchSessionEpoch.Code
	default:
		c.fetchResolve(f, req)
		c.fetchWait(f, req)
	}
	for i := range f.parts {
		f.size += f.parts[i].size
	}
	c.s.fetched.Add(int64(f.size))
	c.fetching.Add(1)
	sl.fetched, sl.flexible = f, req.IsFlexible()
	c.send(sl, true)
}

func (f *fetchState) reset(req *kmsg.FetchRequest) {
	if max(len(f.parts), len(f.topics)) > keepParts {
		f.parts, f.topics = nil, nil
	}
	clear(f.parts)
	f.version, f.code, f.committed = req.Version, 0, req.IsolationLevel == 1
	f.topics, f.parts, f.size = f.topics[:0], f.parts[:0], 0
}

// fetchResolve finds the partitions.
func (c *conn) fetchResolve(f *fetchState, req *kmsg.FetchRequest) {
	store := c.s.broker.Store()
	f.epoch = c.s.broker.Epoch()
	for i := range req.Topics {
		t := &req.Topics[i]
		f.topics = append(f.topics, fetchTopic{t.Topic, len(t.Partitions)})
		topic, ok := store.Topic(t.Topic)
		allowed := c.allow(edge.OpRead, t.Topic)
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			p := fetchPart{
				index: rp.Partition, from: rp.FetchOffset, max: int(rp.PartitionMaxBytes), seen: -1,
				high: -1, stable: -1, start: -1,
			}
			switch {
			case !allowed:
				p.code = kerr.TopicAuthorizationFailed.Code
			case !ok || rp.Partition < 0 || int(rp.Partition) >= len(topic.Partitions):
				p.code = kerr.UnknownTopicOrPartition.Code
			case topic.Policy.Compression == "zstd" && f.version < zstdFetch:
				p.code = kerr.UnsupportedCompressionType.Code
			default:
				p.code = leaderEpochCode(rp.CurrentLeaderEpoch)
				p.p = topic.Partitions[rp.Partition]
			}
			f.parts = append(f.parts, p)
		}
	}
}

// leaderEpochCode checks the leader epoch that a client believes in; it is 0 for ever, and -1 is not checked.
func leaderEpochCode(epoch int32) int16 {
	if epoch > 0 {
		return kerr.UnknownLeaderEpoch.Code
	}
	return 0
}

// fetchWait reads until there is enough, or time is up.
func (c *conn) fetchWait(f *fetchState, req *kmsg.FetchRequest) {
	limit := min(max(int(req.MaxBytes), 1), c.s.o.MaxFetch)
	limit = int(min(int64(limit), max(c.s.o.MaxBuffered-c.s.fetched.Load(), tightFetch)))
	need := min(int(req.MinBytes), limit)
	wait := min(time.Duration(req.MaxWaitMillis)*time.Millisecond, maxFetchWait)
	if c.fetchRead(f, limit, need) || wait <= 0 {
		return
	}
	for i := range f.parts {
		if p := f.parts[i].p; p != nil {
			p.Watch(c.waiter)
			defer p.Unwatch(c.waiter)
		}
	}
	if c.timer == nil {
		c.timer = time.NewTimer(wait)
	} else {
		c.timer.Reset(wait)
	}
	defer c.timer.Stop()
	// What was committed between the first look and Watch is seen by the next look.
	for !c.fetchRead(f, limit, need) {
		select {
		case <-c.waiter.C:
		case <-c.changed:
			f.epoch = unasked
		case <-c.timer.C:
			c.fetchRead(f, limit, need)
			return
		case <-c.ctx().Done():
			return
		}
	}
}

// fetchRead reads what is there, and reports whether to answer: there is enough, or an error to tell.
func (c *conn) fetchRead(f *fetchState, limit, need int) bool {
	c.fetchAllowed(f)
	total, failed := 0, false
	for i := range f.parts {
		p := &f.parts[i]
		if p.code == 0 {
			c.fetchPartition(f, p, limit-total, total == 0)
		}
		total += p.size
		failed = failed || p.code != 0
	}
	return failed || total >= need
}

// fetchAllowed asks again whether the topics may be read, when rules or users may have changed since, or the login has ended: a Fetch may wait
// for minutes.
func (c *conn) fetchAllowed(f *fetchState) {
	epoch := c.s.broker.Epoch()
	if epoch == f.epoch && !c.expired() {
		return
	}
	f.epoch = epoch
	at := 0
	for _, t := range f.topics {
		parts := f.parts[at : at+t.parts]
		at += t.parts
		if c.allow(edge.OpRead, t.name) {
			continue
		}
		for i := range parts {
			parts[i] = fetchPart{index: parts[i].index, code: kerr.TopicAuthorizationFailed.Code, seen: -1, high: -1, stable: -1, start: -1}
		}
	}
}

// fetchPartition reads one partition, unless nothing changed since it was last read.
func (c *conn) fetchPartition(f *fetchState, p *fetchPart, room int, first bool) {
	p.start, p.stable, p.high = toldOffsets(p.p)
	end := p.high
	if f.committed {
		end = p.stable
	}
	switch {
	case p.from < p.start || p.from > p.high:
		p.code = kerr.OffsetOutOfRange.Code
		return
	case p.from >= end || end == p.seen || room <= 0 && !first:
		return
	}
	var aborted []edge.Aborted
	if f.committed { // before the log is read: with what retention removes, this is forgotten
		aborted = p.p.Aborted(p.from, end)
	}
	data, err := p.p.Read(p.from, end, min(p.max, room))
	if err != nil {
		p.code = c.code(err)
		if p.code == kerr.KafkaStorageError.Code {
			c.log.Error("cannot read", "topic", p.p.Topic(), "partition", p.index, "offset", p.from, "err", err)
		}
		return
	}
	p.seen, p.data, p.size, p.next = end, p.data[:0], 0, p.from
	for _, b := range data {
		h, err := batch.ParseHeader(b)
		if err != nil {
			p.code = kerr.KafkaStorageError.Code
			return
		}
		if h.Codec() == batch.Zstd && f.version < zstdFetch {
			if len(p.data) == 0 {
				p.code = kerr.UnsupportedCompressionType.Code
			}
			break
		}
		if !first && p.size+len(b) > room {
			break // others have filled the response; this one comes first another time
		}
		p.data = append(p.data, b)
		p.size += len(b)
		p.next = h.NextOffset()
	}
	if len(p.data) == 0 {
		p.seen = -1
	}
	p.aborted = slices.DeleteFunc(aborted, func(a edge.Aborted) bool { return a.FirstOffset >= p.next })
}

// sent is called by the writer when the response is on its way, or never will be.
func (c *conn) sent(f *fetchState) {
	records := 0
	for i := range f.parts {
		p := &f.parts[i]
		for _, b := range p.data {
			if h, err := batch.ParseHeader(b); err == nil {
				records += int(h.NumRecords)
			}
		}
	}
	clear(f.parts)
	c.s.fetched.Add(-int64(f.size))
	if f.size > 0 {
		c.s.broker.CountOut(records, f.size)
	}
	c.fetching.Done()
}

func refuseFetch(r kmsg.Request, code int16) kmsg.Response {
	req := r.(*kmsg.FetchRequest)
	resp := respond[*kmsg.FetchResponse](req)
	resp.ErrorCode = code
	for _, t := range req.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.HighWatermark, rp.LastStableOffset = p.Partition, code, -1, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
