package storage

import (
	"context"
	"errors"
	"testing"
)

func TestTopics(t *testing.T) {
	ctx := context.Background()
	disk, dir := newSimFS(), t.TempDir()
	s, err := Open(ctx, smallOptions(t, dir, disk))
	if err != nil {
		t.Fatal(err)
	}
	a := createTest(t, s, "a", 2)
	b := createTest(t, s, "b", 1)
	if _, err := s.CreateTopic(ctx, "a", 1, nil); !errors.Is(err, ErrTopicExists) {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	put(t, s, a.Partitions[1], "old")
	if a, err = s.AddPartitions(ctx, "a", 3); err != nil || len(a.Partitions) != 3 {
		t.Fatal(err)
	}
	if a.Partitions[2].ID == b.Partitions[0].ID {
		t.Fatal("a partition id was used twice")
	}
	if _, err := s.AddPartitions(ctx, "a", 2); err == nil {
		t.Fatal("partitions were taken away")
	}
	if _, err := s.AlterTopic(ctx, "b", map[string]string{"retention.ms": "1"}); err != nil {
		t.Fatal(err)
	}
	if s.Epoch() <= epoch {
		t.Fatal("epoch stands still")
	}
	put(t, s, a.Partitions[2], "new")
	sealNow(t, s)

	// Deleted and made again: nothing of the old one is in the new one.
	w := NewWaiter()
	a.Partitions[1].Watch(w)
	if err := s.DeleteTopic(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	<-w.C
	if err := s.DeleteTopic(ctx, "a"); !errors.Is(err, ErrNoTopic) {
		t.Fatal(err)
	}
	if _, err := a.Partitions[1].Read(0, 1, 1); !errors.Is(err, ErrNoTopic) {
		t.Fatal(err)
	}
	if err := s.Do(ctx, appendOf(a.Partitions[1], "x")); !errors.Is(err, ErrNoTopic) {
		t.Fatal(err)
	}
	again := createTest(t, s, "a", 2)
	if again.ID == a.ID || again.Partitions[0].ID <= a.Partitions[2].ID {
		t.Fatal("an id was used twice")
	}
	wantValues(t, again.Partitions[1])
	put(t, s, again.Partitions[1], "again")

	check := func() {
		t.Helper()
		topics := s.Topics()
		if len(topics) != 2 || topics[0].Name != "a" || topics[1].Name != "b" || topics[0].ID != again.ID {
			t.Fatal(topics)
		}
		if byID, ok := s.TopicByID(again.ID); !ok || byID.Name != "a" || byID.Partitions[1].ID != again.Partitions[1].ID {
			t.Fatal("not found by id")
		}
		if _, ok := s.TopicByID(a.ID); ok {
			t.Fatal("the deleted one is still there")
		}
		if topics[1].Config["retention.ms"] != "1" {
			t.Fatal(topics[1].Config)
		}
		wantValues(t, topics[0].Partitions[1], "again")
	}
	check()
	mustKill(t, s)
	disk = disk.kill()
	for range 2 {
		if s, err = Open(ctx, smallOptions(t, dir, disk)); err != nil {
			t.Fatal(err)
		}
		check()
		closeTest(t, s)
	}
	if s, err = Open(ctx, smallOptions(t, dir, disk)); err != nil {
		t.Fatal(err)
	}
	check()
	if more := createTest(t, s, "c", 1); more.Partitions[0].ID <= again.Partitions[1].ID {
		t.Fatal("a partition id was used twice")
	}
	closeTest(t, s)
	for _, id := range s.sealed.ids() {
		if s.partition(id) == nil {
			t.Fatalf("partition %d of a deleted topic is still in the log", id)
		}
	}
}
