package storage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rivulet/storage/batch"
)

// TestProperties runs random programs against a store while others read it. At any time the n-th record that was sent to a
// partition is at offset n, readers see a prefix of what was sent, and nothing of a frame before its sync has returned.
//
// It runs 40 programs unless -rapid.checks says otherwise: each opens real files.
func TestProperties(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := newProperty(t, rt)
		defer p.end()
		rt.Repeat(map[string]func(*rapid.T){
			"append": p.append,
			"seal":   p.seal,
			"reopen": p.reopen,
			"time":   p.time,
			"":       p.invariants,
		})
	})
}

// property is one program.
type property struct {
	t    *testing.T
	fs   *simFS
	s    *Store
	o    Options
	sent map[uint32]int64 // records, by partition
	kv   map[string]string
	tick int64

	stop    chan struct{}
	readers sync.WaitGroup
	wrong   atomic.Pointer[error]

	mu     sync.Mutex // guards what follows
	before map[uint32]int64
}

const propPartitions = 3

func newProperty(t *testing.T, rt *rapid.T) *property {
	p := &property{t: t, fs: newSimFS(), sent: map[uint32]int64{}, kv: map[string]string{}}
	p.o = Options{
		Dir: t.TempDir(), FS: p.fs, JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10,
		Linger: 0,
	}
	p.open()
	if _, err := p.s.CreateTopic(context.Background(), "t", propPartitions, nil); err != nil {
		rt.Fatal(err)
	}
	p.read()
	return p
}

