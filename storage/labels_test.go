package storage

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"rivulet/storage/batch"
)

// testLabels gives a record one of 40 labels and one of 7, by its value.
func testLabels() Labels {
	return Labels{Scheme: 7, Of: func(dst []uint32, topic string, p batch.Payload) []uint32 {
		h := crc32.ChecksumIEEE(p.Value())
		return append(dst, h%40|0xff000000, 100+uint32(len(p.Value()))%7)
	}}
}

func testLabelling() labelling {
	return labelling{Labels: testLabels(), topic: func(id uint32) string { return fmt.Sprint("topic ", id) }}
}

// checkLabels holds the labels in the directories against the records: none is missing. It counts batches with labels, and without.
func checkLabels(t *testing.T, l *sealedLog) (with, without int) {
	t.Helper()
	l.mu.RLock()
	groups := l.groups
	l.mu.RUnlock()
	for _, g := range groups {
		err := l.eachLive(g.group, nil, func(e *dirEntry) error {
			if !e.labelled {
				without++
				return nil
			}
			with++
			if !slices.IsSorted(e.labels) {
				t.Fatalf("labels %d", e.labels)
			}
			set, err := l.readRun(nil, e.part, []indexEntry{e.ref})
			if err != nil {
				t.Fatal(err)
			}
			var d batch.Decoder
			if err := d.Reset(set[0], 0); err != nil {
				t.Fatal(err)
			}
			if h := d.Header(); h.Transactional() || h.Control() {
				t.Fatalf("a transaction has labels: %+v", h)
			}
			for r, ok := d.Next(); ok; r, ok = d.Next() {
				for _, label := range testLabels().Of(nil, "", r.Payload) {
					if _, found := slices.BinarySearch(e.labels, label&labelMask); !found {
						t.Fatalf("partition %d, offset %d: label %d is not among %d", e.part, r.Offset, label&labelMask, e.labels)
					}
				}
			}
			return d.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return with, without
}

// Labels are there when a batch was sealed, when its file was rewritten, and when batches were merged.
func TestLabelsAreKept(t *testing.T) {
	l, _, all := rewriteLog(t, Options{Dir: t.TempDir(), LogFileBytes: 512 << 10})
	with, without := checkLabels(t, l)
	if with < 20 || without == 0 {
		t.Fatalf("%d batches with labels, %d without", with, without)
	}
	if err := l.rewrite(full(l), rewriting{}); err != nil {
		t.Fatal(err)
	}
	after, _ := checkLabels(t, l)
	if after == 0 || after >= with {
		t.Fatalf("%d batches with labels after %d were rewritten and merged", after, with)
	}
	checkLog(t, l, all)
}

// Labels of another scheme are not taken over: where records are merged anyway they are made anew.
func TestLabelsOfAnotherScheme(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	l := openTestSealed(t, o)
	w := newTailWriter()
	for range 3 {
		w.seq++
		if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{w.records(1, 5)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.retire(defaultClass); err != nil {
		t.Fatal(err)
	}
	files := full(l)
	if len(files) != 1 {
		t.Fatal(files)
	}
	l.again.labels.Scheme = 8
	l.again.labels.Of = func(dst []uint32, topic string, _ batch.Payload) []uint32 {
		if topic != "topic 1" {
			t.Errorf("labels for %q", topic)
		}
		return append(dst, 5, 4, 5, 4|1<<24)
	}
	if err := l.rewrite(files, rewriting{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range l.groups {
		err := l.eachLive(g.group, nil, func(e *dirEntry) error {
			n++
			if g.scheme != 8 || !e.labelled || !slices.Equal(e.labels, []uint32{4, 5}) {
				t.Errorf("scheme %d, labels %v", g.scheme, e.labels)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("%d batches", n)
	}
}

// A batch with more labels than are written down has none, and neither has one that it is merged with.
func TestTooManyLabels(t *testing.T) {
	var m merger
	m.labels = testLabelling()
	next := uint32(0)
	m.labels.Of = func(dst []uint32, _ string, _ batch.Payload) []uint32 {
		next += 3
		return append(dst, next)
	}
	w := newTailWriter()
	for _, n := range []int{maxLabels, maxLabels + 1} {
		w.seq++
		b := w.records(1, n)
		labels, ok := m.labels.run(1, []mergeItem{{tailBatch: b}})
		if ok != (n == maxLabels) || ok && len(labels) != n {
			t.Fatalf("%d labels, %v", len(labels), ok)
		}
		if _, twice := m.labels.run(1, []mergeItem{{tailBatch: b}, {labelled: true, labels: []uint32{1, 2}}}); twice {
			t.Fatal("labels that were too many are few with others")
		}
	}
}

// The labels of a store are in its backup, and in the files of a start after it.
func TestLabelsOfAStore(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "store")}
	s := openTest(t, o)
	tp := createTest(t, s, "a", 2)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		put(t, s, tp.Partitions[i%2], fmt.Sprintf("value %d", rng.IntN(1000)))
	}
	closeTest(t, s)
	s = openTest(t, o)
	defer closeTest(t, s)
	if with, without := checkLabels(t, s.sealed); with == 0 || without > 0 {
		t.Fatalf("%d batches with labels, %d without", with, without)
	}
}

func BenchmarkLabels(b *testing.B) {
	w := newTailWriter()
	t := w.records(1, 900)
	l := testLabelling()
	b.ReportAllocs()
	for b.Loop() {
		l.run(1, []mergeItem{{tailBatch: t}})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/900, "ns/record")
}
