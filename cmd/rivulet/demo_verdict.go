package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"rivulet/sync/compare"
)

// copyReader yields the centre's copy of one partition. Tests put another one in, to see the verdict fail.
type copyReader func(ctx context.Context, d *demo, partition int32) iter.Seq2[compare.Record, error]

// readCentral reads over the Kafka protocol what a reader with isolation level read_committed sees.
func readCentral(ctx context.Context, d *demo, partition int32) iter.Seq2[compare.Record, error] {
	return compare.Topic(ctx, "edge."+demoTopic, partition, kgo.SeedBrokers(d.central.address("kafka")))
}

// conclude lets the mirror catch up, compares the logs, prints the summary, and fails unless all is as it should be.
func (d *demo) conclude(ctx context.Context) error {
	d.devices.stop()
	if err := d.devices.err(); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	t := d.tally()
	report, err := d.compare(ctx)
	if err != nil {
		return err
	}
	out := d.p.stdout
	fmt.Fprintf(out, "\nacknowledged  %d publishes, each on disk before its PUBACK\n", t.acked)
	fmt.Fprintf(out, "filtered      %d (%s)\n", t.filtered, percent(t.filtered, t.in))
	fmt.Fprintf(out, "stored        %d records, %s raw; sealed so far, on disk: %s\n", t.records, bytesText(t.raw), t.shrunk())
	fmt.Fprintf(out, "mirrored      %d records\n", t.mirrored)
	fmt.Fprintf(out, "verdict       %s\n", report.String())
	switch {
	case !report.Equal():
		return fmt.Errorf("central's copy differs from the edge's log")
	case report.Source == 0:
		return fmt.Errorf("nothing was stored, so nothing was shown; let it run longer")
	case t.acked != t.in || t.in-t.filtered != uint64(report.Source):
		return fmt.Errorf("%d publishes were acknowledged and %d filtered, but %d are in the log", t.acked, t.filtered, report.Source)
	}
	return nil
}

// settle waits until the mirror has nothing left to send.
func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoSettle)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		t := d.tally()
		if t.lag == 0 && t.mirrored >= uint64(t.records) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the mirror has %d records left after %v: %v", t.lag, demoSettle, d.uplinkError())
		}
	}
}

func (d *demo) uplinkError() string {
	for _, u := range d.edge.uplinks.all() {
		if st := u.Status(); st.Error != "" {
			return st.Error
		}
	}
	return "no error"
}

// compare holds every partition of the edge's log against the centre's copy.
func (d *demo) compare(ctx context.Context) (all compare.Report, err error) {
	topic, ok := d.edge.store.Topic(demoTopic)
	if !ok {
		return all, fmt.Errorf("topic %s is gone", demoTopic)
	}
	for _, p := range topic.Partitions {
		r, err := compare.Logs(compare.Partition(p), d.copy(ctx, d, p.Index))
		if err != nil {
			return all, fmt.Errorf("compare partition %d: %w", p.Index, err)
		}
		all.Add(r)
	}
	return all, nil
}
