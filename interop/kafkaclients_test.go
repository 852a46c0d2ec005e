//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestKcatRoundTrip(t *testing.T) {
	p := started(t)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			want := map[string][]string{}
			var in strings.Builder
			for i := range 1000 {
				key, value := fmt.Sprintf("k%d", i%13), fmt.Sprintf("value %d %s", i, strings.Repeat("x", i%50))
				want[key] = append(want[key], value)
				fmt.Fprintf(&in, "%s|%s\n", key, value)
			}
			topic := "kcat-" + codec
			tool(t, in.String(), "kcat", "-b", p.Kafka, "-P", "-t", topic, "-K", "|", "-z", codec, "-X", "acks=all")
			if diff := cmp.Diff(want, kcat(t, p.Kafka, topic)); diff != "" {
				t.Errorf("(-produced +consumed):\n%s", diff)
			}
			// In a group, too; it ends with the first error or when nothing more comes.
			out := tool(t, "", "kcat", "-b", p.Kafka, "-G", "group-"+codec, "-e", "-q", "-X", "auto.offset.reset=earliest", "-f", "%k %s\n", topic)
			if n := strings.Count(out, "\n"); n != 1000 {
				t.Errorf("the group read %d records, want 1000", n)
			}
		})
	}
}

func TestSegmentioKafkaGo(t *testing.T) {
	p := started(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	transport := &kafka.Transport{} // the default one would live on
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Transport: transport, Addr: kafka.TCP(p.Kafka), Topic: "kafka-go", AllowAutoTopicCreation: true, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
	var messages []kafka.Message
	for i := range 500 {
		messages = append(messages, kafka.Message{Key: fmt.Appendf(nil, "k%d", i%7), Value: fmt.Appendf(nil, "%06d", i)})
	}
	if err := w.WriteMessages(ctx, messages...); err != nil {
		t.Fatal(err)
	}
	read := func(n int) (got []string) {
		t.Helper()
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{p.Kafka}, Topic: "kafka-go", GroupID: "kafka-go", StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond})
		defer r.Close()
		for range n {
			m, err := r.FetchMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.CommitMessages(ctx, m); err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Value))
		}
		return got
	}
	var want []string
	for _, m := range messages {
		want = append(want, string(m.Value))
	}
	got := append(read(200), read(300)...)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("two members one after the other (-written +read):\n%s", diff)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A consume-transform-produce loop as franz-go's session does it: what comes out is exactly what went in, though every other
// transaction is aborted.
func TestFranzGoTransactions(t *testing.T) {
	p := started(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Kafka), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	want := numbered("in", 0, 300)
	for _, v := range want {
		if err := cl.ProduceSync(ctx, kgo.StringRecord(v)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	s, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(p.Kafka), kgo.TransactionalID("copier"), kgo.ConsumerGroup("copier"), kgo.ConsumeTopics("in"), kgo.DefaultProduceTopic("out"),
		kgo.AllowAutoTopicCreation(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(2000),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	aborts := 0
	for committed := 0; committed < len(want); {
		fetches := s.PollRecords(ctx, 20)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		n := 0
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			s.Produce(ctx, &kgo.Record{Value: r.Value}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		})
		// What is aborted is in the log before it is.
		if err := s.Client().Flush(ctx); err != nil {
			t.Fatal(err)
		}
		commit := kgo.TryCommit
		if aborts*2 < committed/20 {
			commit, aborts = kgo.TryAbort, aborts+1
		}
		done, err := s.End(ctx, commit)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			committed += n
		}
	}
	if aborts == 0 {
		t.Error("no transaction was aborted: that tested nothing")
	}

	r, err := kgo.NewClient(kgo.SeedBrokers(p.Kafka), kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for len(got) < len(want) {
		fetches := r.PollFetches(ctx)
		if err := fetches.Err(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%v after %d records", err, len(got))
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-in +out):\n%s", diff)
	}
}
