package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// steady publishes with QoS 1 at a rate, whatever was acknowledged meanwhile and whatever happens around it.
type steady struct {
	conn net.Conn
	acks *bufio.Reader
	gap  time.Duration
	sent int
}

// steadyWindow is how many messages may be unacknowledged; one more waits, and its time runs.
const steadyWindow = 1000

func newSteady(ctx context.Context, addr, user, password string, rate int) (*steady, error) {
	nc, err := wire.DialLogin(ctx, addr, user, user, password)
	if err != nil {
		return nil, err
	}
	return &steady{conn: nc, acks: bufio.NewReader(nc), gap: time.Second / time.Duration(rate)}, nil
}

// run publishes until a value comes or ctx ends, and waits for what is unacknowledged. A message's time runs from when it was due.
func (s *steady) run(ctx context.Context, until <-chan time.Time) (latencies, error) {
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	dues := make(chan time.Time, steadyWindow)
	var l latencies
	ended := make(chan error, 1)
	go func(sent int) {
		var err error
		l, err = s.read(sent, dues)
		ended <- err
	}(s.sent)
	err := s.send(dues, until, ended)
	close(dues)
	return l, errors.Join(err, <-ended)
}

// send sends a message whenever one is due, and says when that was. An early end of the reader is left in ended.
func (s *steady) send(dues chan<- time.Time, until <-chan time.Time, ended chan error) error {
	payload := make([]byte, 200)
	var packet []byte
	for due := time.Now(); ; {
		due = due.Add(s.gap)
		time.Sleep(time.Until(due))
		select {
		case <-until:
			return nil
		case err := <-ended:
			ended <- err
			return nil
		case dues <- due:
		}
		packet = wire.AppendPublish(packet[:0], "other", 1, packetID(s.sent), payload)
		s.sent++
		if _, err := s.conn.Write(packet); err != nil {
			s.conn.Close() // the reader waits for an answer
			return fmt.Errorf("publish: %w", err)
		}
	}
}

// read reads an acknowledgement for every message that was sent.
func (s *steady) read(sent int, dues <-chan time.Time) (latencies, error) {
	var h histogram
	var worst time.Duration
	for due := range dues {
		var ack [wire.AckLen]byte
		if _, err := io.ReadFull(s.acks, ack[:]); err != nil {
			return latencies{}, fmt.Errorf("read PUBACK: %w", err)
		}
		if id := packetID(sent); ack[0] != wire.Puback || uint16(ack[2])<<8|uint16(ack[3]) != id {
			return latencies{}, fmt.Errorf("broker sent %x for packet %d", ack, id)
		}
		sent++
		took := time.Since(due)
		h.add(took)
		worst = max(worst, took)
	}
	return latencies{h.quantile(0.5), h.quantile(0.99), worst}, nil
}

// packetID is that of a message; no two in the window have the same.
func packetID(sent int) uint16 { return uint16(sent%(2*steadyWindow)) + 1 }
