package kafka

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
	"rivulet/storage/batch"
)

// What clients take for granted of a broker, held by raw requests.

// makeBatch is a batch of n records without key.
func makeBatch(n int, attrs int16, pid int64, epoch int16, seq int32) []byte {
	var w batch.Builder
	w.Begin(nil, 0, -1)
	for i := range n {
		w.Add(time.Now().UnixMilli(), batch.AppendPayload(nil, nil, fmt.Appendf(nil, "value %d", i), nil))
	}
	return w.End(attrs, pid, epoch, seq)
}

func plainBatch(n int) []byte { return makeBatch(n, 0, -1, -1, -1) }

func produceRequest(topic string, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 10000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return req
}

func fetchRequest(topic string, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = 1<<20, 1, 0, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = partition, offset, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return req
}

// produce sends one batch at the newest version and returns the partition's answer.
func (r *rawClient) produce(topic string, partition int32, records []byte) kmsg.ProduceResponseTopicPartition {
	r.t.Helper()
	return ask[*kmsg.ProduceResponse](r, produceRequest(topic, partition, -1, records), 11).Topics[0].Partitions[0]
}

func (r *rawClient) fetch(req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
	r.t.Helper()
	return ask[*kmsg.FetchResponse](r, req, 12).Topics[0].Partitions[0]
}

func offsetsOf(t *testing.T, set []byte) (offsets []int64) {
	t.Helper()
	for len(set) > 0 {
		b, rest, err := batch.Split(set)
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Check(b); err != nil {
			t.Fatal(err)
		}
		h, err := batch.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		for o := h.BaseOffset; o < h.NextOffset(); o++ {
			offsets = append(offsets, o)
		}
		set = rest
	}
	return offsets
}

func fixCRC(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestProduceValidation(t *testing.T) {
	b := startBroker(t, Options{},
		edge.TopicSpec{Name: "t", Partitions: 1},
		edge.TopicSpec{Name: "compacted", Partitions: 1, Config: map[string]string{"cleanup.policy": "compact"}},
		edge.TopicSpec{Name: "small", Partitions: 1, Config: map[string]string{"max.message.bytes": "100"}})
	r := dial(b)
	defer r.close()
	change := func(change func([]byte) []byte) []byte { return change(plainBatch(3)) }
	for _, test := range []struct {
		name      string
		topic     string
		partition int32
		batch     []byte
		want      *kerr.Error
	}{
		{"unknown topic", "nobody", 0, plainBatch(1), kerr.UnknownTopicOrPartition},
		{"unknown partition", "t", 7, plainBatch(1), kerr.UnknownTopicOrPartition},
		{"negative partition", "t", -1, plainBatch(1), kerr.UnknownTopicOrPartition},
		{"two batches", "t", 0, append(plainBatch(1), plainBatch(1)...), kerr.InvalidRecord},
		{"no batch", "t", 0, nil, kerr.CorruptMessage},
		{"cut short", "t", 0, change(func(b []byte) []byte { return b[:len(b)-1] }), kerr.CorruptMessage},
		{"flipped bit", "t", 0, change(func(b []byte) []byte { b[len(b)-3] ^= 1; return b }), kerr.CorruptMessage},
		{"magic 1", "t", 0, change(func(b []byte) []byte { b[16] = 1; return b }), kerr.UnsupportedForMessageFormat},
		{"last offset delta", "t", 0, change(func(b []byte) []byte { b[26]++; return fixCRC(b) }), kerr.InvalidRecord},
		{"control batch", "t", 0, change(func(b []byte) []byte { b[22] |= byte(batch.AttrControl); return fixCRC(b) }), kerr.InvalidRecord},
		{"codec 5", "t", 0, change(func(b []byte) []byte { b[22] |= 5; return fixCRC(b) }), kerr.UnsupportedCompressionType},
		{"too large", "small", 0, plainBatch(30), kerr.MessageTooLarge},
		{"no key", "compacted", 0, plainBatch(1), kerr.InvalidRecord},
		{"transactional without id", "t", 0, makeBatch(1, batch.AttrTransactional, 5, 0, 0), kerr.TransactionalIDAuthorizationFailed},
		{"internal", "_rivulet-audit", 0, plainBatch(1), kerr.TopicAuthorizationFailed},
	} {
		got := r.produce(test.topic, test.partition, test.batch)
		if got.ErrorCode != test.want.Code || got.BaseOffset != -1 {
			t.Errorf("%s: code %v, offset %d; want %v", test.name, kerr.ErrorForCode(got.ErrorCode), got.BaseOffset, test.want)
		}
	}
	if got := r.produce("t", 0, plainBatch(3)); got.ErrorCode != 0 || got.BaseOffset != 0 || got.LogAppendTime != -1 {
		t.Errorf("a good batch: %+v", got)
	}
	req := produceRequest("t", 0, 5, plainBatch(1))
	if got := ask[*kmsg.ProduceResponse](r, req, 9).Topics[0].Partitions[0].ErrorCode; got != kerr.InvalidRequiredAcks.Code {
		t.Errorf("acks 5: %v", kerr.ErrorForCode(got))
	}
}

func TestProduceOldVersionsAreRefusedInTheirShape(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	for v := int16(0); v <= 2; v++ {
		if got := ask[*kmsg.ProduceResponse](r, produceRequest("t", 0, 1, plainBatch(1)), v).Topics[0].Partitions[0]; got.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("version %d: %v", v, kerr.ErrorForCode(got.ErrorCode))
		}
	}
	for v := int16(3); v <= 11; v++ {
		if got := ask[*kmsg.ProduceResponse](r, produceRequest("t", 0, 1, plainBatch(1)), v).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != int64(v)-3 {
			t.Errorf("version %d: %+v", v, got)
		}
	}
}

