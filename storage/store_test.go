package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"rivulet/storage/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLog writes to the test's output.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), testOptions(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testOptions(t testing.TB, o Options) Options {
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if o.Labels.Of == nil {
		o.Labels = testLabels()
	}
	return o
}

func closeTest(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func createTest(t testing.TB, s *Store, name string, partitions int) *Topic {
	t.Helper()
	tp, err := s.CreateTopic(context.Background(), name, partitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tp
}

func record(ts int64, value string) batch.Record {
	return batch.Record{Timestamp: ts, Payload: batch.AppendPayload(nil, nil, []byte(value), nil)}
}

func doTest(t testing.TB, s *Store, c *Commit) {
	t.Helper()
	if err := s.Do(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// put appends values to p in one commit and returns the first offset.
func put(t testing.TB, s *Store, p *Partition, values ...string) int64 {
	t.Helper()
	c := appendOf(p, values...)
	doTest(t, s, c)
	return c.Appends[0].Base
}

func appendOf(p *Partition, values ...string) *Commit {
	a := Append{Partition: p}
	for i, v := range values {
		a.Records = append(a.Records, record(int64(1000+i), v))
	}
	return &Commit{Appends: []Append{a}}
}

// valuesOf reads all records of p from offset from, with their offsets.
func valuesOf(t testing.TB, p *Partition, from int64) map[int64]string {
	t.Helper()
	out := map[int64]string{}
	_, _, high := p.Offsets()
	for from < high {
		batches, err := p.Read(from, high, 1<<20)
		if err != nil {
			t.Fatalf("read %d of %d: %v", from, high, err)
		}
		if len(batches) == 0 {
			t.Fatalf("nothing at %d of %d", from, high)
		}
		for _, b := range batches {
			if err := batch.Check(b); err != nil {
				t.Fatal(err)
			}
			var d batch.Decoder
			if err := d.Reset(b, 0); err != nil {
				t.Fatal(err)
			}
			for {
				r, ok := d.Next()
				if !ok {
					break
				}
				if r.Offset >= from && !d.Header().Control() {
					out[r.Offset] = string(r.Payload.Value())
				}
			}
			from = d.Header().NextOffset()
		}
	}
	return out
}

func wantValues(t testing.TB, p *Partition, want ...string) {
	t.Helper()
	start, _, high := p.Offsets()
	got := valuesOf(t, p, start)
	if len(got) != len(want) || high != start+int64(len(want)) {
		t.Fatalf("got %d records up to offset %d, want %d: %v", len(got), high, len(want), got)
	}
	for i, w := range want {
		if got[start+int64(i)] != w {
			t.Fatalf("offset %d: got %q, want %q", start+int64(i), got[start+int64(i)], w)
		}
	}
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	tp := createTest(t, s, "telemetry", 3)
	if base := put(t, s, tp.Partitions[0], "a", "b"); base != 0 {
		t.Fatalf("base %d", base)
	}
	if base := put(t, s, tp.Partitions[0], "c"); base != 2 {
		t.Fatalf("base %d", base)
	}
	put(t, s, tp.Partitions[2], "x")
	doTest(t, s, &Commit{Puts: []Put{{"session", "k1", []byte("v1")}, {"session", "k2", []byte{}}, {"session", "k3", []byte("v3")}}})
	doTest(t, s, &Commit{Puts: []Put{{"session", "k3", nil}}})
	gen := s.Generation()
	check := func(s *Store) {
		t.Helper()
		tp, ok := s.Topic("telemetry")
		if !ok || len(tp.Partitions) != 3 {
			t.Fatal("no topic")
		}
		wantValues(t, tp.Partitions[0], "a", "b", "c")
		wantValues(t, tp.Partitions[1])
		wantValues(t, tp.Partitions[2], "x")
		if v, err := s.Get("session", "k1"); string(v) != "v1" || err != nil {
			t.Fatalf("k1: %q, %v", v, err)
		}
		if v, err := s.Get("session", "k2"); v == nil || len(v) != 0 || err != nil {
			t.Fatalf("k2: %v, %v", v, err)
		}
		if v, err := s.Get("session", "k3"); v != nil || err != nil {
			t.Fatalf("k3: %v, %v", v, err)
		}
		var keys []string
		if err := s.Scan("session", "k", func(k string, v []byte) bool { keys = append(keys, k); return true }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(keys) != "[k1 k2]" {
			t.Fatalf("keys %v", keys)
		}
		frames, err := s.Frames(0, 1<<20)
		if err != nil || len(frames) != 3 {
			t.Fatalf("%d frames, %v", len(frames), err)
		}
		if g := s.Generation(); g.ID != gen.ID || g.ID == "" {
			t.Fatalf("generation %v, was %v", g, gen)
		}
		if raw, _ := tp.Partitions[0].Size(); raw == 0 {
			t.Fatal("no size")
		}
	}
	check(s)
	closeTest(t, s)
	for range 3 {
		s = openTest(t, Options{Dir: dir})
		check(s)
		if len(s.Problems()) > 0 {
			t.Fatal(s.Problems())
		}
		closeTest(t, s)
	}
}

func TestLocked(t *testing.T) {
	s := openTest(t, Options{})
	defer closeTest(t, s)
	_, err := Open(context.Background(), Options{Dir: s.o.Dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Fatal(err)
	}
}
