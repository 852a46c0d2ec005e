package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rivulet/cmd/rivulet-bench/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBroker answers as a broker would, by one connection's rules at a time; swap makes it acknowledge out of order.
func fakeBroker(t *testing.T, swap bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		conns := make(chan struct{}, 1000)
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			n++
			go func() { serve(c, swap); conns <- struct{}{} }()
		}
		for range n {
			<-conns
		}
	}()
	return l.Addr().String()
}

func serve(c net.Conn, swap bool) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		head, err := r.ReadByte()
		if err != nil {
			return
		}
		n, shift := 0, 0
		for {
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			n |= int(b&0x7f) << shift
			shift += 7
			if b < 0x80 {
				break
			}
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		switch head & 0xf0 {
		case 0x10:
			c.Write([]byte{wire.Connack, 2, 0, 0})
		case 0x80:
			c.Write([]byte{wire.Suback, 3, body[0], body[1], 0})
			c.Write(wire.AppendPublish(nil, "a/b", 0, 0, bytes.Repeat([]byte("x"), 300)))
			c.Write(wire.AppendPublish(nil, "a/b", 1, 7, []byte("y")))
		case wire.Publish:
			topic := int(body[0])<<8 | int(body[1])
			id := body[2+topic : 4+topic]
			switch head >> 1 & 3 {
			case 1:
				if swap {
					id = []byte{0, 2}
				}
				c.Write([]byte{wire.Puback, 2, id[0], id[1]})
			case 2:
				c.Write([]byte{wire.Pubrec, 2, id[0], id[1]})
			}
		case wire.Pubrel & 0xf0:
			c.Write([]byte{wire.Pubcomp, 2, body[0], body[1]})
		}
	}
}

func TestLoad(t *testing.T) {
	for _, l := range []load{
		{Publishers: 1, Window: 1, QoS: 1},
		{Publishers: 3, Window: 400, QoS: 1, Reader: "#"},
		{Publishers: 2, Window: 10, QoS: 2},
		{Publishers: 2, Window: 1, QoS: 0},
		{Publishers: 2, Window: 1, QoS: 1, Rate: 2000},
		{Publishers: 2, Window: 10, QoS: 2, Rate: 2000},
	} {
		l.Size, l.Duration = 200, 50*time.Millisecond
		r, err := l.put(t.Context(), target{addr: fakeBroker(t, false)})
		if err != nil {
			t.Errorf("%+v: %v", l, err)
			continue
		}
		if r.PerSecond <= 0 || latencyMissing(r) {
			t.Errorf("%+v: %+v", l, r)
		}
	}
}

func latencyMissing(r result) bool { return r.Load.QoS > 0 && (r.P50 <= 0 || r.P99 < r.P50) }

func TestLoadNoticesWrongAcknowledgement(t *testing.T) {
	l := load{Publishers: 1, Window: 1, QoS: 1, Size: 20, Duration: 10 * time.Second}
	_, err := l.put(t.Context(), target{addr: fakeBroker(t, true)})
	if err == nil || !strings.Contains(err.Error(), "acknowledged packet 2, the next one is 1") {
		t.Errorf("err = %v", err)
	}
}

func TestSubscriberCounts(t *testing.T) {
	s, err := newSubscriber(t.Context(), fakeBroker(t, false), 0, "#", 1)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for s.received.Load() != 2 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("received %d", s.received.Load())
		}
	}
	s.conn.SetDeadline(time.Now())
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSubscriberTimes: a delivery is held against when the publisher that its topic names sent the message of that number.
func TestSubscriberTimes(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &subscriber{sent: []*times{new(times), new(times)}, came: make([]uint64, 2)}
	s.sent[1].set(0, now.Add(-time.Second))
	s.sent[1].set(1, now.Add(-time.Millisecond))
	s.sent[0].set(0, now.Add(-time.Minute))
	for _, topic := range []string{"bench/line-1/dev-1", "bench/line-0/dev-0", "bench/line-1/dev-1", "other", "bench/dev-2", "bench/dev-x"} {
		packet := wire.AppendPublish(nil, topic, 1, 1, []byte("x"))
		body, _, ok := cut(packet)
		if !ok {
			t.Fatalf("%s: no packet", topic)
		}
		s.time(body, now)
	}
	if s.latency.count != 3 {
		t.Errorf("%d messages timed", s.latency.count)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: time.Second, 1: time.Minute} {
		if got := s.latency.quantile(q); got > want || got < want*15/16 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestTelemetry(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{200, 300, 1000} {
		b := telemetry(nil, 7, 42, size, rnd)
		if len(b) != size || size > 200 && !json.Valid(b) {
			t.Errorf("%d bytes: %s", len(b), b)
		}
	}
}

func TestBlock(t *testing.T) {
	doc := "# A\n<!-- bench x -->\nold\n<!-- /bench -->\nby hand\n"
	got, err := withBlock(doc, "x", "new\n")
	if want := "# A\n<!-- bench x -->\nnew\n<!-- /bench -->\nby hand\n"; err != nil || got != want {
		t.Errorf("%v %q", err, got)
	}
	for _, bad := range []string{"", "<!-- bench x -->\nold"} {
		if _, err := withBlock(bad, "x", "new"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestUsage(t *testing.T) {
	var out, errs bytes.Buffer
	for _, args := range [][]string{{"mqtt", "--qos", "3"}, {"mqtt", "--nonsense"}, {"mqtt", "--in-flight", "70000"}} {
		if code := run(t.Context(), args, &out, &errs); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, &errs)
		}
	}
}

func BenchmarkPublisher(b *testing.B) {
	client, server := net.Pipe()
	p := &publisher{conn: client, qos: 1, window: 100}
	p.packets = 256
	for i := range p.packets {
		p.ring = wire.AppendPublish(p.ring, "t", 1, uint16(i+1), make([]byte, 200))
	}
	p.size = len(p.ring) / p.packets
	go func() {
		in, acks := make([]byte, 1<<20), []byte(nil)
		id := 0
		kept := 0
		for {
			n, err := server.Read(in)
			if err != nil {
				return
			}
			n += kept
			acks = acks[:0]
			for ; n >= p.size; n -= p.size {
				acks = append(acks, wire.Puback, 2, byte((id+1)>>8), byte(id+1))
				id = (id + 1) % p.packets
			}
			kept = n
			if _, err := server.Write(acks); err != nil {
				return
			}
		}
	}()
	ended := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- p.run() }()
	for p.acked.Load() < uint64(b.N) {
		select {
		case err := <-ended:
			b.Fatal(err)
		default:
		}
	}
	b.StopTimer()
	client.SetDeadline(time.Now())
	<-ended
	server.Close()
}
