package http

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"rivulet/edge"
	"rivulet/storage"
	"rivulet/storage/batch"
)

// A full store is ready: only who asks for writes is sent away.
func TestReadyWhenFull(t *testing.T) {
	h := newHarnessOf(t, storage.Options{TailBytes: 1 << 20, LogFileBytes: 1 << 20, MaxBytes: 20 << 20, WhenFull: storage.Refuse})
	h.do("GET", "/readyz?check=writes", nil, 200, nil)
	h.do("GET", "/readyz?check=reads", nil, 400, nil)
	store := h.broker.Store()
	tp, err := store.CreateTopic(t.Context(), "full", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 128<<10)
	rng := rand.New(rand.NewPCG(1, 1))
	for n := 0; ; n++ {
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		err := store.Do(t.Context(), &storage.Commit{Appends: []storage.Append{{
			Partition: tp.Partitions[0], Records: []batch.Record{{Timestamp: 1, Payload: batch.AppendPayload(nil, nil, noise, nil)}},
		}}})
		if errors.Is(err, edge.ErrFull) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
	}
	var health Health
	h.do("GET", "/readyz", nil, 200, &health)
	if health.Status != "ok" || !strings.Contains(health.Writes, "storage.max_bytes") {
		t.Errorf("%+v", health)
	}
	h.do("GET", "/readyz?check=writes", nil, 503, nil)
	h.do("GET", "/healthz", nil, 200, nil)
}
