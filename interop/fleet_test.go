package interop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topics that the fleet writes to: devices by the default route, producers to one of their own.
const (
	deviceTopic   = "mqtt"
	producerTopic = "readings"
)

// fleet is the load of a crash test: devices that publish and programs that produce, each with its ledger.
type fleet struct {
	devices   []*device
	producers []*producer

	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	failed error
}

// newFleet makes 20 devices, of which every other one sends again after a crash, and 4 producers, of which two are idempotent. Each
// sends a burst of up to 50 readings once in pace.
func newFleet(mqtt, kafka string, seed uint64, pace time.Duration) *fleet {
	f := &fleet{}
	rnd := func(n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
	for i := range 20 {
		f.devices = append(f.devices, &device{ledger: &ledger{source: fmt.Sprintf("dev-%d", i)}, addr: mqtt, pace: pace, resend: i%2 == 0, rnd: rnd(i)})
	}
	codecs := []kgo.CompressionCodec{kgo.Lz4Compression(), kgo.NoCompression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
	for i, codec := range codecs {
		f.producers = append(f.producers, &producer{
			ledger: &ledger{source: fmt.Sprintf("prog-%d", i), exactly: i < 2},
			addr:   kafka, topic: producerTopic, codec: codec, pace: pace, rnd: rnd(100 + i),
		})
	}
	return f
}

// start sets everyone to work and returns when each has its first acknowledgement: a Kafka client that never got its producer id gives
// up sooner than one that is cut off later. ctx bounds all of it, starting the wait for that.
func (f *fleet) start(ctx, starting context.Context) error {
	f.ctx, f.stop = context.WithCancel(ctx)
	runs := make([]func(ctx, work context.Context) error, 0, len(f.devices)+len(f.producers))
	for _, d := range f.devices {
		runs = append(runs, d.run)
	}
	for _, p := range f.producers {
		runs = append(runs, p.run)
	}
	for _, run := range runs {
		f.wg.Go(func() {
			if err := run(ctx, f.ctx); err != nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.failed = errors.Join(f.failed, err)
			}
		})
	}
	tick := time.NewTicker(redial)
	defer tick.Stop()
	for _, l := range f.ledgers() {
		for _, acked := l.count(); acked == 0; _, acked = l.count() {
			select {
			case <-tick.C:
			case <-starting.Done():
				return fmt.Errorf("%s has no acknowledgement: %w", l.source, starting.Err())
			}
		}
	}
	return nil
}

// crashed is called whenever the broker was killed.
func (f *fleet) crashed() {
	for _, p := range f.producers {
		p.crashed()
	}
}

// finish lets everyone get the rest acknowledged and returns what went wrong.
func (f *fleet) finish() error {
	if f.stop == nil {
		return nil // it never started
	}
	f.stop()
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *fleet) ledgers() (ls []*ledger) {
	for _, d := range f.devices {
		ls = append(ls, d.ledger)
	}
	for _, p := range f.producers {
		ls = append(ls, p.ledger)
	}
	return ls
}

func (f *fleet) counts() (sent, acked int) {
	for _, l := range f.ledgers() {
		s, a := l.count()
		sent, acked = sent+s, acked+a
	}
	return sent, acked
}

// createTopic makes a topic on a Kafka-speaking broker, unless it is there.
func createTopic(ctx context.Context, addr, topic string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// readBack reads topics from their start to their present end, each partition in order.
func readBack(ctx context.Context, addr string, topics ...string) ([]entry, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list ends of %v: %w", topics, err)
	}
	from, left := map[string]map[int32]kgo.Offset{}, map[string]map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset == 0 {
			return
		}
		if from[o.Topic] == nil {
			from[o.Topic], left[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		}
		from[o.Topic][o.Partition], left[o.Topic][o.Partition] = kgo.NewOffset().AtStart(), o.Offset
	})
	cl.AddConsumePartitions(from)

	var entries []entry
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("read back, %v left: %w", left, err)
		}
		for _, e := range fetches.Errors() {
			return nil, fmt.Errorf("read back %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			source, number, err := parse(r.Value)
			if err != nil && bad == nil {
				bad = fmt.Errorf("%s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			entries = append(entries, entry{r.Topic, r.Partition, r.Offset, source, number})
			if r.Offset+1 >= left[r.Topic][r.Partition] {
				if delete(left[r.Topic], r.Partition); len(left[r.Topic]) == 0 {
					delete(left, r.Topic)
				}
			}
		})
		if bad != nil {
			return nil, bad
		}
	}
	return entries, nil
}