func TestZstdNeedsVersion7(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	var c batch.Compressor
	z, err := c.Compress(nil, plainBatch(100), batch.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	r := dial(b)
	defer r.close()
	if got := ask[*kmsg.ProduceResponse](r, produceRequest("t", 0, 1, slices.Clone(z)), 6).Topics[0].Partitions[0].ErrorCode; got != kerr.UnsupportedCompressionType.Code {
		t.Errorf("Produce version 6: %v", kerr.ErrorForCode(got))
	}
	if got := ask[*kmsg.ProduceResponse](r, produceRequest("t", 0, 1, z), 7).Topics[0].Partitions[0].ErrorCode; got != 0 {
		t.Errorf("Produce version 7: %v", kerr.ErrorForCode(got))
	}
	if got := ask[*kmsg.FetchResponse](r, fetchRequest("t", 0, 0), 9).Topics[0].Partitions[0].ErrorCode; got != kerr.UnsupportedCompressionType.Code {
		t.Errorf("Fetch version 9: %v", kerr.ErrorForCode(got))
	}
	if got := ask[*kmsg.FetchResponse](r, fetchRequest("t", 0, 0), 10).Topics[0].Partitions[0]; got.ErrorCode != 0 || len(got.RecordBatches) == 0 {
		t.Errorf("Fetch version 10: %+v", got)
	}
}

func TestAcksNoneIsNotAnswered(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	r.send(produceRequest("t", 0, 0, plainBatch(2)), 9)
	// The next answer on this connection is the next request's, and that sees the records.
	if p := r.fetch(fetchRequest("t", 0, 0)); p.HighWatermark != 2 {
		t.Errorf("high watermark %d, want 2", p.HighWatermark)
	}
	r.send(produceRequest("nobody", 0, 0, plainBatch(2)), 9)
	r.wantClosed()
}

func TestProducesArePipelinedAndAnsweredInOrder(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	const n = 300 // more than may be in flight
	go func() {
		for range n {
			r.send(produceRequest("t", 0, 1, plainBatch(1)), 9)
		}
	}()
	for i := range n {
		resp := kmsg.NewPtrProduceResponse()
		resp.SetVersion(9)
		r.decode(resp, int32(i+1))
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != int64(i) {
			t.Fatalf("request %d: %+v", i, p)
		}
	}
}

func TestIdempotence(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	init := call[*kmsg.InitProducerIDResponse](b, &kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000}, 4)
	if init.ErrorCode != 0 || init.ProducerEpoch != 0 {
		t.Fatalf("init %+v", init)
	}
	pid := init.ProducerID
	r := dial(b)
	check := func(what string, seq int32, epoch int16, want *kerr.Error, offset int64) {
		t.Helper()
		got := r.produce("t", 0, makeBatch(2, 0, pid, epoch, seq))
		code := int16(0)
		if want != nil {
			code = want.Code
		}
		if got.ErrorCode != code || got.BaseOffset != offset {
			t.Errorf("%s: %v, offset %d; want %v, %d", what, kerr.ErrorForCode(got.ErrorCode), got.BaseOffset, want, offset)
		}
	}
	for i := range int32(6) {
		check("in order", 2*i, 0, nil, int64(2*i))
	}
	check("sent again", 10, 0, nil, 10)
	check("one of the last five", 2, 0, nil, 2)
	check("older than the last five", 0, 0, kerr.OutOfOrderSequenceNumber, -1)
	check("gap", 20, 0, kerr.OutOfOrderSequenceNumber, -1)
	r.close()
	b.restart()
	r = dial(b)
	defer r.close()
	check("sent again after a restart", 10, 0, nil, 10)
	check("next epoch begins at 0", 4, 1, kerr.OutOfOrderSequenceNumber, -1)
	check("next epoch", 0, 1, nil, 12)
	check("old epoch", 12, 0, kerr.InvalidProducerEpoch, -1)
	again := call[*kmsg.InitProducerIDResponse](b, &kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000}, 4)
	if again.ErrorCode != 0 || again.ProducerID == pid {
		t.Errorf("producer id %d was given out twice", pid)
	}
}

