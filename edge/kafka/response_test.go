package kafka

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rivulet/edge"
)

// What is encoded by hand must be what the codec reads.

func TestFetchResponseIsTheCodecs(t *testing.T) {
	batchA, batchB, batchC := bytes.Repeat([]byte("a"), 100), bytes.Repeat([]byte("b"), 300), bytes.Repeat([]byte("c"), 20)
	for v := int16(4); v <= 12; v++ {
		for _, committed := range []bool{false, true} {
			f := &fetchState{
				version: v, code: 0, committed: committed,
				topics: []fetchTopic{{"first", 2}, {"second", 1}},
				parts: []fetchPart{
					{index: 0, start: 3, stable: 9, high: 11, data: [][]byte{batchA, batchB}, size: 400, aborted: []edge.Aborted{{ProducerID: 7, FirstOffset: 5, LastOffset: 8}}},
					{index: 1, code: 1, start: -1, stable: -1, high: -1},
					{index: 4, start: 0, stable: 1, high: 1, data: [][]byte{batchC}, size: 20},
				},
			}
			if !committed {
				f.parts[0].aborted = nil
			}
			got := kmsg.NewPtrFetchResponse()
			got.SetVersion(v)
			if err := got.ReadFrom(written(t, &slot{corr: 5, fetched: f, flexible: v >= 12}, v >= 12)); err != nil {
				t.Fatalf("version %d: %v", v, err)
			}
			if len(got.Topics) != 2 || got.Topics[0].Topic != "first" || got.Topics[1].Topic != "second" || len(got.Topics[0].Partitions) != 2 {
				t.Fatalf("version %d: topics %+v", v, got.Topics)
			}
			p := got.Topics[0].Partitions[0]
			if !bytes.Equal(p.RecordBatches, append(bytes.Clone(batchA), batchB...)) {
				t.Errorf("version %d: batches of first/0 are %q", v, p.RecordBatches)
			}
			if !bytes.Equal(got.Topics[1].Partitions[0].RecordBatches, batchC) {
				t.Errorf("version %d: batches of second/4 are %q", v, got.Topics[1].Partitions[0].RecordBatches)
			}
			if p.HighWatermark != 11 || p.LastStableOffset != 9 || v >= 5 && p.LogStartOffset != 3 {
				t.Errorf("version %d: offsets %+v", v, p)
			}
			if committed && (len(p.AbortedTransactions) != 1 || p.AbortedTransactions[0].ProducerID != 7 || p.AbortedTransactions[0].FirstOffset != 5) {
				t.Errorf("version %d: aborted %+v", v, p.AbortedTransactions)
			}
			if !committed && p.AbortedTransactions != nil {
				t.Errorf("version %d: aborted transactions are not null under read_uncommitted", v)
			}
			if got.Topics[0].Partitions[1].ErrorCode != 1 || len(got.Topics[0].Partitions[1].RecordBatches) != 0 {
				t.Errorf("version %d: first/1 is %+v", v, got.Topics[0].Partitions[1])
			}
		}
	}
}

func TestProduceResponseIsTheCodecs(t *testing.T) {
	for v := int16(oldestProduce); v <= 11; v++ {
		call := &produceCall{version: v, acks: -1, throttle: 12, topics: []produceTopic{{"a", 2}, {"b", 1}}}
		call.parts = []*producePart{
			{index: 0, start: 2, in: edge.BatchIn{Base: 40, Timestamp: -1}},
			{index: 3, start: 2, code: 87, err: errors.New("why"), in: edge.BatchIn{Base: 9, Timestamp: 9}},
			{index: 1, start: 0, in: edge.BatchIn{Base: 1, Timestamp: 1234}},
		}
		got := kmsg.NewPtrProduceResponse()
		got.SetVersion(v)
		if err := got.ReadFrom(written(t, &slot{corr: 5, produce: call, flexible: v >= 9}, v >= 9)); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		want := kmsg.NewPtrProduceResponse()
		want.SetVersion(v)
		want.ThrottleMillis = 12
		text := "why"
		for i, part := range []kmsg.ProduceResponseTopicPartition{
			{Partition: 0, BaseOffset: 40, LogAppendTime: -1, LogStartOffset: 2},
			{Partition: 3, ErrorCode: 87, BaseOffset: -1, LogAppendTime: -1, LogStartOffset: 2, ErrorMessage: &text},
			{Partition: 1, BaseOffset: 1, LogAppendTime: 1234},
		} {
			if i == 0 || i == 2 {
				topic := kmsg.NewProduceResponseTopic()
				topic.Topic = string("aab"[i])
				want.Topics = append(want.Topics, topic)
			}
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset, rp.LogAppendTime = part.Partition, part.ErrorCode, part.BaseOffset, part.LogAppendTime
			if v >= 5 {
				rp.LogStartOffset = part.LogStartOffset
			}
			if v >= 8 {
				rp.ErrorMessage = part.ErrorMessage
			}
			last := &want.Topics[len(want.Topics)-1]
			last.Partitions = append(last.Partitions, rp)
		}
		if v < 5 {
			for i := range want.Topics {
				for j := range want.Topics[i].Partitions {
					want.Topics[i].Partitions[j].LogStartOffset = got.Topics[i].Partitions[j].LogStartOffset
				}
			}
		}
		if d := cmp.Diff(want.AppendTo(nil), got.AppendTo(nil)); d != "" {
			t.Errorf("version %d: %s", v, d)
		}
	}
}

// written is the body that a slot's response has on the wire.
func written(t *testing.T, sl *slot, flexible bool) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	defer func() { _ = server.Close() }()
	var w responseWriter
	w.add(sl)
	failed := make(chan error, 1)
	go func() { failed <- w.writeTo(server) }()
	r := &rawClient{t: t, nc: client}
	b := r.receive()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if b[3] != 5 {
		t.Fatalf("correlation id %x", b[:4])
	}
	b = b[4:]
	if flexible {
		b = b[1:]
	}
	return b
}
