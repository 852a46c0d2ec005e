package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rivulet/cmd/rivulet-bench/process"
	"rivulet/cmd/rivulet-bench/wire"
)

// away is many sessions that are kept while messages for them go by, and some that come back.
type away struct {
	sessions, messages, back int
}

// awayResult is what that takes.
type awayResult struct {
	Subscribe time.Duration `json:"subscribe"` // all sessions connect, subscribe and leave
	Publish   time.Duration `json:"publish"`   // all messages, acknowledged
	Return    time.Duration `json:"return"`    // until those that came back have had what they missed
	Memory    int64         `json:"memory"`    // RssAnon behind the messages, beyond the start
	Missing   int           `json:"missing"`   // messages that those who came back did not get
}

func (a away) topic(i int) string { return fmt.Sprintf("cmd/dev-%d", i) }

// run has each session subscribe to a topic of its own with QoS 1, spreads the messages over the topics, and has some sessions come back.
func (a away) run(ctx context.Context, p *process.Process) (r awayResult, err error) {
	base := p.Anonymous()
	from := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range a.sessions {
		g.Go(func() error { return a.leave(gctx, p.MQTT, i) })
	}
	if err := g.Wait(); err != nil {
		return r, fmt.Errorf("subscribe: %w", err)
	}
	r.Subscribe, from = time.Since(from), time.Now()
	const publishers = 10
	g, gctx = errgroup.WithContext(ctx)
	for k := range publishers {
		g.Go(func() error { return a.publish(gctx, p.MQTT, k, publishers) })
	}
	if err := g.Wait(); err != nil {
		return r, fmt.Errorf("publish: %w", err)
	}
	r.Publish, from = time.Since(from), time.Now()
	r.Memory = p.Anonymous() - base
	var mu sync.Mutex
	g, gctx = errgroup.WithContext(ctx)
	for k := range a.back {
		g.Go(func() error {
			got, err := a.comeBack(gctx, p.MQTT, k*a.sessions/a.back)
			mu.Lock()
			r.Missing += a.messages/a.sessions - got
			mu.Unlock()
			return err
		})
	}
	err = g.Wait()
	r.Return = time.Since(from)
	return r, err
}

func (a away) leave(ctx context.Context, addr string, i int) error {
	nc, err := wire.DialKept(ctx, addr, fmt.Sprintf("away-%d", i))
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(wire.AppendSubscribe(nil, 1, a.topic(i), 1)); err != nil {
		return err
	}
	var ack [5]byte
	if _, err := io.ReadFull(nc, ack[:]); err != nil || ack[0] != wire.Suback || ack[4] > 2 {
		return fmt.Errorf("SUBACK %x: %w", ack, err)
	}
	_, err = nc.Write([]byte{0xE0, 0})
	return err
}

// publish sends every n-th message, with a window of 100.
func (a away) publish(ctx context.Context, addr string, k, n int) error {
	nc, err := wire.Dial(ctx, addr, fmt.Sprintf("away-publisher-%d", k))
	if err != nil {
		return err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	payload := make([]byte, 200)
	for i := range payload {
		payload[i] = byte('a' + i%26)
	}
	const window = 100
	var out []byte
	in := make([]byte, 16<<10)
	open, rest := 0, 0
	for i := k; i < a.messages || open > 0; {
		out = out[:0]
		for ; i < a.messages && open < window; i += n {
			copy(payload, fmt.Sprintf("%09d", i))
			out = wire.AppendPublish(out, a.topic(i%a.sessions), 1, uint16(i/n%60000)+1, payload)
			open++
		}
		if _, err := nc.Write(out); err != nil {
			return err
		}
		m, err := nc.Read(in)
		if err != nil {
			return err
		}
		rest += m
		open -= rest / wire.AckLen
		rest %= wire.AckLen
	}
	return nil
}

// comeBack counts what a session gets, until it has all or nothing has come for a while.
func (a away) comeBack(ctx context.Context, addr string, i int) (got int, err error) {
	nc, err := wire.DialKept(ctx, addr, fmt.Sprintf("away-%d", i))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	buf, kept := make([]byte, 64<<10), 0
	var acks []byte
	for want := a.messages / a.sessions; got < want; {
		_ = nc.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := nc.Read(buf[kept:])
		if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // as it came from the socket
			return got, nil
		}
		if err != nil {
			return got, err
		}
		n += kept
		at := 0
		for {
			body, length, ok := cut(buf[at:n])
			if !ok {
				break
			}
			if head := buf[at]; head&0xf0 == wire.Publish {
				got++
				if head&0x06 == 0x02 {
					topic := int(body[0])<<8 | int(body[1])
					acks = append(acks, wire.Puback, 2, body[2+topic], body[3+topic])
				}
			}
			at += length
		}
		kept = copy(buf, buf[at:n])
		if len(acks) > 0 {
			if _, err := nc.Write(acks); err != nil {
				return got, err
			}
			acks = acks[:0]
		}
	}
	return got, nil
}