func TestFetchInsideABatchReturnsTheWholeBatch(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	r.produce("t", 0, plainBatch(10))
	p := r.fetch(fetchRequest("t", 0, 4))
	if got := offsetsOf(t, p.RecordBatches); len(got) != 10 || got[0] != 0 {
		t.Errorf("offsets %v", got)
	}
}

func TestFetchReturnsOneBatchHoweverSmallTheLimit(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 2})
	r := dial(b)
	defer r.close()
	for range 3 {
		r.produce("t", 0, plainBatch(10))
		r.produce("t", 1, plainBatch(10))
	}
	for _, small := range []string{"partition", "response"} {
		req := fetchRequest("t", 0, 0)
		if small == "partition" {
			req.Topics[0].Partitions[0].PartitionMaxBytes = 1
		} else {
			req.MaxBytes = 1
		}
		other := kmsg.NewFetchRequestTopicPartition()
		other.Partition, other.PartitionMaxBytes, other.CurrentLeaderEpoch = 1, 1<<20, -1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, other)
		parts := ask[*kmsg.FetchResponse](r, req, 11).Topics[0].Partitions
		if got := len(offsetsOf(t, parts[0].RecordBatches)); got != 10 {
			t.Errorf("small %s limit: %d records of the first partition, want one batch of 10", small, got)
		}
		if got := len(offsetsOf(t, parts[1].RecordBatches)); small == "response" && got != 0 || small == "partition" && got != 30 {
			t.Errorf("small %s limit: %d records of the second partition", small, got)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	r.produce("t", 0, plainBatch(10))
	code := func(change func(*kmsg.FetchRequest)) *kerr.Error {
		req := fetchRequest("t", 0, 0)
		req.MaxWaitMillis = 60000 // an error does not wait
		change(req)
		resp := ask[*kmsg.FetchResponse](r, req, 12)
		if resp.ErrorCode != 0 {
			return kerr.TypedErrorForCode(resp.ErrorCode)
		}
		return kerr.TypedErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	for name, test := range map[string]struct {
		want   *kerr.Error
		change func(*kmsg.FetchRequest)
	}{
		"behind the end":   {kerr.OffsetOutOfRange, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 11 }},
		"negative":         {kerr.OffsetOutOfRange, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = -1 }},
		"unknown topic":    {kerr.UnknownTopicOrPartition, func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "nobody" }},
		"unknown index":    {kerr.UnknownTopicOrPartition, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 1 }},
		"newer epoch":      {kerr.UnknownLeaderEpoch, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 3 }},
		"session":          {kerr.FetchSessionIDNotFound, func(r *kmsg.FetchRequest) { r.SessionID, r.SessionEpoch = 5, 2 }},
		"session's epoch":  {kerr.InvalidFetchSessionEpoch, func(r *kmsg.FetchRequest) { r.SessionEpoch = 2 }},
		"at the beginning": {nil, func(*kmsg.FetchRequest) {}},
	} {
		if got := code(test.change); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestFetchWaitsForMinBytes(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 2})
	r, w := dial(b), dial(b)
	defer r.close()
	defer w.close()
	one := plainBatch(5)
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis, req.MinBytes = 20000, int32(2*len(one))
	other := kmsg.NewFetchRequestTopicPartition()
	other.Partition, other.PartitionMaxBytes, other.CurrentLeaderEpoch = 1, 1<<20, -1
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, other)
	r.send(req, 12)
	w.produce("t", 0, slices.Clone(one))
	w.produce("t", 1, slices.Clone(one))
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(12)
	r.decode(resp, 1)
	parts := resp.Topics[0].Partitions
	if len(parts[0].RecordBatches) == 0 || len(parts[1].RecordBatches) == 0 {
		t.Errorf("answered with %d and %d bytes, want both batches", len(parts[0].RecordBatches), len(parts[1].RecordBatches))
	}
	// Time up: what is there, however little.
	req.MaxWaitMillis, req.MinBytes = 50, 1<<20
	if p := r.fetch(req); len(p.RecordBatches) == 0 {
		t.Error("nothing when time was up")
	}
}

