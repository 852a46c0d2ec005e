package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"rivulet/edge"
	"rivulet/edge/mqtt/packet"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// logFaults makes the log unreadable for a while.
type logFaults struct {
	behind atomic.Bool // frames for those who are not live
	all    atomic.Bool // frames for all
	read   atomic.Bool // single partitions
	hits   atomic.Int32
}

var errInjected = errors.New("out of descriptors, as a test says")

func (f *logFaults) put(l *logReader) {
	real := *l
	l.frames = func(after uint64, maxBytes int, q *edge.LogQuery) ([]edge.Frame, uint64, error) {
		if f.all.Load() || q != nil && f.behind.Load() {
			f.hits.Add(1)
			return nil, after, errInjected
		}
		return real.frames(after, maxBytes, q)
	}
	l.read = func(p *edge.Partition, from, limit int64, maxBytes int) ([][]byte, error) {
		if f.read.Load() {
			f.hits.Add(1)
			return nil, errInjected
		}
		return real.read(p, from, limit, maxBytes)
	}
}

// faultyRig is a rig with faults, and what counts how often they were met.
func faultyRig(t *testing.T) (*rig, *logFaults) {
	f := &logFaults{}
	return newRig(t, rigOptions{reader: f.put}), f
}

func (f *logFaults) met(t *testing.T) {
	t.Helper()
	n := f.hits.Load()
	eventually(t, "the log was to be read", func() bool { return f.hits.Load() > n })
}

// dispatched waits until the dispatcher is behind all messages: who comes back has to read the log.
func (r *rig) dispatched() {
	r.t.Helper()
	frames, err := r.store.Frames(0, 1<<30)
	if err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the dispatcher is behind all messages", func() bool {
		r.srv.dispatch.mu.Lock()
		defer r.srv.dispatch.mu.Unlock()
		return r.srv.dispatch.pos >= frames[len(frames)-1].Seq
	})
}

// A session that cannot read the log loses its connection, with a reason, and nothing else.
func TestSessionThatCannotReadTheLog(t *testing.T) {
	versions(t, func(t *testing.T, v packet.Version) {
		r, f := faultyRig(t)
		pub, p := r.connect(v, "pub", nil), r.resume(v, "c", false, nil)
		p.subscribe("t", 1, nil)
		pub.stored("t", "in flight", nil)
		first := p.wantPublish() // not acknowledged
		p.disconnect()
		for i := range 5 {
			pub.stored("t", fmt.Sprint(i), nil)
		}
		r.dispatched()
		f.read.Store(true) // what was in flight
		p = r.resume(v, "c", true, nil)
		p.wantEnd(packet.Unspecified)
		f.read.Store(false)
		f.behind.Store(true) // what came meanwhile
		for range 3 {
			p = r.resume(v, "c", true, nil)
			if m := p.wantPublish(); string(m.Payload) != "in flight" || !m.Dup || m.ID != first.ID {
				t.Fatalf("got %q, DUP %v, packet id %d", m.Payload, m.Dup, m.ID)
			}
			p.wantEnd(packet.Unspecified)
		}
		f.behind.Store(false)
		p = r.resume(v, "c", true, nil)
		if m := p.wantPublish(); string(m.Payload) != "in flight" {
			t.Fatalf("got %q", m.Payload)
		}
		for i := range 5 {
			p.wantMessage("t", fmt.Sprint(i), 1)
		}
		p.wantNothing()
		if log := r.log.String(); !strings.Contains(log, "its connection ends") || !strings.Contains(log, errInjected.Error()) {
			t.Errorf("the log says: %s", log)
		}
	})
}

