package mqtt

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"rivulet/edge/auth"
	"rivulet/edge/mqtt/packet"
)

// publisher keeps window QoS 1 messages in flight until n are acknowledged.
func (p *peer) pump(n, window int, topic string) {
	m := packet.Publish{Topic: []byte(topic), Payload: bytes.Repeat([]byte("x"), 200), QoS: 1, ID: 1}
	one := m.Append(nil, p.v)
	idAt := bytes.Index(one, []byte(topic)) + len(topic)
	out := make([]byte, 0, window*len(one))
	in := make([]byte, 64<<10)
	sent, acked, rest := 0, 0, 0
	for acked < n {
		out = out[:0]
		for sent < n && sent-acked < window {
			id := uint16(sent%65000) + 1
			one[idAt], one[idAt+1] = byte(id>>8), byte(id)
			out = append(out, one...)
			sent++
		}
		if len(out) > 0 {
			if _, err := p.nc.Write(out); err != nil {
				p.t.Error(err)
				return
			}
		}
		k, err := p.nc.Read(in)
		if err != nil {
			p.t.Error(err)
			return
		}
		rest += k
		acked += rest / 4
		rest %= 4
	}
}

// drain reads n QoS 0 or 1 messages and acknowledges them.
func (p *peer) drain(n int) {
	p.answer(n, func(acks []byte, head byte, body []byte) ([]byte, int) {
		if head>>1&3 == 1 {
			l := 2 + (int(body[0])<<8 | int(body[1]))
			acks = append(acks, 0x40, 2, body[l], body[l+1])
		}
		return acks, 1
	})
}

// drain2 reads n QoS 2 messages and completes their exchanges.
func (p *peer) drain2(n int) {
	p.answer(n, func(acks []byte, head byte, body []byte) ([]byte, int) {
		switch packet.TypeOf(head) {
		case packet.PUBLISH:
			l := 2 + (int(body[0])<<8 | int(body[1]))
			return append(acks, 0x50, 2, body[l], body[l+1]), 0
		case packet.PUBREL:
			return append(acks, 0x70, 2, body[0], body[1]), 1
		}
		return acks, 0
	})
}