func TestLogAppendTime(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1, Config: map[string]string{"message.timestamp.type": "LogAppendTime"}})
	r := dial(b)
	defer r.close()
	before := time.Now().UnixMilli()
	got := r.produce("t", 0, plainBatch(3))
	if got.LogAppendTime < before || got.LogAppendTime > time.Now().UnixMilli() {
		t.Errorf("LogAppendTime %d", got.LogAppendTime)
	}
	p := r.fetch(fetchRequest("t", 0, 0))
	offsetsOf(t, p.RecordBatches) // its CRC is right
	h, err := batch.ParseHeader(p.RecordBatches)
	if err != nil || h.Attributes&batch.AttrLogAppendTime == 0 || h.MaxTimestamp != got.LogAppendTime {
		t.Errorf("header %+v, %v", h, err)
	}
}

func TestListOffsetsByTime(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	var w batch.Builder
	w.Begin(nil, 0, -1)
	base := time.Now().Add(-time.Hour).UnixMilli()
	for i := range int64(10) {
		w.Add(base+100*i, batch.AppendPayload(nil, nil, []byte("v"), nil))
	}
	r := dial(b)
	defer r.close()
	r.produce("t", 0, w.End(0, -1, -1, -1))
	for _, test := range []struct {
		at, offset, ts int64
		version        int16
	}{
		{-1, 10, -1, 1},
		{-2, 0, -1, 1},
		{-3, 9, base + 900, 7},
		{-4, 0, -1, 8},
		{base, 0, base, 1},
		{base + 450, 5, base + 500, 5},
		{base + 901, -1, -1, 5},
		{0, 0, base, 2},
	} {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: test.at}}}}
		got := ask[*kmsg.ListOffsetsResponse](r, req, test.version).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || got.Offset != test.offset || got.Timestamp != test.ts {
			t.Errorf("at %d: offset %d, timestamp %d, code %d; want %d, %d", test.at, got.Offset, got.Timestamp, got.ErrorCode, test.offset, test.ts)
		}
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	r.produce("t", 0, plainBatch(4))
	for v := int16(2); v <= 4; v++ {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1, LeaderEpoch: 0}}}}
		if p := ask[*kmsg.OffsetForLeaderEpochResponse](r, req, v).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.EndOffset != 4 || p.LeaderEpoch != 0 {
			t.Errorf("version %d: %+v", v, p)
		}
	}
}

