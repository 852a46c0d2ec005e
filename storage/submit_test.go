package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gate holds every sync of a simulated disk until it is opened.
type gate struct {
	disk    *simFS
	waiting chan struct{} // a sync waits
	open    chan struct{}
}

func newGate(disk *simFS) *gate {
	g := &gate{disk: disk, waiting: make(chan struct{}, 100), open: make(chan struct{})}
	disk.mu.Lock()
	defer disk.mu.Unlock()
	disk.fail = func(op, _ string) error {
		if op == "sync" {
			g.waiting <- struct{}{}
			disk.mu.Unlock()
			<-g.open
			disk.mu.Lock()
		}
		return nil
	}
	return g
}

// What is queued while a sync runs goes into the next frame, all of it, in order.
func TestGroupCommit(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	before := s.Stats().Frames
	g := newGate(disk)
	done := make(chan *Commit, 100)
	submit := func(v string) {
		c := appendOf(p, v)
		c.Done = func(c *Commit) { done <- c }
		if err := s.Submit(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	submit("0")
	<-g.waiting
	for i := 1; i < 50; i++ {
		submit(fmt.Sprint(i))
	}
	select {
	case <-done:
		t.Fatal("acknowledged before the sync returned")
	default:
	}
	if _, _, high := p.Offsets(); high != 0 {
		t.Fatal("visible before the sync returned")
	}
	close(g.open)
	first := (<-done).Seq
	for i := 1; i < 50; i++ {
		c := <-done
		if c.Err != nil || c.Seq != first+1 || c.Appends[0].Base != int64(i) {
			t.Fatalf("commit %d: frame %d, offset %d, %v", i, c.Seq, c.Appends[0].Base, c.Err)
		}
	}
	if n := s.Stats().Frames - before; n != 2 {
		t.Fatalf("%d frames", n)
	}
	bs, err := p.Read(0, 50, 1<<20)
	if err != nil || len(bs) != 2 {
		t.Fatalf("%d batches, %v: the records of one frame are one batch", len(bs), err)
	}
}

// A full queue makes Submit wait, and a context ends the waiting.
func TestBackpressure(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	defer closeTest(t, s)
	g := newGate(disk)
	put := func(ctx context.Context) error { return s.Submit(ctx, appendOf(p, strings.Repeat("x", 10_000))) }
	if err := put(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-g.waiting
	// With a context that has ended, Submit says whether it would have waited.
	ended, end := context.WithCancel(context.Background())
	end()
	n := 0
	for ; put(ended) == nil; n++ {
	}
	if n == 0 || n > 10 {
		t.Fatalf("%d commits were queued", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	refused := make(chan error)
	go func() { refused <- put(ctx) }()
	cancel()
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if q := s.Stats().QueueBytes; q > 32<<10 {
		t.Fatalf("%d bytes are queued", q)
	}
	// Urgent ones pass.
	c := &Commit{Urgent: true, Puts: []Put{{"a", "b", []byte("c")}}}
	if err := s.Submit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	close(g.open)
}

func TestSubmitRefuses(t *testing.T) {
	s := openTest(t, Options{JournalBytes: 1 << 20})
	p := createTest(t, s, "t", 1).Partitions[0]
	ctx := context.Background()
	for _, c := range []*Commit{
		appendOf(p, strings.Repeat("x", 1<<20)),
		{Puts: []Put{{"space", "key", make([]byte, maxValue+1)}}},
	} {
		if err := s.Do(ctx, c); !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	}
	for _, c := range []*Commit{
		{Puts: []Put{{"", "key", nil}}}, {Puts: []Put{{"space", "", nil}}}, {Puts: []Put{{"space", strings.Repeat("k", maxKeyBytes+1), nil}}},
	} {
		if err := s.Do(ctx, c); err == nil {
			t.Fatal("a key that no checkpoint can hold was taken")
		}
	}
	closeTest(t, s)
	if err := s.Do(ctx, appendOf(p, "x")); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("closed twice:", err)
	}
}

// Submits that wait when the store closes end with ErrClosed; what was taken is committed.
func TestCloseWhileWaiting(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, p := openSim(t, dir, disk)
	g := newGate(disk)
	n, ended := 0, make(chan error)
	go func() {
		for {
			c := appendOf(p, strings.Repeat("x", 10_000))
			c.Done = func(c *Commit) {
				if c.Err == nil {
					n++
				}
			}
			if err := s.Submit(context.Background(), c); err != nil {
				ended <- err
				return
			}
		}
	}()
	<-g.waiting
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	close(g.open)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	s, p = openSim(t, dir, disk)
	if _, _, high := p.Offsets(); int(high) != n || n == 0 {
		t.Fatalf("%d records, %d acknowledged", high, n)
	}
	closeTest(t, s)
}

// A trickle with a linger of one second makes a frame a second, and what is patient rides in it. Alone it gets one after a second.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), testOptions(t, Options{FS: newSimFS(), Linger: time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		defer closeTest(t, s)
		p := createTest(t, s, "telemetry", 1).Partitions[0]
		recs := telemetry(20)
		patient := func(i int) {
			c := &Commit{Urgent: true, Patient: true, Puts: []Put{{Space: "x", Key: "k", Value: fmt.Append(nil, i)}}}
			if err := s.Submit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		const seconds = 100
		before := s.Stats().Frames
		tick := time.NewTicker(time.Second / 20)
		for i := range seconds * 20 {
			<-tick.C
			if err := s.Submit(t.Context(), &Commit{Appends: []Append{{Partition: p, Records: recs[i%20 : i%20+1]}}}); err != nil {
				t.Fatal(err)
			}
			if i%10 == 7 {
				patient(i)
			}
		}
		tick.Stop()
		if n := s.Stats().Frames - before; n > seconds {
			t.Errorf("%d frames in %d seconds", n, seconds)
		}
		<-time.After(2 * time.Second)
		before = s.Stats().Frames
		from := time.Now()
		patient(-1)
		patient(-2)
		if err := s.Do(t.Context(), &Commit{Urgent: true, Patient: true, Puts: []Put{{Space: "x", Key: "k", Value: []byte("last")}}}); err != nil {
			t.Fatal(err)
		}
		if n, d := s.Stats().Frames-before, time.Since(from); n != 1 || d != patience {
			t.Errorf("%d frames, after %v", n, d)
		}
		// Who comes behind them and does not wait takes them along.
		patient(-3)
		from = time.Now()
		doTest(t, s, &Commit{Urgent: true, Puts: []Put{{Space: "x", Key: "l", Value: []byte("v")}}})
		if n, d := s.Stats().Frames-before, time.Since(from); n != 2 || d != 0 {
			t.Errorf("%d frames, after %v", n, d)
		}
	})
}
