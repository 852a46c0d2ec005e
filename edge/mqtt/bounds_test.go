package mqtt

import (
	"bytes"
	"io"
	"testing"
	"time"

	"rivulet/edge/mqtt/packet"
)

// A client that sends and does not read what it is answered is not read any further: its answers do not fill the memory. When it
// reads, it gets all of them.
func TestAnswersPushBack(t *testing.T) {
	const bound = 16 << 10
	r := newRig(t, rigOptions{server: func(o *Options) { o.MaxQueued = bound }})
	p := r.pipe(packet.V311)
	p.login("deaf", nil)
	pings := bytes.Repeat(packet.AppendPing(nil, packet.PINGREQ), 1<<19)
	sent := make(chan error, 1)
	go func() {
		_, err := p.nc.Write(pings)
		sent <- err
	}()
	most := int64(2*bound + largeBuffer) // what may wait, and what one read brings
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for full := 0; full < 100; {
		select {
		case err := <-sent:
			t.Fatalf("all was taken, and nothing read: %v", err)
		case <-tick.C:
		}
		switch n := r.srv.Stats().QueuedBytes; {
		case n > most:
			t.Fatalf("%d bytes wait for a client that does not read", n)
		case n > 2*bound:
			full++
		}
	}
	if _, err := io.CopyN(io.Discard, p.nc, int64(len(pings))); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// Acknowledgements for what was never sent wait for nobody to look: too many of them end the connection.
func TestTooManyPubacks(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.CloseTimeout = time.Minute }}) // to read the flood to its end
	p := r.connect(packet.V5, "busy", nil)
	p.subscribe("#", 1, nil)
	flood := bytes.Repeat(packet.AppendAck(nil, packet.PUBACK, packet.V5, 7, packet.Success), maxAcked+1)
	go func() { _, _ = p.nc.Write(flood) }() // it may be cut off
	p.wantEnd(packet.ProtocolError)
}
