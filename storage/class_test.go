package storage

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"rivulet/storage/batch"
)

func TestClassNames(t *testing.T) {
	for _, test := range []struct {
		config   map[string]string
		mirrored bool
		want     string
	}{
		{nil, false, "default"},
		{map[string]string{"retention.ms": "3600000"}, false, "1h-p0"},
		{map[string]string{"retention.ms": "3600001"}, false, "1d-p0"},
		{map[string]string{"retention.ms": "-1", "rivulet.priority": "7"}, true, "long-p7-mirrored"},
		{map[string]string{"cleanup.policy": "compact", "retention.ms": "1000"}, false, "long-p0-compact"},
		{map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "1000"}, true, "1h-p0-mirrored-compact"},
		{map[string]string{"retention.ms": strconv.FormatInt(30*24*3600*1000, 10)}, false, "32d-p0"},
	} {
		if got := classOf(ParsePolicy(test.config), test.mirrored).name(); got != test.want {
			t.Errorf("%v: %s, want %s", test.config, got, test.want)
		}
	}
}

// There are at most 16 classes, whatever the topics say.
func TestClassesFold(t *testing.T) {
	s := openTest(t, Options{})
	defer closeTest(t, s)
	s.SetMirrored(func(topic string) bool { return topic[len(topic)-1]%2 == 0 })
	n := 0
	distinct := func() map[string]bool {
		out := map[string]bool{}
		for _, name := range s.classes() {
			out[name] = true
		}
		return out
	}
	for _, ms := range []string{"1000", "80000000", "604800000", "2000000000", "-1"} {
		for priority := range 10 {
			for _, policy := range []string{"delete", "compact,delete"} {
				n++
				config := map[string]string{"retention.ms": ms, "rivulet.priority": strconv.Itoa(priority), "cleanup.policy": policy}
				if _, err := s.CreateTopic(t.Context(), fmt.Sprintf("t%03d", n), 1, config); err != nil {
					t.Fatal(err)
				}
				if got := distinct(); len(got) > maxClasses {
					t.Fatalf("%d topics: classes %v", n, slices.Sorted(maps.Keys(got)))
				}
			}
		}
	}
	if got := distinct(); len(got) < 4 {
		t.Fatalf("all alike: %v", got)
	}
}

// A topic that an uplink takes up, or leaves, after it was made goes to another class with the next seal.
func TestClassFollowsUplinks(t *testing.T) {
	s := openTest(t, Options{})
	defer closeTest(t, s)
	var mirrored atomic.Bool
	s.SetMirrored(func(string) bool { return mirrored.Load() })
	p := createTest(t, s, "t", 1).Partitions[0]
	for i, on := range []bool{false, true, true, false} {
		mirrored.Store(on)
		put(t, s, p, fmt.Sprint(i))
		sealNow(t, s)
		entries := s.sealed.index(p.ID)
		if got := strings.Contains(entries[len(entries)-1].group.file.class, "mirrored"); got != on {
			t.Errorf("seal %d: mirrored is %v, its class says %v", i, on, got)
		}
	}
}

// classTopics makes topics of three classes.
func classTopics(t *testing.T, s *Store) []*Topic {
	t.Helper()
	var out []*Topic
	for i, config := range []map[string]string{nil, {"retention.ms": hours(1)}, {"rivulet.priority": "5"}} {
		tp, err := s.CreateTopic(t.Context(), fmt.Sprint("t", i), 2, config)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tp)
	}
	return out
}

