package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// producer sends readings with franz-go, which retries by itself for as long as a broker is away.
type producer struct {
	*ledger
	addr  string
	topic string
	codec kgo.CompressionCodec
	pace  time.Duration
	rnd   *rand.Rand
}

// run produces until work ends, and then waits for what is on its way, until ctx ends.
func (p *producer) run(ctx, work context.Context) error {
	opts := []kgo.Opt{
		kgo.SeedBrokers(p.addr), kgo.DefaultProduceTopic(p.topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(p.codec),
		kgo.RetryBackoffFn(func(int) time.Duration { return redial }), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.UnknownTopicRetries(-1), kgo.DialTimeout(2 * time.Second),
		kgo.AlwaysRetryEOF(), // a broker that is killed as it accepts is not one that wants TLS
	}
	if !p.exactly {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make producer: %w", err)
	}
	defer cl.Close()

	var mu sync.Mutex
	var failed error
	tick := time.NewTicker(p.pace)
	defer tick.Stop()
	for work.Err() == nil {
		for range 1 + p.rnd.IntN(50) {
			n := p.next()
			record := &kgo.Record{Key: []byte(p.source), Value: reading(nil, p.source, n, 20+p.rnd.IntN(200))}
			cl.Produce(ctx, record, func(_ *kgo.Record, err error) {
				if err == nil {
					p.ack(n)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = fmt.Errorf("%s: reading %d: %w", p.source, n, err)
				}
			})
		}
		select {
		case <-tick.C:
		case <-work.Done():
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("%s: flush: %w", p.source, err)
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// crashed notes that what is unacknowledged now may be stored twice: a plain producer sends it again.
func (p *producer) crashed() {
	if p.exactly {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, acked := range p.acked {
		if !acked && p.sent[n] < 255 {
			p.sent[n]++
		}
	}
}
