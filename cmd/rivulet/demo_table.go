package main

import (
	"context"
	"fmt"
	"time"
)

// tally is what the demo counts, all of it since its start.
type tally struct {
	acked    uint64 // publishes that devices saw acknowledged
	in       uint64 // records that the filter saw
	filtered uint64
	records  int64 // in the edge's log
	raw      int64 // their bytes,
	tail     int64 // those that are not sealed yet,
	sealed   int64 // and what the others take on disk
	mirrored uint64
	lag      int64
}

func (d *demo) tally() tally {
	t := tally{acked: d.devices.acked.Load()}
	for _, a := range d.edge.broker.Attachments() {
		t.in += a.Stats.In
		t.filtered += a.Stats.Dropped
	}
	if topic, ok := d.edge.store.Topic(demoTopic); ok {
		for _, p := range topic.Partitions {
			start, stable, _ := p.Offsets()
			raw, sealed := p.Size()
			t.records += stable - start
			t.raw += raw
			t.tail += p.Unsealed()
			t.sealed += sealed
		}
	}
	for _, u := range d.edge.uplinks.Status() {
		t.mirrored += u.Figures.Records
		t.lag += u.Figures.Lag
	}
	return t
}

// headEvery is how many rows of the table go under one head.
const headEvery = 20

const demoFormat = "%6s  %9s  %8s  %9s  %9s  %28s  %9s  %6s\n"

// show prints a row every second until the time is over, an interrupt comes, or something ends by itself.
func (d *demo) show(ctx context.Context) error {
	if d.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.length)
		defer cancel()
	}
	out := d.p.stdout
	fmt.Fprintf(out, "edge     MQTT %s  Kafka %s  console http://%s/\n", d.edge.address("mqtt"), d.edge.address("kafka"), d.edge.address("http"))
	fmt.Fprintf(out, "central  Kafka %s  console http://%s/\n", d.central.address("kafka"), d.central.address("http"))
	fmt.Fprintf(out, "%d devices publish %d messages a second with QoS 1; plugin %s drops what is below %d degrees\n\n",
		demoDevices, demoDevices*demoRate, demoPlugin, demoThreshold)
	from := time.Now()
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-d.edge.failed:
			return d.edge.failure
		case <-d.central.failed:
			return d.central.failure
		case <-tick.C:
		}
		if err := d.devices.err(); err != nil {
			return err
		}
		if n%headEvery == 0 {
			fmt.Fprintf(out, demoFormat, "time", "acked", "filtered", "stored", "raw", "sealed, on disk", "mirrored", "lag")
		}
		t := d.tally()
		fmt.Fprintf(out, demoFormat, time.Since(from).Round(time.Second), count(t.acked), percent(t.filtered, t.in), count(t.records),
			bytesText(t.raw), t.shrunk(), count(t.mirrored), count(t.lag))
	}
}

// shrunk says what sealing made of the raw bytes that it has seen so far.
func (t tally) shrunk() string {
	if t.sealed == 0 {
		return "-"
	}
	raw := t.raw - t.tail
	return fmt.Sprintf("%s → %s (%.1f×)", bytesText(raw), bytesText(t.sealed), float64(raw)/float64(t.sealed))
}

func count[N int64 | uint64](n N) string { return fmt.Sprint(n) }

func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}