// answer reads packets until n messages are done, and sends what each adds to the acknowledgements, all of one read together. each
// says how many messages a packet was the last of.
func (p *peer) answer(n int, each func(acks []byte, head byte, body []byte) ([]byte, int)) {
	buf, have := make([]byte, 256<<10), 0
	var acks []byte
	for n > 0 {
		k, err := p.nc.Read(buf[have:])
		if err != nil {
			p.t.Error(err)
			return
		}
		have += k
		at := 0
		for {
			size, body, err := packet.Split(buf[at:have])
			if err != nil {
				p.t.Error(err)
				return
			}
			if body == nil {
				break
			}
			done := 0
			acks, done = each(acks, buf[at], body)
			n -= done
			at += size
		}
		have = copy(buf, buf[at:have])
		if len(acks) > 0 {
			_, _ = p.nc.Write(acks)
			acks = acks[:0]
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct{ pubs, window, subs int }{{1, 1, 0}, {1, 20, 0}, {10, 100, 0}, {10, 100, 1}, {100, 100, 0}, {100, 100, 1}} {
		b.Run(fmt.Sprintf("%dx%d_subs%d", c.pubs, c.window, c.subs), func(b *testing.B) {
			r := newRig(b, rigOptions{})
			var wg sync.WaitGroup
			per := max(1, b.N/c.pubs)
			for i := range c.subs {
				s := r.connect(packet.V311, fmt.Sprint("sub", i), nil)
				s.subscribe("#", 1, nil)
				wg.Go(func() { s.drain(per * c.pubs) })
			}
			var peers []*peer
			for i := range c.pubs {
				peers = append(peers, r.connect(packet.V311, fmt.Sprint("pub", i), nil))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i, p := range peers {
				wg.Go(func() { p.pump(per, c.window, fmt.Sprintf("factory/line%d/telemetry", i)) })
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(per*c.pubs)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(r.srv.Stats().FellBehind), "behind")
		})
	}
}

// BenchmarkPipe is BenchmarkPublish without a network, for what the server itself allocates.
func BenchmarkPipe(b *testing.B) {
	r := newRig(b, rigOptions{})
	p := r.pipe(packet.V311)
	p.login("pub", nil)
	b.ReportAllocs()
	b.ResetTimer()
	p.pump(b.N, 100, "factory/line/telemetry")
}

// BenchmarkPipeGuarded is BenchmarkPipe with users and rules: the answer is remembered with the topic.
func BenchmarkPipeGuarded(b *testing.B) {
	g := guard(b, auth.Config{}, "allow publish user ann mqtt factory/{client}/#")
	p := g.pipe(packet.V311)
	p.login("pub", as("ann"))
	b.ReportAllocs()
	b.ResetTimer()
	p.pump(b.N, 100, "factory/pub/telemetry")
}

// BenchmarkFanOut: one publisher, many subscribers.
func BenchmarkFanOut(b *testing.B) {
	for _, subs := range []int{10, 100} {
		b.Run(fmt.Sprint(subs), func(b *testing.B) {
			r := newRig(b, rigOptions{})
			var wg sync.WaitGroup
			n := max(1, b.N/subs)
			for i := range subs {
				s := r.connect(packet.V311, fmt.Sprint("sub", i), nil)
				s.subscribe("#", 0, nil)
				wg.Go(func() { s.drain(n) })
			}
			p := r.connect(packet.V311, "pub", nil)
			b.ReportAllocs()
			b.ResetTimer()
			p.pump(n, 100, "factory/line/telemetry")
			wg.Wait()
			b.ReportMetric(float64(n*subs)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkQoS2Out: messages to subscribers at QoS 2, with sessions that are kept and that are not.
func BenchmarkQoS2Out(b *testing.B) {
	for _, durable := range []bool{false, true} {
		b.Run(fmt.Sprintf("kept=%v", durable), func(b *testing.B) {
			r := newRig(b, rigOptions{})
			var wg sync.WaitGroup
			change := kept
			if !durable {
				change = nil
			}
			s := r.connect(packet.V311, "sub", change)
			s.subscribe("t", 2, nil)
			wg.Go(func() { s.drain2(b.N) })
			p := r.connect(packet.V311, "pub", nil)
			out := make([]byte, 0, 64<<10)
			payload := bytes.Repeat([]byte("x"), 200)
			wg.Go(func() { // the answers
				for got := 0; got < 8*b.N; {
					k, err := p.nc.Read(make([]byte, 32<<10))
					if err != nil {
						return
					}
					got += k
				}
			})
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				id := uint16(i%60000) + 1
				m := packet.Publish{Topic: []byte("t"), Payload: payload, QoS: 2, ID: id}
				out = packet.AppendAck(m.Append(out, packet.V311), packet.PUBREL, packet.V311, id, packet.Success)
				if len(out) > 60<<10 || i == b.N-1 {
					if _, err := p.nc.Write(out); err != nil {
						b.Fatal(err)
					}
					out = out[:0]
				}
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkManyToMany: as many publishers as subscribers, each message to all of them.
func BenchmarkManyToMany(b *testing.B) {
	const n = 100
	r := newRig(b, rigOptions{})
	var wg sync.WaitGroup
	per := max(1, b.N/(n*n))
	for i := range n {
		s := r.connect(packet.V311, fmt.Sprint("sub", i), nil)
		s.subscribe("#", 0, nil)
		wg.Go(func() { s.drain(n * per) })
	}
	var pubs []*peer
	for i := range n {
		pubs = append(pubs, r.connect(packet.V311, fmt.Sprint("pub", i), nil))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, p := range pubs {
		wg.Go(func() { p.pump(per, 20, fmt.Sprintf("factory/line%d/telemetry", i)) })
	}
	wg.Wait()
	b.ReportMetric(float64(n*n*per)/b.Elapsed().Seconds(), "deliveries/s")
}
