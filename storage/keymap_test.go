package storage

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestKeyMap(t *testing.T) {
	m := newKeyMap(1000 * keySlotBytes)
	if left, all := m.room(); left != 900 || all != 900 {
		t.Fatalf("room for %d of %d", left, all)
	}
	want := map[string]int64{}
	rng := rand.New(rand.NewPCG(1, 1))
	refused := 0
	for i := range int64(5000) {
		part, key := uint32(rng.IntN(3)), fmt.Sprint(rng.IntN(400))
		id := fmt.Sprint(part, "/", key)
		if _, known := want[id]; m.put(part, []byte(key), i) {
			want[id] = i
		} else if refused++; known || len(want) != 900 {
			t.Fatalf("key %s is refused with %d keys", id, len(want))
		}
	}
	if refused == 0 {
		t.Fatal("the table was never full")
	}
	for part := range uint32(3) {
		for k := range 400 {
			at, ok := want[fmt.Sprint(part, "/", k)]
			if got := m.last(part, fmt.Append(nil, k)); ok && got != at || !ok && got != -1 {
				t.Fatalf("key %d of partition %d is at %d, want %d %v", k, part, got, at, ok)
			}
		}
	}
	m.put(1, []byte("x"), 7)
	m.reset()
	if left, _ := m.room(); left != 900 || m.last(0, []byte("1")) != -1 {
		t.Error("something is left")
	}
	// Offset 0 is not taken for nothing, and a later offset counts whatever the order.
	m.put(0, nil, 0)
	if m.last(0, nil) != 0 {
		t.Error("offset 0 is lost")
	}
	m.put(0, nil, 9)
	m.put(0, nil, 3)
	if m.last(0, nil) != 9 {
		t.Error("an earlier offset counts")
	}
}

func BenchmarkKeyMapPut(b *testing.B) {
	m := newKeyMap(6 << 20)
	keys := make([][]byte, 100_000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "site/7/line/%d/press", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if !m.put(1, keys[i%len(keys)], int64(i)) {
			b.Fatal("full")
		}
	}
}
