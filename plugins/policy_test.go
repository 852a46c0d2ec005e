package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	a "rivulet/plugins/asm"
	"rivulet/storage/batch"
)

func trapping() []byte { return hostile(a.NewRedpanda(), a.Unreachable) }

// poisoned are n records of which those at the given places make a hostile guest run its code.
func poisoned(n int, at ...int) []batch.Record {
	return records(n, func(i int) string {
		if slices.Contains(at, i) {
			return fmt.Sprint("!", i)
		}
		return fmt.Sprint("v", i)
	})
}

func TestOnError(t *testing.T) {
	h := newHost(t, Options{})
	const good = "0 v0\n"
	for policy, want := range map[OnError]string{
		"":         good + "1 dead (module failed: wasm error: unreachable) !1\n2 v2\n3 dead (module failed: wasm error: unreachable) !3\n",
		DeadLetter: good + "1 dead (module failed: wasm error: unreachable) !1\n2 v2\n3 dead (module failed: wasm error: unreachable) !3\n",
		Drop:       good + "2 v2\n",
		Pass:       good + "1 !1\n2 v2\n3 !3\n",
		Reject:     good + "1 rejected (module failed: wasm error: unreachable) !1\n2 v2\n3 rejected (module failed: wasm error: unreachable) !3\n",
	} {
		t.Run(string(policy), func(t *testing.T) {
			att := attach(t, h, trapping(), AttachOptions{OnError: policy})
			if got := render(process(t, att, poisoned(4, 1, 3))); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if s := att.Stats(); s.Errors != 2 || s.Restarts != 2 || s.In != s.Dropped+s.Dead+s.Rejected+s.Out {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestHalt(t *testing.T) {
	h := newHost(t, Options{})
	att := attach(t, h, trapping(), AttachOptions{OnError: Halt})
	var out Output
	ctx := context.Background()
	out.Results = append(out.Results, Result{Source: 99})
	err := att.Process(ctx, 0, poisoned(4, 2), &out)
	if !errors.Is(err, ErrHalted) || !errors.Is(err, ErrTrap) || len(out.Results) != 1 {
		t.Fatalf("got %v and %d results", err, len(out.Results))
	}
	if err := att.Process(ctx, 0, poisoned(4), &out); !errors.Is(err, ErrHalted) {
		t.Errorf("while it is halted: %v", err)
	}
	if s := att.Stats(); s.State != "halted" || s.In != 0 || !strings.Contains(s.LastError, "unreachable") {
		t.Errorf("%+v", s)
	}
	att.Resume()
	if got := render(process(t, att, poisoned(2))); got != "0 v0\n1 v1\n" {
		t.Errorf("after Resume: %s", got)
	}
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestBreaker(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	h := newHost(t, Options{Now: c.Now})
	att := attach(t, h, trapping(), AttachOptions{})
	for range 40 { // 20 in 76 seconds are not too many
		process(t, att, poisoned(2, 1))
		c.Add(4 * time.Second)
	}
	if s := att.Stats(); s.State != "running" || s.Errors != 40 {
		t.Fatalf("%+v", s)
	}
	c.Add(time.Minute)
	every := make([]int, 25)
	for i := range every {
		every[i] = 2*i + 1
	}
	out := process(t, att, poisoned(50, every...))
	for i, r := range out.Results {
		switch {
		case i%2 == 0 && i < 39 && r.Kind != Emitted,
			i%2 == 1 && i <= 39 && (r.Kind != Dead || !errors.Is(r.Err, ErrTrap)),
			i > 39 && (r.Kind != Dead || !errors.Is(r.Err, ErrSuspended)),
			r.Source != i:
			t.Fatalf("got %s", render(out))
		}
	}
	if len(out.Results) != 50 || att.Stats().State != "suspended" {
		t.Fatalf("%d results, %+v", len(out.Results), att.Stats())
	}
	if got := render(process(t, att, poisoned(1))); got != "0 dead (plugin is suspended after too many failures) v0\n" {
		t.Errorf("got %s", got)
	}
	att.Resume()
	if got := render(process(t, att, poisoned(1))); got != "0 v0\n" {
		t.Errorf("after Resume: %s", got)
	}
}

// A guest that fails because of what it remembers gets a new memory, and the record is not lost.
func TestRetryWithFreshMemory(t *testing.T) {
	h := newHost(t, Options{})
	m := a.NewRedpanda()
	seen := m.Global(a.I32, a.I32Const(0))
	wasm := m.Finish(0,
		a.GlobalGet(seen), a.I32Const(1), a.I32Add, a.GlobalSet(seen),
		a.GlobalGet(seen), a.I32Const(7), a.I32GtS, a.If, a.Unreachable, a.End,
		m.Emit(a.I32Const(a.RecordBuffer), a.LocalGet(a.RecordSize)))
	att := attach(t, h, wasm, AttachOptions{})
	for range 4 {
		if got := render(process(t, att, records(3, func(int) string { return "v" }))); got != "0 v\n1 v\n2 v\n" {
			t.Fatalf("got %s", got)
		}
	}
	if s := att.Stats(); s.Errors != 0 || s.Restarts != 1 || s.Out != 12 {
		t.Errorf("%+v", s)
	}
}

func TestMalformedInput(t *testing.T) {
	h := newHost(t, Options{})
	att := attach(t, h, trapping(), AttachOptions{})
	in := poisoned(3)
	in[1].Payload = []byte{5, 1}
	out := process(t, att, in)
	if len(out.Results) != 3 || out.Results[1].Kind != Dead || !strings.HasPrefix(out.Results[1].Err.Error(), "input: ") {
		t.Errorf("got %d results", len(out.Results))
	}
	in[0].Payload, in[2].Payload = nil, []byte{}
	if out := process(t, att, in); len(out.Results) != 3 {
		t.Errorf("got %d results", len(out.Results))
	}
}

func TestCancel(t *testing.T) {
	h := newHost(t, Options{RecordTime: time.Minute})
	att := attach(t, h, hostile(a.NewRedpanda(), spin), AttachOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	looping := make(chan error)
	var out Output
	go func() { looping <- att.Process(ctx, 0, poisoned(3, 1), &out) }()
	cancel()
	if err := <-looping; !errors.Is(err, context.Canceled) || len(out.Results) != 0 {
		t.Errorf("got %v and %d results", err, len(out.Results))
	}
	if got := render(process(t, att, poisoned(1))); got != "0 v0\n" {
		t.Errorf("afterwards: %s", got)
	}
	if s := att.Stats(); s.Errors != 0 || s.In != 1 {
		t.Errorf("%+v", s)
	}
}

func TestCloseWhileItRuns(t *testing.T) {
	h := newHost(t, Options{RecordTime: time.Minute})
	att := attach(t, h, hostile(a.NewRedpanda(), spin), AttachOptions{Lanes: 2})
	looping := make(chan error, 2)
	for lane := range 2 {
		go func() { looping <- att.Process(context.Background(), lane, poisoned(3, 1), new(Output)) }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := att.Close(ctx); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-looping; !errors.Is(err, ErrClosed) {
			t.Errorf("the call that ran got %v", err)
		}
	}
	if err := att.Process(context.Background(), 0, poisoned(1), new(Output)); !errors.Is(err, ErrClosed) {
		t.Errorf("a call afterwards got %v", err)
	}
	if s := att.Stats(); s.State != "detached" || s.MemoryBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestLanes(t *testing.T) {
	h := newHost(t, Options{})
	att := attach(t, h, trapping(), AttachOptions{Lanes: 4, OnError: Drop})
	var wg sync.WaitGroup
	for lane := range 8 { // two callers a lane
		wg.Go(func() {
			var out Output
			for i := range 50 {
				out.Reset()
				in := poisoned(10)
				if i == 20 && lane < 2 {
					in = poisoned(10, 4)
				}
				if err := att.Process(context.Background(), lane, in, &out); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := att.Stats(); s.In != 4000 || s.Out != 3998 || s.Dropped != 2 || s.MemoryBytes != 4*2<<16 {
		t.Errorf("%+v", s)
	}
}