// A seal writes to each class, and the frames come back whole and in order.
func TestSealWritesEachClass(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	topics := classTopics(t, s)
	for round := range 3 {
		for i := range 10 {
			c := &Commit{}
			for _, tp := range topics {
				c.Appends = append(c.Appends, Append{Partition: tp.Partitions[i%2], Records: []batch.Record{record(1, fmt.Sprintf("%s %d %d", tp.Name, round, i))}})
			}
			doTest(t, s, c)
		}
		if round < 2 {
			sealNow(t, s)
		}
	}
	for _, class := range []string{"default", "1h-p0", "8d-p5"} {
		if names, err := os.ReadDir(filepath.Join(dir, "log", class)); err != nil || len(names) != 1 {
			t.Fatalf("class %s: %v, %v", class, names, err)
		}
	}
	check := func() {
		t.Helper()
		after, n := uint64(0), 0
		for {
			frames, err := s.Frames(after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				if after > 0 && n > 0 && f.Seq != after+1 || len(f.Batches) != 3 {
					t.Fatalf("frame %d of %d batches behind %d", f.Seq, len(f.Batches), after)
				}
				after = f.Seq
				n++
			}
		}
		if n != 30 {
			t.Fatalf("%d frames", n)
		}
	}
	check()
	if err := kill(s); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, Options{Dir: dir})
	check()
	closeTest(t, s)
	if problems, err := Verify(t.Context(), dir); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// A crash between the groups of one round loses nothing and doubles nothing, however often it happens; nor do failures that go by.
func TestSealBrokenOffBetweenClasses(t *testing.T) {
	for _, point := range []string{pointSealBefore, pointSealAfter, pointLogBefore, pointLogCreated, pointLogRenamed} {
		for at := 1; at <= 4; at++ {
			t.Run(fmt.Sprintf("%s, %d", point, at), func(t *testing.T) {
				dir := t.TempDir()
				var left atomic.Int64 // until it fails; the sealer asks as soon as the store is open
				var forever atomic.Bool
				left.Store(1000)
				o := Options{Dir: dir, faults: func(p string) error {
					if p == point {
						if n := left.Add(-1); n == 0 || n < 0 && forever.Load() {
							return errors.New("injected")
						}
					}
					return nil
				}}
				want := map[string]bool{}
				n := 0
				fill := func(s *Store) {
					t.Helper()
					for range 5 {
						c := &Commit{}
						for _, tp := range s.Topics() {
							n++
							v := fmt.Sprintf("%s record %d", tp.Name, n)
							want[v] = true
							c.Appends = append(c.Appends, Append{Partition: tp.Partitions[n%2], Records: []batch.Record{record(int64(n), v)}})
						}
						doTest(t, s, c)
					}
				}
				check := func(s *Store) {
					t.Helper()
					if p := s.Problems(); len(p) > 0 {
						t.Fatal(p)
					}
					got := map[string]int{}
					for _, tp := range s.Topics() {
						for _, p := range tp.Partitions {
							_, _, high := p.Offsets()
							values := valuesOf(t, p, 0)
							if len(values) != int(high) {
								t.Fatalf("%d records up to %d", len(values), high)
							}
							for _, v := range values {
								got[v]++
							}
						}
					}
					framed := framesValues(t, s)
					for v := range want {
						if got[v] != 1 || framed[v] != 1 {
							t.Fatalf("%s is there %d times, %d times in frames", v, got[v], framed[v])
						}
					}
					if len(got) != len(want) || len(framed) != len(want) {
						t.Fatalf("%d records, %d in frames, want %d", len(got), len(framed), len(want))
					}
				}
				s := openTest(t, o)
				classTopics(t, s)
				for range 3 {
					fill(s)
					s.wakeSealer() // nothing is due, so it does not come between
					s.stop()
					left.Store(int64(at))
					forever.Store(true)
					_ = s.seal()
					check(s)
					if err := s.release(); err != nil {
						t.Fatal(err)
					}
					left.Store(1000)
					forever.Store(false)
					s = openTest(t, o)
					check(s)
					fill(s)
				}
				left.Store(int64(at)) // goes by
				sealNow(t, s)
				check(s)
				fill(s)
				closeTest(t, s)
				s = openTest(t, o)
				check(s)
				closeTest(t, s)
				if problems, err := Verify(t.Context(), dir); err != nil || len(problems) > 0 {
					t.Fatal(problems, err)
				}
			})
		}
	}
}

