package storage

import (
	"sync/atomic"
	"testing"
	"time"
)

// testClock is a wall clock that tests set. It has no monotonic reading.
type testClock struct{ ms atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.ms.Store(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *testClock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

func (c *testClock) step(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// pass lets time pass in steps that are no steps of the clock.
func (c *testClock) pass(s *Store, d time.Duration) {
	for d > 0 {
		c.step(min(d, clockStep))
		s.clock.tick(c.now())
		d -= clockStep
	}
}

func TestStoreClock(t *testing.T) {
	base := time.UnixMilli(1_700_000_000_000)
	for _, test := range []struct {
		name  string
		steps []time.Duration
		want  time.Duration
	}{
		{"time passes", []time.Duration{time.Second, time.Minute, time.Hour}, time.Hour + time.Minute + time.Second},
		{"a step forward", []time.Duration{time.Minute, 56 * 365 * 24 * time.Hour, time.Minute}, 2 * time.Minute},
		{"a step back", []time.Duration{time.Minute, -2 * time.Hour, time.Minute}, 2 * time.Minute},
		{"a small step back", []time.Duration{time.Minute, -time.Second, time.Minute}, 2 * time.Minute},
		{"less than a millisecond, often", []time.Duration{400_000, 400_000, 400_000}, time.Millisecond},
	} {
		var c storeClock
		now := base
		c.tick(now)
		for _, d := range test.steps {
			now = now.Add(d)
			c.tick(now)
		}
		if got := time.Duration(c.now()) * time.Millisecond; got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// A monotonic reading is trusted, however far apart the ticks are.
	var c storeClock
	now := time.Now()
	c.tick(now)
	c.tick(now.Add(50 * time.Hour))
	if c.now() != 50*3600_000 {
		t.Errorf("monotonic: %d ms", c.now())
	}
}

// Over restarts up to an hour counts, and what the journal knows of is not counted twice.
func TestStoreClockOverRestarts(t *testing.T) {
	for _, test := range []struct {
		name string
		away time.Duration
		want time.Duration
	}{
		{"shortly", 10 * time.Minute, 10 * time.Minute},
		{"an hour", time.Hour, time.Hour},
		{"two hours", 2 * time.Hour, 0},
		{"into the past", -30 * time.Minute, 0},
		{"to 1970", -56 * 365 * 24 * time.Hour, 0},
	} {
		for name, end := range map[string]func(*Store) error{"closed": (*Store).Close, "killed": kill} {
			t.Run(test.name+" "+name, func(t *testing.T) {
				clock := newTestClock()
				o := Options{Dir: t.TempDir(), Now: clock.now}
				s := openTest(t, o)
				createTest(t, s, "t", 1)
				if err := s.Close(); err != nil { // a checkpoint knows both clocks
					t.Fatal(err)
				}
				s = openTest(t, o)
				tp, _ := s.Topic("t")
				clock.pass(s, 3*time.Hour)
				put(t, s, tp.Partitions[0], "x")
				before := s.clock.now()
				if err := end(s); err != nil {
					t.Fatal(err)
				}
				clock.step(test.away)
				s = openTest(t, o)
				if got := time.Duration(s.clock.now()-before) * time.Millisecond; got != test.want {
					t.Errorf("went on by %v, want %v", got, test.want)
				}
				closeTest(t, s)
			})
		}
	}
}

// Directories and the journal tell when each record was committed, by the store's clock.
func TestClocksOfRecords(t *testing.T) {
	clock := newTestClock()
	o := Options{Dir: t.TempDir(), Now: clock.now}
	s := openTest(t, o)
	tp := createTest(t, s, "t", 1)
	p := tp.Partitions[0]
	begun := s.clock.now()
	want := func(oldest, newest time.Duration) {
		t.Helper()
		e := s.sealed.index(p.ID)
		last := e[len(e)-1]
		if got := time.Duration(last.newest-begun) * time.Millisecond; got != newest {
			t.Errorf("newest record: %v, want %v", got, newest)
		}
		if got := time.Duration(last.age) * time.Second; got != newest-oldest {
			t.Errorf("oldest record: %v older, want %v", got, newest-oldest)
		}
	}
	put(t, s, p, "a")
	clock.pass(s, 90*time.Minute)
	put(t, s, p, "b")
	sealNow(t, s)
	want(0, 90*time.Minute)
	clock.pass(s, 10*time.Minute)
	put(t, s, p, "c")
	if err := kill(s); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, o)
	tp, _ = s.Topic("t")
	p = tp.Partitions[0]
	want(0, 90*time.Minute)
	sealNow(t, s)
	want(100*time.Minute, 100*time.Minute)
	closeTest(t, s)
}
