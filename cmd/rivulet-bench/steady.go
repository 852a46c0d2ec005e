package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// steady publishes with QoS 1 at a rate, one message in flight, whatever happens around it.
type steady struct {
	conn net.Conn
	gap  time.Duration
	sent int
}

func newSteady(ctx context.Context, addr, user, password string, rate int) (*steady, error) {
	nc, err := wire.DialLogin(ctx, addr, user, user, password)
	if err != nil {
		return nil, err
	}
	return &steady{conn: nc, gap: time.Second / time.Duration(rate)}, nil
}

// run publishes until a value comes or ctx ends. A message's time runs from when it was due: one that was held back by the one before is late.
func (s *steady) run(ctx context.Context, until <-chan time.Time) (l latencies, err error) {
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var h histogram
	payload := make([]byte, 200)
	var packet []byte
	due := time.Now()
	for {
		select {
		case <-until:
			return latencies{h.quantile(0.5), h.quantile(0.99), l.worst}, nil
		default:
		}
		due = due.Add(s.gap)
		if ahead := time.Until(due); ahead > 0 {
			time.Sleep(ahead)
		}
		s.sent++
		id := uint16(s.sent%1000) + 1
		packet = wire.AppendPublish(packet[:0], "other", 1, id, payload)
		if _, err := s.conn.Write(packet); err != nil {
			return l, fmt.Errorf("publish: %w", err)
		}
		var ack [wire.AckLen]byte
		if _, err := io.ReadFull(s.conn, ack[:]); err != nil {
			return l, fmt.Errorf("read PUBACK: %w", err)
		}
		if ack[0] != wire.Puback || uint16(ack[2])<<8|uint16(ack[3]) != id {
			return l, fmt.Errorf("broker sent %x for packet %d", ack, id)
		}
		took := time.Since(due)
		h.add(took)
		l.worst = max(l.worst, took)
	}
}
