//go:build interop

package interop

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet-bench/process"
)

// A compacted topic as its readers see it: kafka-python, old and new, and Apache's console consumer. What they meet are batches with
// gaps, batches without records, and markers of transactions; stored with gzip.
func TestCompactedTopic(t *testing.T) {
	dir := filepath.Join(t.ArtifactDir(), "data")
	open := func() *process.Process {
		t.Helper()
		p, err := process.Rivulet(binary(t), dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := p.Await(ctx); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open()
	stop := func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	defer func() { stop() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	client := func(opts ...kgo.Opt) *kgo.Client {
		t.Helper()
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(p.Kafka), kgo.DefaultProduceTopic("state"))...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	const keys, rounds = 50, 40
	want := map[string]string{}
	cl := client()
	set := func(s string) *string { return &s }
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{
		"cleanup.policy": set("compact"), "min.cleanable.dirty.ratio": set("0"), "compression.type": set("gzip"), // which every Python has
	}, "state"); err != nil {
		t.Fatal(err)
	}
	record := func(round, key int) *kgo.Record {
		k, v := fmt.Sprintf("k%02d", key), fmt.Sprintf("value %d of round %d", key, round)
		r := &kgo.Record{Key: []byte(k), Value: []byte(v)}
		if want[k] = v; (key+round)%10 == 0 {
			r.Value, want[k] = nil, "null"
		}
		return r
	}
	for round := range rounds {
		var batch []*kgo.Record
		for key := range keys {
			batch = append(batch, record(round, key))
		}
		if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("no key")}).FirstErr(); err == nil {
		t.Error("a record without a key is accepted")
	}
	cl.Close()
	// Transactions, every other one aborted.
	cl = client(kgo.TransactionalID("compacted"))
	for round := range 10 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		var r *kgo.Record
		if round%2 == 0 {
			r = record(rounds+round, 7)
		} else {
			r = &kgo.Record{Key: []byte("k07"), Value: []byte("aborted")}
		}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(round%2 == 0)); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()

	// What is stopped is sealed, and what is sealed is compacted.
	stop()
	p = open()
	read := func() (n int) {
		t.Helper()
		cl := client(kgo.ConsumeTopics("state"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
		defer cl.Close()
		ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, "state")
		if err != nil {
			t.Fatal(err)
		}
		end, _ := ends.Lookup("state", 0)
		for at := int64(0); at < end.Offset; {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			for _, r := range fetches.Records() {
				at = r.Offset + 1
				if !r.Attrs.IsControl() {
					n++
				}
			}
		}
		return n
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for read() != len(want) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the topic has %d records, want one for each of %d keys", read(), len(want))
		}
	}
	check := func(name, out string) {
		t.Helper()
		got, n := map[string]string{}, 0
		for line := range strings.Lines(out) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				got[key] = value
				n++
			}
		}
		if !maps.Equal(got, want) || n != len(want) {
			t.Errorf("%s reads %d records, %d keys, want one for each of %d keys:\n%s", name, n, len(got), len(want), out)
		}
	}
	check("kafka-python", tool(t, "", given(t, "RIVULET_PYTHON"), "python/kafka_compacted.py", p.Kafka, "state"))
	check("old kafka-python", tool(t, "", given(t, "RIVULET_PYTHON_OLD"), "python/kafka_compacted.py", p.Kafka, "state"))
	for _, line := range []string{"4", "3.9"} {
		check("Apache "+line, apache(t, "", line, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", p.Kafka, "--topic", "state",
			"--from-beginning", "--max-messages", fmt.Sprint(len(want)), "--timeout-ms", "30000", "--isolation-level", "read_committed", formatterProperty(line), "print.key=true"))
	}
}
