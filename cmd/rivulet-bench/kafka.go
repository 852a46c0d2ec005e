package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

type kafkaLoad struct {
	addr, topic string
	records     int
	size        int
	idempotent  bool
	codec       string
}

type kafkaResult struct {
	Records   int     `json:"records"`
	Bytes     int     `json:"bytes"` // of one record
	Produce   float64 `json:"produced_per_second"`
	Consume   float64 `json:"consumed_per_second"`
	ProduceMB float64 `json:"produced_mb_per_second"`
	ConsumeMB float64 `json:"consumed_mb_per_second"`
}

func (l kafkaLoad) run(ctx context.Context) (r kafkaResult, err error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression()}
	codec, ok := codecs[l.codec]
	if !ok {
		return r, errors.Join(errUsage, fmt.Errorf("unknown compression %q", l.codec))
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.addr), kgo.DefaultProduceTopic(l.topic), kgo.AllowAutoTopicCreation(),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(codec),
		kgo.MaxBufferedRecords(100_000), kgo.RecordPartitioner(kgo.UniformBytesPartitioner(64<<10, false, false, nil)),
	}
	if !l.idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	producer, err := kgo.NewClient(opts...)
	if err != nil {
		return r, fmt.Errorf("make producer: %w", err)
	}
	defer producer.Close()

	rnd := rand.New(rand.NewPCG(1, 1))
	values := make([][]byte, 1000)
	for i := range values {
		values[i] = telemetry(nil, i, i, l.size, rnd)
	}
	var failed atomic.Pointer[error]
	from := time.Now()
	for i := range l.records {
		producer.Produce(ctx, &kgo.Record{Value: values[i%len(values)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		return r, fmt.Errorf("flush: %w", err)
	}
	if err := failed.Load(); err != nil {
		return r, fmt.Errorf("produce: %w", *err)
	}
	produced := time.Since(from)

	consumer, err := kgo.NewClient(kgo.SeedBrokers(l.addr), kgo.ConsumeTopics(l.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(16<<20))
	if err != nil {
		return r, fmt.Errorf("make consumer: %w", err)
	}
	defer consumer.Close()
	from = time.Now()
	for n := 0; n < l.records; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return r, fmt.Errorf("consume: %w", err)
		}
		n += fetches.NumRecords()
	}
	consumed := time.Since(from)

	r = kafkaResult{Records: l.records, Bytes: l.size, Produce: float64(l.records) / produced.Seconds(), Consume: float64(l.records) / consumed.Seconds()}
	r.ProduceMB, r.ConsumeMB = r.Produce*float64(l.size)/1e6, r.Consume*float64(l.size)/1e6
	return r, nil
}

func kafkaCommand() *cobra.Command {
	var l kafkaLoad
	var format string
	c := &cobra.Command{
		Use:   "kafka",
		Short: "Produce records to a new topic with acks=all, then consume them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if l.topic == "" {
				l.topic = fmt.Sprintf("bench-%d", time.Now().UnixNano())
			}
			r, err := l.run(c.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			fmt.Fprintf(c.OutOrStdout(), "%d records of %d bytes, %s: produced %s/s (%.0f MB/s), consumed %s/s (%.0f MB/s)\n",
				r.Records, r.Bytes, l.codec, thousands(r.Produce), r.ProduceMB, thousands(r.Consume), r.ConsumeMB)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&l.addr, "addr", "127.0.0.1:9092", "the broker")
	f.StringVar(&l.topic, "topic", "", "default: a new one")
	f.IntVar(&l.records, "records", 1_000_000, "how many")
	f.IntVar(&l.size, "size", 200, "bytes of a value")
	f.BoolVar(&l.idempotent, "idempotent", true, "as modern clients do")
	f.StringVar(&l.codec, "compression", "lz4", "none, lz4, zstd, gzip or snappy")
	f.StringVarP(&format, "output", "o", "table", "table or json")
	return c
}