// framesValues counts the values of all frames.
func framesValues(t *testing.T, s *Store) map[string]int {
	t.Helper()
	out := map[string]int{}
	for after := uint64(0); ; {
		frames, err := s.Frames(after, 200)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			return out
		}
		for _, f := range frames {
			if f.Seq <= after {
				t.Fatalf("frame %d behind %d", f.Seq, after)
			}
			after = f.Seq
			for _, b := range f.Batches {
				recs, _, err := readBatchOf(b.Data)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					out[r.value]++
				}
			}
		}
	}
}

// What is small goes to files of its own only beside what is large, and only while there are few classes.
func TestSplitSmall(t *testing.T) {
	part := func(id uint32, bytes int64) sealPart { return sealPart{id: id, bytes: bytes} }
	for _, test := range []struct {
		name        string
		parts       []sealPart
		classes     int // others
		small, rest []uint32
	}{
		{"all small", []sealPart{part(1, 10), part(2, smallPart-1)}, 0, nil, []uint32{1, 2}},
		{"all large", []sealPart{part(1, smallPart), part(2, 1<<20)}, 0, nil, []uint32{1, 2}},
		{"both", []sealPart{part(1, 10), part(2, smallPart), part(3, 10)}, 0, []uint32{1, 3}, []uint32{2}},
		{"more of the small", []sealPart{part(1, smallPart-1), part(2, smallPart), part(3, smallPart-1)}, 0, nil, []uint32{1, 2, 3}},
		{"many classes", []sealPart{part(1, 10), part(2, smallPart)}, maxClasses - 1, nil, []uint32{1, 2}},
		{"room for one", []sealPart{part(1, 10), part(2, smallPart)}, maxClasses - 2, []uint32{1}, []uint32{2}},
	} {
		byClass := map[string][]sealPart{"default": test.parts}
		for i := range test.classes {
			byClass[fmt.Sprint("other", i)] = []sealPart{part(9, smallPart)}
		}
		splitSmall(byClass, smallPart)
		ids := func(parts []sealPart) (ids []uint32) {
			for _, p := range parts {
				ids = append(ids, p.id)
			}
			return ids
		}
		if small, rest := ids(byClass["default"+smallSuffix]), ids(byClass["default"]); !slices.Equal(small, test.small) || !slices.Equal(rest, test.rest) {
			t.Errorf("%s: small are %v, the rest is %v", test.name, small, rest)
		}
		if len(byClass) > maxClasses {
			t.Errorf("%s: %d classes", test.name, len(byClass))
		}
	}
}

// A round that fails between what is small and what is not is made good by the next one, which puts what is left elsewhere.
func TestSealBrokenOffBetweenSmallAndLarge(t *testing.T) {
	commits, failAt, undone := 0, 0, 0
	o := Options{Dir: t.TempDir(), faults: func(point string) error {
		switch point {
		case pointSealBefore:
			if commits++; commits == failAt || commits == failAt+1 { // it is tried again with another file
				return errors.New("injected")
			}
			undone++
		case pointSealAfter:
			undone--
		}
		return nil
	}}
	s := openTest(t, o)
	large := createTest(t, s, "large", 1).Partitions[0]
	small := createTest(t, s, "small", 1).Partitions[0]
	put(t, s, large, noise(1, smallPart))
	put(t, s, small, "0")
	s.onSealer(func() {
		for fail := range 2 {
			commits, failAt = 0, fail+1
			if err := s.seal(); err == nil {
				t.Error("nothing failed")
			}
			failAt = -1
			if err := s.seal(); err != nil || undone != 0 {
				t.Errorf("behind it: %d commits failed, %v", undone, err)
			}
			doTest(t, s, appendOf(large, noise(2, smallPart)))
			doTest(t, s, appendOf(small, "1"))
		}
	})
	check := func(s *Store) {
		t.Helper()
		for name, n := range map[string]int{"large": 3, "small": 3} {
			if got := len(valuesOf(t, must(s.Topic(name)).Partitions[0], 0)); got != n {
				t.Errorf("%s: %d records, want %d", name, got, n)
			}
		}
	}
	check(s)
	mustKill(t, s)
	s = openTest(t, o)
	check(s)
	closeTest(t, s)
}
