package kafka

import (
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"rivulet/edge"
)

// segmentio/kafka-go, with no option but the address, topic and group.

func TestKafkaGoWriterAndGroupReader(t *testing.T) {
	b := startBroker(t, Options{}, edge.TopicSpec{Name: "events", Partitions: 2})
	ctx := withTimeout(t)
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	for _, codec := range []kafkago.Compression{0, kafkago.Gzip, kafkago.Snappy, kafkago.Lz4, kafkago.Zstd} {
		w := &kafkago.Writer{Addr: kafkago.TCP(b.addr), Topic: "events", Compression: codec, BatchTimeout: time.Millisecond, Transport: transport}
		var msgs []kafkago.Message
		for i := range 20 {
			msgs = append(msgs, kafkago.Message{
				Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%d-%d", codec, i), Headers: []kafkago.Header{{Key: "h", Value: []byte("v")}},
			})
		}
		if err := w.WriteMessages(ctx, msgs...); err != nil {
			t.Fatalf("codec %d: %v", codec, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{b.addr}, Topic: "events", GroupID: "readers", MaxWait: 100 * time.Millisecond})
	seen := map[string]bool{}
	for range 100 {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(seen), err)
		}
		if len(m.Headers) != 1 || seen[string(m.Value)] {
			t.Fatalf("message %q with headers %v, seen before: %v", m.Value, m.Headers, seen[string(m.Value)])
		}
		seen[string(m.Value)] = true
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKafkaGoAdmin(t *testing.T) {
	b := startBroker(t, Options{})
	ctx := withTimeout(t)
	conn, err := kafkago.DialContext(ctx, "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.CreateTopics(kafkago.TopicConfig{Topic: "made", NumPartitions: 3, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	parts, err := conn.ReadPartitions("made")
	if err != nil || len(parts) != 3 {
		t.Fatalf("partitions %v, %v", parts, err)
	}
	if err := conn.DeleteTopics("made"); err != nil {
		t.Fatal(err)
	}
}