func TestAutoCreate(t *testing.T) {
	for _, test := range []struct {
		off  bool
		req  bool
		name string
		want *kerr.Error
	}{
		{false, true, "made", nil},
		{false, false, "not-made", kerr.UnknownTopicOrPartition},
		{true, true, "off", kerr.UnknownTopicOrPartition},
		{false, true, "bad/name", kerr.InvalidTopicException},
		{false, true, "_rivulet-mine", kerr.UnknownTopicOrPartition},
	} {
		b := startBroker(t, Options{NoAutoCreate: test.off})
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = test.req
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &test.name}}
		got := call[*kmsg.MetadataResponse](b, req, 12).Topics[0]
		if kerr.TypedErrorForCode(got.ErrorCode) != test.want || test.want == nil && len(got.Partitions) != 1 {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// KIP-110: a client that cannot read zstd is told so, whether the batch came that way or is stored that way.
func TestZstdNeedsFetch10(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1},
		edge.TopicSpec{Name: "stored", Partitions: 1, Config: map[string]string{"compression.type": "zstd"}})
	r := dial(b)
	defer r.close()
	var c batch.Compressor
	z, err := c.Compress(nil, plainBatch(100), batch.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	r.produce("t", 0, plainBatch(1))
	r.produce("t", 0, z)
	r.produce("stored", 0, plainBatch(1))
	old := func(topic string, offset int64) kmsg.FetchResponseTopicPartition {
		return ask[*kmsg.FetchResponse](r, fetchRequest(topic, 0, offset), 9).Topics[0].Partitions[0]
	}
	if p := old("t", 0); p.ErrorCode != 0 || len(offsetsOf(t, p.RecordBatches)) != 1 {
		t.Errorf("before the batch: code %d", p.ErrorCode)
	}
	if p := old("t", 1); p.ErrorCode != kerr.UnsupportedCompressionType.Code || len(p.RecordBatches) > 0 {
		t.Errorf("at the batch: code %d", p.ErrorCode)
	}
	if p := old("stored", 0); p.ErrorCode != kerr.UnsupportedCompressionType.Code || len(p.RecordBatches) > 0 {
		t.Errorf("of a topic that is stored with zstd: code %d", p.ErrorCode)
	}
	if p := r.fetch(fetchRequest("t", 0, 0)); p.ErrorCode != 0 || len(offsetsOf(t, p.RecordBatches)) != 101 {
		t.Errorf("version 12: code %d", p.ErrorCode)
	}
}

// A header that understates its records' timestamps would hide them from lookups by time.
func TestMaxTimestampIsMadeTrue(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "t", Partitions: 1})
	r := dial(b)
	defer r.close()
	lie := plainBatch(3)
	h, err := batch.ParseHeader(lie)
	if err != nil {
		t.Fatal(err)
	}
	batch.SetMaxTimestamp(lie, 5)
	if p := r.produce("t", 0, lie); p.ErrorCode != 0 {
		t.Fatalf("code %d", p.ErrorCode)
	}
	p := r.fetch(fetchRequest("t", 0, 0))
	offsetsOf(t, p.RecordBatches)
	if got, err := batch.ParseHeader(p.RecordBatches); err != nil || got.MaxTimestamp != h.MaxTimestamp {
		t.Errorf("max timestamp %d, want %d, %v", got.MaxTimestamp, h.MaxTimestamp, err)
	}
	stamped := plainBatch(3)
	batch.SetLogAppendTime(stamped, 5)
	if p := r.produce("t", 0, stamped); p.ErrorCode != kerr.InvalidTimestamp.Code {
		t.Errorf("a batch that claims the broker's time: code %d", p.ErrorCode)
	}
}
