package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// Urgent commits are taken however full the journal is, and each takes a frame. They must not outrun the checkpoints that let
// journal files be used again, or the journal would grow without bound.
func TestUrgentCommitsBound(t *testing.T) {
	disk := newSimFS()
	s := openTest(t, Options{FS: disk, JournalBytes: 256 << 10, TailBytes: 512 << 10})
	defer closeTest(t, s)
	p := createTest(t, s, "t", 1).Partitions[0]
	most := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			f := &filler{rng: newFiller().rng}
			for i := range 1500 {
				c := &Commit{Urgent: true, Puts: []Put{{Space: "x", Key: fmt.Sprint(w, i%500), Value: make([]byte, 3000)}}}
				if i%100 == 99 {
					c = f.append(p, 1, 100)
				}
				if err := s.Do(context.Background(), c); err != nil {
					t.Error(err)
					return
				}
				disk.mu.Lock()
				n := len(disk.files)
				disk.mu.Unlock()
				mu.Lock()
				most = max(most, n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("at most %d journal files, records may fill %d", most, s.journal.maximum)
	if most > s.journal.maximum {
		t.Errorf("%d journal files, records may fill %d", most, s.journal.maximum)
	}
}
