package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/edge"
)

// franz-go, with no option but the address where that is possible.

// produceAll sends values and fails on any error; keys are as the index.
func produceAll(t testing.TB, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(v)})
	}
	if err := cl.ProduceSync(withTimeout(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume polls until n records are there.
func consume(t testing.TB, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := withTimeout(t)
	var got []*kgo.Record
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("got %d records, want %d: %v", len(got), n, err)
		}
		fs.EachError(func(topic string, p int32, err error) { t.Fatalf("fetch %s/%d: %v", topic, p, err) })
		got = append(got, fs.Records()...)
	}
	return got
}

func valuesOf(records []*kgo.Record) []string {
	var list []string
	for _, r := range records {
		list = append(list, string(r.Value))
	}
	return list
}

func numbered(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return list
}

func TestFranzGoEveryCodec(t *testing.T) {
	b := startBroker(t, Options{})
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			topic := "codec-" + name
			cl := b.client(kgo.ProducerBatchCompression(codec), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics(topic))
			stamp := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
			var sent []*kgo.Record
			for i := range 500 {
				sent = append(sent, &kgo.Record{
					Topic: topic, Key: fmt.Appendf(nil, "key-%d", i%7), Value: fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", 50)),
					Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{byte(i)}}, {Key: "null"}}, Timestamp: stamp,
				})
			}
			sent[3].Value, sent[4].Key = nil, nil
			if err := cl.ProduceSync(withTimeout(t), sent...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			got := consume(t, cl, len(sent))
			for i, r := range got {
				w := sent[i]
				if r.Offset != int64(i) || string(r.Key) != string(w.Key) || string(r.Value) != string(w.Value) || !r.Timestamp.Equal(stamp) {
					t.Fatalf("record %d is %+v, want %+v", i, r, w)
				}
				if len(r.Headers) != 2 || r.Headers[0].Value[0] != byte(i) || r.Headers[1].Key != "null" {
					t.Fatalf("record %d has headers %v", i, r.Headers)
				}
			}
			if got[3].Value != nil || got[4].Key != nil {
				t.Error("null is no longer null")
			}
		})
	}
}

func TestFranzGoGroupRebalances(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "work", Partitions: 4})
	group := func() *kgo.Client {
		return b.client(kgo.ConsumerGroup("team"), kgo.ConsumeTopics("work"), kgo.DisableAutoCommit(),
			kgo.HeartbeatInterval(50*time.Millisecond), kgo.SessionTimeout(20*time.Second),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	}
	producer := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	send := func(round int) {
		t.Helper()
		var records []*kgo.Record
		for p := range int32(4) {
			records = append(records, &kgo.Record{Topic: "work", Partition: p, Value: fmt.Appendf(nil, "%d/%d", round, p)})
		}
		if err := producer.ProduceSync(withTimeout(t), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	first := group()
	send(0)
	consume(t, first, 4)
	if err := first.CommitUncommittedOffsets(withTimeout(t)); err != nil {
		t.Fatal(err)
	}

	// The second takes over some partitions: both poll, as a client that never polls holds up a rebalance.
	second := group()
	type owned struct {
		who   *kgo.Client
		value string
	}
	poll := func(ctx context.Context, cl *kgo.Client, out chan<- owned) {
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			for _, r := range fs.Records() {
				out <- owned{cl, string(r.Value)}
			}
		}
	}
	ctx, cancel := context.WithCancel(withTimeout(t))
	out := make(chan owned, 1000)
	done := make(chan struct{}, 2)
	for _, cl := range []*kgo.Client{first, second} {
		go func() {
			poll(ctx, cl, out)
			done <- struct{}{}
		}()
	}
	both := false
	for round := 1; !both; round++ {
		send(round)
		by := map[*kgo.Client]int{}
		for len(by) == 0 || by[first]+by[second] < 4 {
			select {
			case o := <-out:
				if strings.HasPrefix(o.value, fmt.Sprint(round, "/")) {
					by[o.who]++
				}
			case <-ctx.Done():
				t.Fatalf("round %d: %v of 4 records arrived", round, by)
			}
		}
		both = by[first] > 0 && by[second] > 0
	}
	cancel()
	<-done
	<-done

	// The first leaves: the second gets all of it, without waiting for a session to end.
	first.Close()
	ctx, cancel = context.WithCancel(withTimeout(t))
	defer cancel()
	go func() {
		poll(ctx, second, out)
		done <- struct{}{}
	}()
	send(1000)
	left := map[string]bool{"1000/0": true, "1000/1": true, "1000/2": true, "1000/3": true}
	for len(left) > 0 {
		select {
		case o := <-out:
			if o.who == second {
				delete(left, o.value)
			}
		case <-ctx.Done():
			t.Fatalf("missing %v", left)
		}
	}
	cancel()
	<-done
}

func TestCommittedOffsetsSurviveRestart(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "log", Partitions: 1})
	produceAll(t, b.client(), "log", numbered("a", 10)...)
	opts := []kgo.Opt{
		kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("log"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	first := b.client(opts...)
	got := consume(t, first, 10)
	if err := first.CommitRecords(withTimeout(t), got[:6]...); err != nil {
		t.Fatal(err)
	}
	first.Close()
	b.restart()
	if got := valuesOf(consume(t, b.client(opts...), 4)); !slices.Equal(got, numbered("a", 10)[6:]) {
		t.Errorf("after the restart the group reads %v", got)
	}
}

func TestFranzGoSeesNewRecordsAtOnce(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "live", Partitions: 3})
	cl := b.client(kgo.ConsumeTopics("live"), kgo.FetchMaxWait(3*time.Minute))
	produceAll(t, cl, "live", "one")
	consume(t, cl, 1)
	began := time.Now()
	produceAll(t, cl, "live", "two") // the Fetch is parked by now, or parks and finds it
	consume(t, cl, 1)
	if d := time.Since(began); d > time.Minute {
		t.Errorf("a parked Fetch took %v to see a record", d)
	}
}

func TestMessageTooLarge(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "small", Partitions: 1, Config: map[string]string{"max.message.bytes": "1000"}})
	cl := b.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	err := cl.ProduceSync(withTimeout(t), &kgo.Record{Topic: "small", Value: make([]byte, 2000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("got %v, want MESSAGE_TOO_LARGE", err)
	}
}
