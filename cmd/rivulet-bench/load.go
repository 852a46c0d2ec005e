package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"rivulet/cmd/rivulet-bench/process"
)

// load is what to put on a broker.
type load struct {
	Publishers int           `json:"publishers"`
	Window     int           `json:"in_flight"` // unacknowledged messages of each
	QoS        byte          `json:"qos"`
	Size       int           `json:"bytes"`      // payload
	Rate       float64       `json:"rate"`       // messages/s in all; 0: as many as go
	Reader     string        `json:"reader"`     // "": nobody subscribed; else an MQTT filter
	Readers    int           `json:"readers"`    // subscribers of it; 0 is 1
	Prefix     string        `json:"prefix"`     // of the topics; "" is bench
	ReaderQoS  byte          `json:"reader_qos"` //
	WarmUp     time.Duration `json:"warm_up"`
	Duration   time.Duration `json:"duration"`
}

func (l load) String() string { return fmt.Sprintf("%d × %d", l.Publishers, l.Window) }

// result is what came of it.
type result struct {
	Load      load          `json:"load"`
	Acked     uint64        `json:"acked"`
	Delivered uint64        `json:"delivered"`
	Elapsed   time.Duration `json:"elapsed"`
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50"`
	P99       time.Duration `json:"p99"`
	P999      time.Duration `json:"p999"`
	Delivery  latency       `json:"delivery"`   // of a paced load with a reader: from publisher to subscriber
	Commit    time.Duration `json:"commit_p99"` // of the broker's own fdatasyncs in Elapsed; 0 when it does not tell
	CPU       time.Duration `json:"server_cpu"` // in Elapsed; 0 when the process is not known
	RSS       int64         `json:"server_rss"`
}

// latency is what most messages take at most.
type latency struct {
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
}

func (l latency) String() string {
	return fmt.Sprintf("%.2f / %.2f / %.2f", l.P50.Seconds()*1e3, l.P99.Seconds()*1e3, l.P999.Seconds()*1e3)
}

// target is a broker that is running.
type target struct {
	addr  string
	usage func() (cpu time.Duration, rss int64) // nil: not known
	http  string                                // of rivulet, for its metrics; "": not known
}

func targetOf(p *process.Process) target { return target{p.MQTT, p.Usage, p.HTTP} }

// put runs the load against a broker.
func (l load) put(ctx context.Context, at target) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	stop := func() {}
	defer func() { stop(); wg.Wait() }()

	var readers []*subscriber
	for i := 0; l.Reader != "" && i < max(l.Readers, 1); i++ {
		reader, err := newSubscriber(ctx, at.addr, i, l.Reader, l.ReaderQoS)
		if err != nil {
			return result{}, err
		}
		defer reader.conn.Close()
		readers = append(readers, reader)
		before := stop
		stop = func() { before(); reader.conn.SetDeadline(time.Now()) }
	}
	var pubs []*publisher
	for i := range l.Publishers {
		p, err := newPublisher(ctx, at.addr, i, l)
		if err != nil {
			return result{}, err
		}
		pubs = append(pubs, p)
		before := stop
		stop = func() { before(); p.conn.SetDeadline(time.Now()) }
	}
	for _, reader := range readers {
		if l.Rate > 0 {
			reader.came = make([]uint64, len(pubs))
			for _, p := range pubs {
				reader.sent = append(reader.sent, p.times)
			}
		}
		wg.Go(func() {
			if err := reader.run(); err != nil {
				cancel(err)
			}
		})
	}
	for _, p := range pubs {
		wg.Go(func() {
			if err := p.run(); err != nil {
				cancel(fmt.Errorf("publish: %w", err))
			}
		})
	}

	snapshot := func() (r result, c commits, err error) {
		for _, p := range pubs {
			r.Acked += p.acked.Load()
		}
		for _, reader := range readers {
			r.Delivered += reader.received.Load()
		}
		if at.usage != nil {
			r.CPU, r.RSS = at.usage()
		}
		if at.http != "" && l.QoS > 0 && l.Rate > 0 {
			c, err = readCommits(ctx, at.http)
		}
		return r, c, err
	}
	if err := wait(ctx, l.WarmUp); err != nil {
		return result{}, err
	}
	before, early, err := snapshot()
	if err != nil {
		return result{}, err
	}
	from := time.Now()
	if err := wait(ctx, l.Duration); err != nil {
		return result{}, err
	}
	elapsed := time.Since(from)
	r, late, err := snapshot()
	if err != nil {
		return result{}, err
	}
	stop()
	wg.Wait()
	stop = func() {}

	r.Load, r.Elapsed, r.Commit = l, elapsed, late.quantile(0.99, early)
	r.Acked -= before.Acked
	r.Delivered -= before.Delivered
	r.CPU -= before.CPU
	r.PerSecond = float64(r.Acked) / elapsed.Seconds()
	var h histogram
	for _, p := range pubs {
		h.merge(&p.latency)
	}
	r.P50, r.P99, r.P999 = h.quantile(0.5), h.quantile(0.99), h.quantile(0.999)
	var d histogram
	for _, reader := range readers {
		d.merge(&reader.latency)
	}
	r.Delivery = latency{d.quantile(0.5), d.quantile(0.99), d.quantile(0.999)}
	if r.Acked == 0 && (l.QoS > 0 || r.Delivered == 0) { // of QoS 0 a slow broker may let nothing more be written for a while
		return r, fmt.Errorf("broker acknowledged nothing in %v", elapsed)
	}
	return r, nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