// Live subscribers get what came while the log could not be read, later and in order.
func TestDispatcherThatCannotReadTheLog(t *testing.T) {
	r, f := faultyRig(t)
	pub, p := r.connect(packet.V5, "pub", nil), r.connect(packet.V5, "c", nil)
	p.subscribe("t", 1, nil)
	eventually(t, "the subscriber is live", func() bool { return len(r.srv.notLive()) == 0 })
	f.all.Store(true)
	for i := range 5 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	f.met(t)
	f.met(t)
	p.wantNothing()
	f.all.Store(false)
	for i := range 5 {
		p.wantMessage("t", fmt.Sprint(i), 1)
	}
	if n := strings.Count(r.log.String(), "cannot read the log for MQTT subscribers"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

// A shared subscription waits, and goes on where it was.
func TestShareThatCannotReadTheLog(t *testing.T) {
	r, f := faultyRig(t)
	pub, p := r.connect(packet.V5, "pub", nil), r.resume(packet.V5, "c", false, nil)
	p.subscribe("$share/g/t", 1, nil)
	pub.stored("t", "lent", nil)
	p.wantPublish()
	p.disconnect()
	eventually(t, "it sleeps", func() bool {
		r.srv.dispatch.mu.Lock()
		defer r.srv.dispatch.mu.Unlock()
		return r.srv.shares["$share/g/t"].asleep
	})
	for i := range 5 {
		pub.stored("t", fmt.Sprint(i), nil)
	}
	r.dispatched()
	f.behind.Store(true)
	p = r.resume(packet.V5, "c", true, nil)
	f.met(t)
	f.met(t)
	p.wantNothing()
	f.read.Store(true)
	f.behind.Store(false)
	f.met(t) // what is to be lent again
	p.wantNothing()
	f.read.Store(false)
	p.wantMessage("t", "lent", 1)
	for i := range 5 {
		p.wantMessage("t", fmt.Sprint(i), 1)
	}
	f.all.Store(true) // and a server closes although its share, or the dispatcher before it, waits
	p.disconnect()
	eventually(t, "it sleeps again", func() bool {
		r.srv.dispatch.mu.Lock()
		defer r.srv.dispatch.mu.Unlock()
		return r.srv.shares["$share/g/t"].asleep
	})
	pub.stored("t", "last", nil)
	r.resume(packet.V5, "c", true, nil)
	f.met(t)
}

// producers write to a topic's partition, in transactions and without.
type producers struct {
	r   *rig
	p   *edge.Partition
	seq map[int64]int32
}

func (w *producers) batch(producer int64, values ...string) edge.Append {
	var b batch.Builder
	b.Begin(nil, 0, 0)
	for _, v := range values {
		b.Add(1, batch.AppendPayload(nil, []byte("key"), []byte(v), nil))
	}
	if producer == 0 {
		return edge.Append{Partition: w.p, Batch: b.End(0, -1, -1, -1)}
	}
	return edge.Append{Partition: w.p, Batch: b.End(batch.AttrTransactional, producer, 0, w.seq[producer])}
}

func (w *producers) add(producer int64, values ...string) {
	w.r.t.Helper()
	c := &edge.Commit{Appends: []edge.Append{w.batch(producer, values...)}}
	if producer > 0 {
		c.Producer = &edge.Producer{Partition: w.p, ID: producer, BaseSequence: w.seq[producer], Records: int32(len(values)), Transactional: true}
		w.seq[producer] += int32(len(values))
	}
	w.do(c)
}

func (w *producers) do(c *edge.Commit) {
	w.r.t.Helper()
	if err := w.r.store.Do(w.r.t.Context(), c); err != nil {
		w.r.t.Fatal(err)
	}
}

func (w *producers) end(producer int64) edge.Append {
	return edge.Append{Partition: w.p, Marker: &storage.Marker{ProducerID: producer, Commit: true}}
}

func (r *rig) producers(topic string) *producers {
	r.t.Helper()
	tp, err := r.broker.CreateTopic(r.t.Context(), edge.TopicSpec{Name: topic})
	if err != nil {
		r.t.Fatal(err)
	}
	return &producers{r, tp.Partitions[0], map[int64]int32{}}
}

// A transaction that cannot be read when it ends stays held back, and nothing of its partition overtakes it.
func TestTransactionThatCannotBeRead(t *testing.T) {
	r, f := faultyRig(t)
	live := r.connect(packet.V311, "live", nil)
	live.subscribe("#", 1, nil)
	late := r.resume(packet.V311, "late", false, nil)
	late.subscribe("#", 1, nil)
	late.disconnect()
	a, b := r.producers("a"), r.producers("b")
	a.add(1, "a1", "a2")
	f.read.Store(true)
	a.do(&edge.Commit{Appends: []edge.Append{a.end(1), b.batch(0, "b")}})
	live.wantMessage("b/key", "b", 1)
	live.wantNothing()
	late = r.resume(packet.V311, "late", true, nil)
	late.wantEnd(packet.Success)
	f.read.Store(false)
	a.add(0, "after")
	for _, p := range []*peer{live, r.resume(packet.V311, "late", true, nil)} {
		var got []string
		for range 3 {
			got = append(got, string(p.wantPublish().Payload))
		}
		if p != live { // the other partition's record has its place
			got = append(got, string(p.wantPublish().Payload))
			got = append(got[:2], got[3:]...)
		}
		if fmt.Sprint(got) != "[a1 a2 after]" {
			t.Errorf("got %s", got)
		}
		p.wantNothing()
	}
}

// When there is no room for a transaction that was held back, what stands behind its marker in the same frame comes after it.
func TestNoRoomAtATransactionsEnd(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := r.resume(packet.V5, "c", false, func(c *packet.Connect) {
		c.Properties.ReceiveMaximum = 1
		c.Properties.Mark(packet.PropReceiveMaximum)
	})
	p.subscribe("#", 1, nil)
	a, b := r.producers("a"), r.producers("b")
	eventually(t, "the subscriber is live", func() bool { return len(r.srv.notLive()) == 0 })
	a.add(0, "first")
	m := p.wantPublish()
	a.add(1, "a1", "a2")
	a.do(&edge.Commit{Appends: []edge.Append{a.batch(0, "between"), a.end(1), b.batch(0, "b")}})
	for _, want := range []string{"a1", "a2", "between", "b"} {
		p.wantNothing()
		p.ack(packet.PUBACK, m.ID)
		if m = p.wantPublish(); string(m.Payload) != want {
			t.Fatalf("got %q, want %q", m.Payload, want)
		}
	}
	p.ack(packet.PUBACK, m.ID)
	p.wantNothing()
}

// Sessions with all kinds of filters get what they should and no more, from memory and from sealed batches: skipping is held against matching.
func TestSessionsSkipNothingTheyWant(t *testing.T) {
	small := rigOptions{store: func(o *storage.Options) {
		o.JournalBytes, o.TailBytes, o.LogFileBytes, o.ScrubRate = 1<<20, 256<<10, 512<<10, -1
	}, broker: func(o *edge.Options) {
		o.Routes = []edge.Route{{MQTT: "plant/+/#", Topic: "plant-{1}"}, {MQTT: "keyed/+/#", Topic: "keyed", Key: "{1}"}}
	}}
	r := newRig(t, small)
	filters := []string{
		"plant/1/dev/3", "plant/+/dev/3", "plant/2/#", "keyed/7/a", "keyed/+/b", "cmd/5", "cmd/5/#", "+/5", "#", "none", "cmd/+", "k/x", "k", "k/#",
	}
	peers := make([]*peer, len(filters))
	for i, f := range filters {
		peers[i] = r.resume(packet.V311, fmt.Sprint("s", i), false, nil)
		peers[i].subscribe(f, 1, nil)
		peers[i].disconnect()
	}
	pub := r.connect(packet.V311, "pub", nil)
	k := r.producers("k")
	var topics, payloads []string
	for i := range 1500 {
		topic := []string{
			fmt.Sprintf("plant/%d/dev/%d", i%3, i%11), fmt.Sprintf("keyed/%d/%c", i%9, 'a'+i%2), fmt.Sprintf("cmd/%d", i%17), fmt.Sprintf("cmd/%d/x", i%13), "other",
		}[i*7/3%5]
		payload := fmt.Sprintf("%d %0200d", i, 0)
		pub.publish(topic, payload, 0, nil)
		topics, payloads = append(topics, topic), append(payloads, payload)
		if i%250 == 0 {
			pub.stored(topic, payload, nil)
			topics, payloads = append(topics, topic), append(payloads, payload)
			k.add(0, fmt.Sprint("k", i))
			topics, payloads = append(topics, "k/key"), append(payloads, fmt.Sprint("k", i))
		}
	}
	pub.stored("other", "last", nil)
	topics, payloads = append(topics, "other"), append(payloads, "last")
	for range 2 {
		for i, f := range filters {
			p := r.resume(packet.V311, fmt.Sprint("s", i), true, nil)
			for n, topic := range topics {
				qos1 := !strings.Contains(payloads[n], " ") || n > 0 && payloads[n] == payloads[n-1]
				if matches(f, []byte(topic)) && qos1 {
					if m := p.wantPublish(); string(m.Topic) != topic || string(m.Payload) != payloads[n] {
						t.Fatalf("%s: got %.20q of %s, want %.20q of %s", f, m.Payload, m.Topic, payloads[n], topic)
					}
				}
			}
			p.wantNothing()
			_ = p.nc.Close() // without acknowledgements: all of it again
			eventually(t, "the session is put away", func() bool {
				r.srv.mu.Lock()
				defer r.srv.mu.Unlock()
				return r.srv.clients[fmt.Sprint("s", i)] == nil
			})
		}
		r.stop() // what was in memory is sealed
		r.start(small)
	}
}
