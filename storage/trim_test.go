package storage

import (
	"errors"
	"testing"
)

// TestTrim moves log starts into sealed batches, into the tail and to the end, and looks again after an orderly end and a kill.
func TestTrim(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	topic := createTest(t, s, "t", 3)
	want := []int64{15, 44, 60}
	for round := range 2 {
		for range 10 {
			for _, p := range topic.Partitions {
				put(t, s, p, "a", "b", "c")
			}
		}
		if round == 0 {
			sealNow(t, s)
		}
	}
	trim := func(i int, to int64) error {
		return s.Trim(t.Context(), []Start{{Partition: topic.Partitions[i], Offset: to}})
	}
	for i, to := range want {
		if err := trim(i, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := trim(1, 10); err != nil {
		t.Fatalf("the start is further on already: %v", err)
	}
	if err := trim(0, 61); !errors.Is(err, ErrOffsetRange) {
		t.Fatalf("behind the end: %v", err)
	}
	check := func() {
		t.Helper()
		for i, p := range topic.Partitions {
			start, _, high := p.Offsets()
			if start != want[i] || high != 60 {
				t.Fatalf("partition %d: log from %d to %d, want %d to 60", p.Index, start, high, want[i])
			}
			if _, err := p.Read(start-1, 60, 1<<20); !errors.Is(err, ErrOffsetRange) {
				t.Fatalf("read before the start: %v", err)
			}
			if got := len(valuesOf(t, p, start)); got != int(60-start) {
				t.Fatalf("partition %d: %d records from its start, want %d", p.Index, got, 60-start)
			}
		}
	}
	reopen := func(end func(*Store) error) {
		t.Helper()
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, Options{Dir: dir})
		topic, _ = s.Topic("t")
		if problems := s.Problems(); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	check()
	reopen(kill)
	check()
	reopen((*Store).Close)
	check()
	if base := put(t, s, topic.Partitions[2], "d"); base != 60 {
		t.Fatalf("the next offset is %d, want 60", base)
	}
	closeTest(t, s)
}