func (p *property) open() {
	s, err := Open(context.Background(), p.o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.s = s
	p.fs.mu.Lock()
	defer p.fs.mu.Unlock()
	// The committer calls both, around its sync.
	p.fs.fail = func(op, _ string) error {
		if op == "sync" {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.before = p.highs(s)
		}
		return nil
	}
	p.fs.done = func(op, _ string) error {
		if op == "sync" {
			p.mu.Lock()
			defer p.mu.Unlock()
			if now := p.highs(s); !maps.Equal(now, p.before) {
				p.fail(fmt.Errorf("high watermarks went from %v to %v while a frame was synced", p.before, now))
			}
		}
		return nil
	}
}

func (p *property) highs(s *Store) map[uint32]int64 {
	out := map[uint32]int64{}
	for _, tp := range s.Topics() {
		for _, part := range tp.Partitions {
			_, _, out[part.ID] = part.Offsets()
		}
	}
	return out
}

func (p *property) fail(err error) { p.wrong.CompareAndSwap(nil, &err) }

func (p *property) partitions() []*Partition {
	tp, ok := p.s.Topic("t")
	if !ok {
		p.t.Fatal("the topic is gone")
	}
	return tp.Partitions
}

func propValue(id uint32, n int64) string { return fmt.Sprintf("record %d of partition %d", n, id) }

// read starts a reader for each partition, which follows it as a subscriber does.
func (p *property) read() {
	p.stop = make(chan struct{})
	for _, part := range p.partitions() {
		p.readers.Go(func() {
			w := NewWaiter()
			part.Watch(w)
			defer part.Unwatch(w)
			for next := int64(0); ; {
				_, stable, _ := part.Offsets()
				batches, err := part.Read(next, stable, 2000)
				if err != nil {
					p.fail(err)
					return
				}
				for _, b := range batches {
					if next, err = followBatch(part.ID, next, b); err != nil {
						p.fail(err)
						return
					}
				}
				if next < stable && len(batches) > 0 {
					continue
				}
				select {
				case <-w.C:
				case <-p.stop:
					return
				}
			}
		})
	}
}

// followBatch checks that b goes on where a reader is.
func followBatch(id uint32, next int64, b []byte) (int64, error) {
	recs, end, err := readBatchOf(b)
	if err != nil {
		return next, err
	}
	for _, r := range recs {
		if r.offset < next { // the reader stood inside the batch
			continue
		}
		if r.offset != next {
			return next, fmt.Errorf("partition %d: offset %d behind %d", id, r.offset, next-1)
		}
		if r.value != propValue(id, r.offset) {
			return next, fmt.Errorf("partition %d, offset %d: %q", id, r.offset, r.value)
		}
		next++
	}
	if next != end {
		return next, fmt.Errorf("partition %d: batch ends at %d, its records at %d", id, end, next)
	}
	return next, nil
}

// append sends some commits at once.
func (p *property) append(rt *rapid.T) {
	parts := p.partitions()
	var commits []*Commit
	var done sync.WaitGroup
	for range rapid.IntRange(1, 5).Draw(rt, "commits") {
		c := &Commit{Done: func(*Commit) { done.Done() }}
		for _, i := range rapid.Permutation([]int{0, 1, 2}).Draw(rt, "partitions")[:rapid.IntRange(0, propPartitions).Draw(rt, "n")] {
			a := Append{Partition: parts[i]}
			n := rapid.IntRange(1, 60).Draw(rt, "records")
			var w batch.Builder
			w.Begin(nil, 0, 0)
			whole := rapid.Bool().Draw(rt, "whole batch")
			for range n {
				p.tick++
				payload := batch.AppendPayload(nil, nil, []byte(propValue(parts[i].ID, p.sent[parts[i].ID])), nil)
				p.sent[parts[i].ID]++
				a.Records = append(a.Records, batch.Record{Timestamp: p.tick, Payload: payload})
				w.Add(p.tick, payload)
			}
			if whole {
				a.Records, a.Batch = nil, w.End(0, -1, -1, -1)
			}
			c.Appends = append(c.Appends, a)
		}
		if rapid.Bool().Draw(rt, "put") {
			key := rapid.StringMatching(`[a-c]`).Draw(rt, "key")
			p.tick++
			p.kv[key] = fmt.Sprint(p.tick)
			c.Puts = []Put{{"space", key, []byte(p.kv[key])}}
		}
		commits = append(commits, c)
	}
	for _, c := range commits {
		done.Add(1)
		if err := p.s.Submit(context.Background(), c); err != nil {
			rt.Fatal(err)
		}
	}
	done.Wait()
	for _, c := range commits {
		if c.Err != nil {
			rt.Fatal(c.Err)
		}
	}
}

func (p *property) seal(*rapid.T) {
	p.s.pressed.Store(true)
	p.s.wakeSealer()
}

func (p *property) reopen(rt *rapid.T) {
	close(p.stop)
	p.readers.Wait()
	if err := p.s.Close(); err != nil {
		rt.Fatal(err)
	}
	p.fs.mu.Lock()
	p.fs.fail, p.fs.done = nil, nil
	p.fs.mu.Unlock()
	p.open()
	p.read()
}

// time looks a timestamp up: they ascend here, so that the answer is a matter of counting.
func (p *property) time(rt *rapid.T) {
	ms := rapid.Int64Range(0, p.tick+2).Draw(rt, "ms")
	for _, part := range p.partitions() {
		offset, ts, ok, err := part.OffsetForTime(ms)
		if err != nil {
			rt.Fatal(err)
		}
		_, _, high := part.Offsets()
		if !ok {
			if last, max, err := part.MaxTimestamp(); err != nil || high > 0 && (max >= ms || last != high-1) {
				rt.Fatalf("nothing at or after %d, but the largest timestamp is %d at %d, %v", ms, max, last, err)
			}
			continue
		}
		if ts < ms || offset >= high {
			rt.Fatalf("timestamp %d at offset %d for %d", ts, offset, ms)
		}
		if offset > 0 {
			batches, err := part.Read(offset-1, offset, 1)
			if err != nil {
				rt.Fatal(err)
			}
			recs, _, err := readBatchOf(batches[0])
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range recs {
				if r.offset == offset-1 && r.ts >= ms {
					rt.Fatalf("offset %d for %d, but offset %d has %d", offset, ms, offset-1, r.ts)
				}
			}
		}
	}
}

func (p *property) invariants(rt *rapid.T) {
	if err := p.wrong.Load(); err != nil {
		rt.Fatal(*err)
	}
	for _, part := range p.partitions() {
		start, stable, high := part.Offsets()
		if start != 0 || stable != high || high != p.sent[part.ID] {
			rt.Fatalf("partition %d: offsets %d, %d, %d, sent %d", part.ID, start, stable, high, p.sent[part.ID])
		}
		if _, err := part.Read(high+1, high+2, 1); !errors.Is(err, ErrOffsetRange) {
			rt.Fatalf("read behind the end: %v", err)
		}
	}
	for key, want := range p.kv {
		if got, err := p.s.Get("space", key); err != nil || string(got) != want {
			rt.Fatalf("key %s is %q, want %q, %v", key, got, want, err)
		}
	}
}

func (p *property) end() {
	close(p.stop)
	p.readers.Wait()
	if err := p.s.Close(); err != nil {
		p.t.Error(err)
	}
}
