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
	gap    time.Duration // between two messages, see paced.go; 0: as fast as the window allows

	ring    []byte // packets of the same length, back to back
	size    int    // of one packet
	packets int    // in the ring; packet i has id i+1, and at least window of them so that no id is in flight twice

	sent, done uint64
	acked      atomic.Uint64 // done, for others to see; set once a read

	latency  histogram
	sample   uint64 // the message being timed is number sample; 0: none
	sampleAt time.Time
	times    *times        // of all messages, when they are paced
	phase    time.Duration // before the first one, so that publishers do not send all at once

	in   [64 << 10]byte // what was read
	kept int            // bytes in it of a packet that the last read cut
	rels []byte         // PUBRELs to send
}

func newPublisher(ctx context.Context, addr string, number int, l load) (*publisher, error) {
	conn, err := wire.Dial(ctx, addr, fmt.Sprintf("bench-%d", number))
	if err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, qos: l.QoS, window: l.Window}
	if l.Rate > 0 {
		p.gap = time.Duration(float64(time.Second) * float64(l.Publishers) / l.Rate)
		p.times = new(times)
		p.phase = p.gap * time.Duration(number) / time.Duration(l.Publishers)
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
	loop := p.loop
	if p.gap > 0 {
		loop = p.paced
	}
	err := loop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (p *publisher) loop() error {
	for {
		if err := p.write(p.window - int(p.sent-p.done)); err != nil {
			return err
		}
		if p.qos == 0 {
			p.done = p.sent
			continue
		}
		if err := p.read(); err != nil {
			return err
		}
		if p.sample > 0 && p.done >= p.sample {
			p.latency.add(time.Since(p.sampleAt))
			p.sample = 0
		}
	}
}

// read reads once and counts acknowledgements.
func (p *publisher) read() error {
	n, err := p.conn.Read(p.in[p.kept:])
	if err != nil {
		return err
	}
	ack := p.in[:p.kept+n]
	for ; len(ack) >= wire.AckLen; ack = ack[wire.AckLen:] {
		id := int(ack[2])<<8 | int(ack[3])
		switch {
		case ack[0] == wire.Pubrec && p.qos == 2:
			p.rels = append(p.rels, wire.Pubrel, 2, ack[2], ack[3])
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
	p.kept = copy(p.in[:], ack)
	p.acked.Store(p.done)
	if len(p.rels) > 0 {
		if _, err := p.conn.Write(p.rels); err != nil {
			return err
		}
		p.rels = p.rels[:0]
	}
	return nil
}

// write sends the next n packets of the ring, of QoS 0 a quarter of it.
func (p *publisher) write(n int) error {
	if p.qos == 0 && p.gap == 0 {
		n = max(1, p.packets/4)
	}
	if n <= 0 {
		return nil
	}
	if p.sample == 0 && p.gap == 0 {
		p.sample, p.sampleAt = p.sent+1, time.Now()
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
		p.acked.Store(p.sent)
	}
	return nil
}
