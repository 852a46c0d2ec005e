package main

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/cmd/rivulet/config"
)

// An uplink that is replaced again and again, while records come in, brings each of them to the centre once.
func TestUplinksAreReplacedExactlyOnce(t *testing.T) {
	const records, reloads = 4000, 6
	centre := testServer(t, func(c *config.Config) { c.Edge = "centre" })
	text := func(n int) string {
		return fmt.Sprintf(`edge: gw
topics: [{name: t}]
routes: [{mqtt: "#", topic: t}]
sync:
  - {name: up, age: %dms, kafka: {brokers: [%q]}, up: [{topic: t, to: copy}]}
`, 10+n, centre.address("kafka"))
	}
	s, rewrite := configured(t, t.TempDir(), text(0), io.Discard)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.address("mqtt")).SetConnectTimeout(time.Minute))
	if err := await(t.Context(), c.Connect()); err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(100)
	published := make(chan int, reloads+1)
	go func() {
		defer close(published)
		for i := range records {
			if err := await(t.Context(), c.Publish("x", 1, false, fmt.Sprint(i))); err != nil {
				t.Error(err)
				return
			}
			if (i+1)%(records/reloads) == 0 {
				published <- i
			}
		}
	}()
	for n := range published {
		rewrite(text(1 + n))
		if out, err := s.reload(t.Context()); err != nil || len(out.Changed) != 2 || out.Changed[1] != "sync" {
			t.Fatalf("%+v, %v", out, err)
		}
		if !s.mirrored("t") {
			t.Error("nobody holds what is mirrored")
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(centre.address("kafka")), kgo.ConsumeTopics("copy"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got := 0
	for got < records {
		fetched := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records: %+v", got, records, s.uplinks.Status())
		}
		fetched.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprint(got); string(r.Value) != want {
				t.Fatalf("record %d is %s", got, r.Value)
			}
			got++
		})
	}
	// What came twice would come now. The uplink may know a moment later than the consumer that all is there.
	for s.uplinks.Status()[0].Figures.Lag > 0 {
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		fetched := cl.PollFetches(short)
		stop()
		if fetched.NumRecords() > 0 || ctx.Err() != nil {
			t.Fatalf("%d more, %v", fetched.NumRecords(), ctx.Err())
		}
	}
	topic, _ := centre.store.Topic("copy")
	var stored int64
	for _, p := range topic.Partitions {
		_, stable, _ := p.Offsets()
		stored = max(stored, stable)
	}
	t.Logf("%d records, %d offsets at the centre, which count the transactions' ends", got, stored)
}
