package storage

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Keys in meta.db, in the frozen generation and in the active one, against a map.
func TestKeyValues(t *testing.T) {
	m, _, _, err := openMeta(testOptions(t, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	s := &Store{meta: m}
	r := rand.New(rand.NewPCG(3, 4))
	frozen := false
	model := map[string][]byte{}
	for step := range 100 {
		var puts []Put
		for range 1 + r.IntN(20) {
			p := Put{"space", fmt.Sprintf("%c/%02d", 'a'+rune(r.IntN(3)), r.IntN(40)), fmt.Appendf(nil, "%d", r.IntN(1000))}
			switch r.IntN(4) {
			case 0:
				p.Value = nil
			case 1:
				p.Value = []byte{}
			}
			puts = append(puts, p)
			if p.Value == nil {
				delete(model, p.Key)
			} else {
				model[p.Key] = p.Value
			}
		}
		s.kv.put(puts)
		// A checkpoint begins, is written, ends; changes go on meanwhile.
		switch {
		case !frozen && r.IntN(3) == 0:
			s.kv.freeze()
			frozen = true
		case frozen && r.IntN(3) == 0:
			if err := m.apply(uint64(step), s.kv.frozenPuts()); err != nil {
				t.Fatal(err)
			}
			if r.IntN(2) == 0 {
				s.kv.thaw()
				frozen = false
			}
		}
		for _, prefix := range []string{"", "a/", "b/1", "d"} {
			var got, want []string
			if err := s.Scan("space", prefix, func(k string, v []byte) bool { got = append(got, k+"="+string(v)); return true }); err != nil {
				t.Fatal(err)
			}
			for _, k := range slices.Sorted(maps.Keys(model)) {
				if strings.HasPrefix(k, prefix) {
					want = append(want, k+"="+string(model[k]))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d, prefix %q:\n got %v\nwant %v", step, prefix, got, want)
			}
		}
		first := ""
		if err := s.Scan("space", "", func(k string, _ []byte) bool { first = k; return false }); err != nil {
			t.Fatal(err)
		}
		if want := slices.Sorted(maps.Keys(model)); len(want) > 0 && first != want[0] {
			t.Fatalf("a scan that ends at once saw %q", first)
		}
		for k := range 40 {
			key := fmt.Sprintf("a/%02d", k)
			v, err := s.Get("space", key)
			if want, ok := model[key]; err != nil || (v != nil) != ok || string(v) != string(want) {
				t.Fatalf("%s: %q, %v", key, v, err)
			}
		}
	}
}

// Values belong to the store from Submit on, and those that Get returns to the caller.
func TestValuesAreCopied(t *testing.T) {
	s := openTest(t, Options{})
	defer closeTest(t, s)
	v := []byte("before")
	doTest(t, s, &Commit{Puts: []Put{{"space", "k", v}}})
	copy(v, "after!")
	got, err := s.Get("space", "k")
	if err != nil || string(got) != "before" {
		t.Fatalf("%q, %v", got, err)
	}
	copy(got, "again!")
	if got, _ = s.Get("space", "k"); string(got) != "before" {
		t.Fatalf("%q", got)
	}
}

// Much metadata and no record: the journal is recycled all the same.
func TestMetadataAlone(t *testing.T) {
	disk, dir := newSimFS(), t.TempDir()
	s, _ := openSim(t, dir, disk)
	for i := range 2000 {
		if err := s.Do(context.Background(), &Commit{Puts: []Put{{"space", fmt.Sprint(i % 10), fmt.Appendf(nil, "%d", i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	disk.mu.Lock()
	if n := len(disk.files); n > s.journal.maximum+1 {
		t.Fatalf("%d journal files", n)
	}
	disk.mu.Unlock()
	mustKill(t, s)
	s, _ = openSim(t, dir, disk.kill())
	if len(s.Problems()) > 0 {
		t.Fatal(s.Problems())
	}
	for i := range 10 {
		if v, err := s.Get("space", fmt.Sprint(i)); err != nil || string(v) != fmt.Sprint(1990+i) {
			t.Fatalf("%d: %q, %v", i, v, err)
		}
	}
	closeTest(t, s)
}
