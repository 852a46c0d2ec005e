package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// publisher keeps a window of unacknowledged publishes on one connection. run is its only goroutine.
type publisher struct {
	conn   net.Conn
	qos    byte
	window int
	gap    time.Duration // between two messages; 0: as fast as the window allows

	ring    []byte // packets of the same length, back to back
	size    int    // of one packet
	packets int    // in the ring; packet i has id i+1, and at least window of them so that no id is in flight twice

	sent, done uint64
	acked      atomic.Uint64 // done, for others to see; set once a read

	latency  histogram
	sample   uint64 // the message being timed is number sample; 0: none
	sampleAt time.Time
}

func newPublisher(ctx context.Context, addr string, number int, l load) (*publisher, error) {
	conn, err := wire.Dial(ctx, addr, fmt.Sprintf("bench-%d", number))
	if err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, qos: l.QoS, window: l.Window}
	if l.Rate > 0 {
		p.gap = time.Duration(float64(time.Second) * float64(l.Publishers) / l.Rate)
	}
	p.packets = min(max(l.Window, 256), wire.MaxPacketIDs)
	topic := fmt.Sprintf("%s/line-%d/dev-%d", cmp.Or(l.Prefix, "bench"), number%10, number)
	rnd := rand.New(rand.NewPCG(uint64(number), 1))
	var payload []byte
	for i := range p.packets {
		payload = telemetry(payload[:0], number, i, l.Size, rnd)
		p.ring = wire.AppendPublish(p.ring, topic, l.QoS, uint16(i+1), payload)
	}
	p.size = len(p.ring) / p.packets
	return p, nil
}

// run publishes until the connection's deadline passes.
func (p *publisher) run() error {
	defer p.conn.Close()
	err := p.loop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (p *publisher) loop() error {
	in := make([]byte, 64<<10)
	var rels []byte // PUBRELs to send
	kept := 0       // bytes of a packet that the last read cut
	next := time.Now()
	for {
		free := p.window - int(p.sent-p.done)
		at := time.Time{}
		if p.gap > 0 && free > 0 {
			free, next = 1, next.Add(p.gap)
			if ahead := time.Until(next); ahead > 0 {
				time.Sleep(ahead)
			} else {
				at = next
			}
		}
		if err := p.write(free, at); err != nil {
			return err
		}
		if p.qos == 0 {
			continue
		}
		n, err := p.conn.Read(in[kept:])
		if err != nil {
			return err
		}
		n += kept
		ack := in[:n]
		for ; len(ack) >= wire.AckLen; ack = ack[wire.AckLen:] {
			id := int(ack[2])<<8 | int(ack[3])
			switch {
			case ack[0] == wire.Pubrec && p.qos == 2:
				rels = append(rels, wire.Pubrel, 2, ack[2], ack[3])
				continue
			case ack[0] == wire.Puback && p.qos == 1, ack[0] == wire.Pubcomp && p.qos == 2:
			default:
				return fmt.Errorf("broker sent packet type %#x", ack[0])
			}
			if want := int(p.done%uint64(p.packets)) + 1; id != want {
				return fmt.Errorf("broker acknowledged packet %d, the next one is %d", id, want)
			}
			p.done++
		}
		kept = copy(in, ack)
		p.acked.Store(p.done)
		if p.sample > 0 && p.done >= p.sample {
			p.latency.add(time.Since(p.sampleAt))
			p.sample = 0
		}
		if len(rels) > 0 {
			if _, err := p.conn.Write(rels); err != nil {
				return err
			}
			rels = rels[:0]
		}
	}
}

// write sends the next n packets of the ring, of QoS 0 a quarter of it. due is zero, or when they should have gone: a
// paced message that a slow broker held back is late from then on.
func (p *publisher) write(n int, due time.Time) error {
	if p.qos == 0 {
		n = max(1, p.packets/4)
	}
	if n <= 0 {
		return nil
	}
	if p.sample == 0 {
		p.sample, p.sampleAt = p.sent+1, due
		if due.IsZero() {
			p.sampleAt = time.Now()
		}
	}
	for n > 0 {
		first := int(p.sent % uint64(p.packets))
		m := min(n, p.packets-first)
		if _, err := p.conn.Write(p.ring[first*p.size : (first+m)*p.size]); err != nil {
			return err
		}
		p.sent += uint64(m)
		n -= m
	}
	if p.qos == 0 {
		p.done = p.sent
		p.acked.Store(p.done)
	}
	return nil
}
