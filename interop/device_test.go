package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"rivulet/cmd/rivulet-bench/wire"
)

// device publishes readings of QoS 1 to one MQTT topic, in bursts, through every crash of its broker. Its run is one goroutine.
type device struct {
	*ledger
	addr   string
	pace   time.Duration
	resend bool // after a reconnect, unacknowledged readings go out again with DUP; else they are given up
	rnd    *rand.Rand

	unacked []int // numbers, in the order in which they were sent
}

// redial is how long a client waits before it dials again; fast and slow are how long between two bursts.
const (
	redial = 10 * time.Millisecond
	fast   = 5 * time.Millisecond
	slow   = 100 * time.Millisecond
)

// run publishes until work ends, and then until everything is acknowledged. It returns early when ctx ends.
func (d *device) run(ctx, work context.Context) error {
	for {
		err := d.session(ctx, work)
		var bad protocolError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &bad):
			return fmt.Errorf("%s: %w", d.source, err)
		case ctx.Err() != nil:
			return fmt.Errorf("%s still had %d unacknowledged readings: %w", d.source, len(d.unacked), err)
		}
		if !d.resend {
			d.unacked = d.unacked[:0]
		}
		select {
		case <-time.After(redial):
		case <-ctx.Done():
		}
	}
}

// protocolError is what no crash excuses.
type protocolError string

func (e protocolError) Error() string { return string(e) }

func (d *device) session(ctx, work context.Context) error {
	conn, err := wire.Dial(ctx, d.addr, d.source)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	var out []byte
	for _, n := range d.unacked {
		d.again(n)
		from := len(out)
		out = d.publish(out, n)
		out[from] |= 0x08
	}
	tick := time.NewTicker(d.pace)
	defer tick.Stop()
	for {
		if work.Err() == nil {
			for range 1 + d.rnd.IntN(50) {
				n := d.next()
				d.unacked = append(d.unacked, n)
				out = d.publish(out, n)
			}
		} else if len(d.unacked) == 0 {
			return nil
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		out = out[:0]
		if err := d.collect(conn); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-work.Done():
		}
	}
}

func (d *device) publish(b []byte, number int) []byte {
	payload := reading(nil, d.source, number, 20+d.rnd.IntN(200))
	return wire.AppendPublish(b, "site/"+d.source, 1, packetID(number), payload)
}

func packetID(number int) uint16 { return uint16(number%wire.MaxPacketIDs + 1) }

// collect reads the acknowledgements of all that is unacknowledged. Those that came before an error count.
func (d *device) collect(conn net.Conn) error {
	in := make([]byte, len(d.unacked)*wire.AckLen)
	read, err := io.ReadFull(conn, in)
	acks := read / wire.AckLen
	for i := range acks {
		ack := in[i*wire.AckLen:]
		id := uint16(ack[2])<<8 | uint16(ack[3])
		if ack[0] != wire.Puback || id != packetID(d.unacked[i]) {
			return protocolError(fmt.Sprintf("got packet % x, want PUBACK of %d", ack[:wire.AckLen], packetID(d.unacked[i])))
		}
	}
	d.ack(d.unacked[:acks]...)
	d.unacked = slices.Delete(d.unacked, 0, acks)
	return err
}
