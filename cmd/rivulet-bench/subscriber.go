package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// subscriber counts what is delivered to it, and acknowledges QoS 1. run is its only goroutine.
type subscriber struct {
	conn     net.Conn
	received atomic.Uint64

	// Of publishers that are paced, by their numbers: when they sent, and how many of their messages came. Their order is kept.
	sent    []*times
	came    []uint64
	latency histogram
}

func newSubscriber(ctx context.Context, addr string, number int, filter string, qos byte) (*subscriber, error) {
	conn, err := wire.Dial(ctx, addr, fmt.Sprintf("bench-reader-%d", number))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(wire.AppendSubscribe(nil, 1, filter, qos)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("send SUBSCRIBE: %w", err)
	}
	var ack [5]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil {
		conn.Close()
		return nil, fmt.Errorf("read SUBACK: %w", err)
	}
	if ack[0] != wire.Suback || ack[4] > 2 {
		conn.Close()
		return nil, fmt.Errorf("subscription was refused: %x", ack)
	}
	return &subscriber{conn: conn}, nil
}

// run reads until the connection's deadline passes.
func (s *subscriber) run() error {
	defer s.conn.Close()
	buf := make([]byte, 256<<10)
	var acks []byte
	kept := 0
	for {
		n, err := s.conn.Read(buf[kept:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read deliveries: %w", err)
		}
		n += kept
		at, count, now := 0, uint64(0), time.Now()
		for {
			body, length, ok := cut(buf[at:n])
			if !ok {
				break
			}
			if head := buf[at]; head&0xf0 == wire.Publish {
				count++
				s.time(body, now)
				if head&0x06 == 0x02 { // QoS 1
					topic := int(body[0])<<8 | int(body[1])
					acks = append(acks, wire.Puback, 2, body[2+topic], body[3+topic])
				}
			}
			at += length
		}
		kept = copy(buf, buf[at:n])
		if kept == len(buf) {
			return fmt.Errorf("a packet is larger than %d bytes", len(buf))
		}
		s.received.Add(count)
		if len(acks) > 0 {
			if _, err := s.conn.Write(acks); err != nil {
				return fmt.Errorf("send PUBACK: %w", err)
			}
			acks = acks[:0]
		}
	}
}

// time takes the latency of a message; the topic ends in its publisher's number.
func (s *subscriber) time(body []byte, now time.Time) {
	if len(s.sent) == 0 {
		return
	}
	topic := body[2 : 2+(int(body[0])<<8|int(body[1]))]
	n, err := strconv.Atoi(string(topic[bytes.LastIndexByte(topic, '-')+1:]))
	if err != nil || n < 0 || n >= len(s.sent) {
		return // not one of ours
	}
	s.latency.add(s.sent[n].since(s.came[n], now))
	s.came[n]++
}

// cut takes the first whole packet off b: what follows its length, and the length of all of it.
func cut(b []byte) (body []byte, length int, ok bool) {
	n, shift := 0, 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7f) << shift
		shift += 7
		if b[i] < 0x80 {
			length = i + 1 + n
			if len(b) < length {
				return nil, 0, false
			}
			return b[i+1 : length], length, true
		}
	}
	return nil, 0, false
}
