package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

func openTestMeta(t *testing.T, o Options) *metaDB {
	t.Helper()
	m, _, _, err := openMeta(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.close() })
	return m
}

// checkMeta holds meta.db against a model: space and key, separated by a tab.
func checkMeta(t *testing.T, m *metaDB, seq uint64, model map[string][]byte) {
	t.Helper()
	if m.appliedSeq() != seq {
		t.Fatalf("applied up to %d, want %d", m.appliedSeq(), seq)
	}
	for _, space := range []string{"a", "b", "none"} {
		var want, got []string
		for k, v := range model {
			if s, key, _ := strings.Cut(k, "\t"); s == space {
				want = append(want, key+"\x00"+string(v))
				if have, err := m.get(s, key); err != nil || !bytes.Equal(have, v) || have == nil {
					t.Fatalf("get %s/%s: %d bytes, want %d, %v", s, key, len(have), len(v), err)
				}
			}
		}
		sort.Strings(want)
		err := m.scan(space, "", func(key string, value []byte) bool {
			got = append(got, key+"\x00"+string(value))
			return true
		})
		if err != nil || len(got) != len(want) {
			t.Fatalf("scan %s: %d keys, want %d, %v", space, len(got), len(want), err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("scan %s: key %d is %.40q, want %.40q", space, i, got[i], want[i])
			}
		}
	}
}

func TestMetaAgainstAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	o := Options{Dir: t.TempDir()}
	var fail string
	o.faults = func(p string) error {
		if p == fail {
			fail = ""
			return errors.New("injected")
		}
		return nil
	}
	m := openTestMeta(t, o)
	model := map[string][]byte{}
	seq := uint64(0)
	for round := range 60 {
		var puts []Put
		for range rng.IntN(40) {
			p := Put{Space: string(rune('a' + rng.IntN(2))), Key: fmt.Sprintf("key/%d", rng.IntN(100))}
			if rng.IntN(4) > 0 {
				sizes := []int{0, 10, 500, ownBucket - 1, ownBucket, 10_000, 300_000}
				p.Value = bytes.Repeat([]byte{byte(rng.Uint32())}, sizes[rng.IntN(len(sizes))])
			}
			puts = append(puts, p)
			if p.Value == nil {
				delete(model, p.Space+"\t"+p.Key)
			} else {
				model[p.Space+"\t"+p.Key] = p.Value
			}
		}
		seq += 1 + rng.Uint64N(5)
		switch round % 10 {
		case 3:
			fail = pointApplyBefore
		case 7:
			fail = pointApplyAfter
		}
		if err := m.apply(seq, puts); err != nil {
			t.Fatal(err)
		}
		checkMeta(t, m, seq, model)
		if round%9 == 0 {
			m.close()
			m = openTestMeta(t, o)
			checkMeta(t, m, seq, model)
		}
	}
}

func TestMetaScan(t *testing.T) {
	m := openTestMeta(t, Options{Dir: t.TempDir()})
	var puts []Put
	for i := range 500 {
		puts = append(puts, Put{Space: "s", Key: fmt.Sprintf("p%d/%03d", i%2, i), Value: make([]byte, 2000)})
	}
	if err := m.apply(1, puts); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := m.scan("s", "p1/", func(key string, _ []byte) bool {
		if _, err := m.get("s", key); err != nil { // no transaction is held
			t.Fatal(err)
		}
		if want := fmt.Sprintf("p1/%03d", 2*n+1); key != want {
			t.Fatalf("key %s, want %s", key, want)
		}
		n++
		return n < 240
	}); err != nil || n != 240 {
		t.Fatalf("%d keys, %v", n, err)
	}
}

// A full disk: the ballast makes the checkpoint possible, and comes back.
func TestBallast(t *testing.T) {
	full := false
	o := Options{Dir: t.TempDir()}
	path := filepath.Join(o.Dir, "ballast")
	o.faults = func(p string) error {
		if _, err := os.Stat(path); full && p == pointApplyBefore && err == nil {
			return syscall.ENOSPC
		}
		return nil
	}
	m := openTestMeta(t, o)
	if info, err := os.Stat(path); err != nil || info.Size() != ballastBytes {
		t.Fatal("no ballast", err)
	}
	full = true
	if err := m.apply(7, []Put{{Space: "a", Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	checkMeta(t, m, 7, map[string][]byte{"a\tk": []byte("v")})
	if _, err := os.Stat(path); err != nil {
		t.Fatal("ballast did not come back", err)
	}
}

// Damage of one of the two files costs nothing: the other answers at once, and takes its place.
func TestMetaDamage(t *testing.T) {
	needle := bytes.Repeat([]byte("needle"), 100)
	for name, hurt := range map[string]func(b []byte) []byte{
		"a bit of a value": func(b []byte) []byte {
			b[bytes.LastIndex(b, needle)+100] ^= 1
			return b
		},
		"cut off":          func(b []byte) []byte { return b[:100] },
		"no meta pages":    func(b []byte) []byte { clear(b[:2*pageSize]); return b },
		"nothing but them": func(b []byte) []byte { clear(b[2*pageSize:]); return b },
		"the newest meta page": func(b []byte) []byte { // bbolt stands on the commit before
			newest := 0
			if binary.LittleEndian.Uint64(b[pageSize+16+48:]) > binary.LittleEndian.Uint64(b[16+48:]) {
				newest = pageSize
			}
			clear(b[newest : newest+pageSize])
			return b
		},
		"gone": nil,
	} {
		for _, which := range []string{"meta.db", metaCopyName} {
			t.Run(name+" of "+which, func(t *testing.T) {
				o := Options{Dir: t.TempDir()}
				m := openTestMeta(t, o)
				for seq := range uint64(3) {
					if err := m.apply(seq+5, []Put{{Space: "a", Key: "k", Value: needle}, {Space: "a", Key: "seq", Value: []byte{byte(seq)}}}); err != nil {
						t.Fatal(err)
					}
				}
				m.close()
				if hurt == nil {
					if err := os.Remove(filepath.Join(o.Dir, which)); err != nil {
						t.Fatal(err)
					}
				} else {
					spoil(t, filepath.Join(o.Dir, which), hurt)
				}
				for round := range 2 {
					m, problems, lost, err := openMeta(o)
					if err != nil || lost {
						t.Fatal(lost, err)
					}
					t.Log(problems)
					model := map[string][]byte{"a\tk": needle, "a\tseq": {2}}
					if round > 0 {
						model["a\tnew"] = []byte("v")
					}
					checkMeta(t, m, 7+uint64(round), model)
					if _, err := m.scrub(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := m.apply(8, []Put{{Space: "a", Key: "new", Value: []byte("v")}}); err != nil {
						t.Fatal(err)
					}
					if _, err := m.scrub(t.Context()); err != nil {
						t.Fatal(err)
					}
					if m.hurt.Load() || m.copy.stale || m.copy.seq != 8 {
						t.Fatal("the checkpoint did not mend", m.hurt.Load(), m.copy.stale, m.copy.seq)
					}
					m.close()
				}
			})
		}
	}
}

// What is damaged in both is found, and a start that finds nothing whole says that it lost its topics.
func TestMetaDamageInBoth(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	m := openTestMeta(t, o)
	needle := bytes.Repeat([]byte("needle"), 100)
	if err := m.apply(7, []Put{{Space: "a", Key: "k", Value: needle}, {Space: "a", Key: "l", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	m.close()
	for _, name := range []string{"meta.db", metaCopyName} {
		spoil(t, filepath.Join(o.Dir, name), func(b []byte) []byte {
			b[bytes.LastIndex(b, needle)+100] ^= 1
			return b
		})
	}
	m = openTestMeta(t, o)
	if _, err := m.get("a", "k"); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := m.scrub(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	checkMeta(t, m, 7, map[string][]byte{"a\tl": []byte("v")})
	m.close()
	for _, name := range []string{"meta.db", metaCopyName} {
		spoil(t, filepath.Join(o.Dir, name), func(b []byte) []byte { return b[:100] })
	}
	m, problems, lost, err := openMeta(o)
	if err != nil || !lost || len(problems) != 3 {
		t.Fatal(problems, lost, err)
	}
	m.close()
	if kept, err := filepath.Glob(filepath.Join(o.Dir, "*"+quarantineSuffix)); err != nil || len(kept) != 2 {
		t.Fatal(kept, err)
	}
}

// A checkpoint of the frame before, as an idle store makes it for its clock, changes one of the two files before the other: a scrub that comes
// between has found no damage.
func TestScrubBetweenMetaAndItsCopy(t *testing.T) {
	var m *metaDB
	scrubs, both := 0, false
	o := Options{Dir: t.TempDir(), faults: func(point string) error {
		if point == pointCopyBefore && both {
			scrubs++
			if _, err := m.scrub(t.Context()); err != nil || m.hurt.Load() || m.copy.stale {
				t.Errorf("scrub %d: %v, hurt %v, stale %v", scrubs, err, m.hurt.Load(), m.copy.stale)
			}
		}
		return nil
	}}
	m = openTestMeta(t, o)
	for i := range byte(4) {
		both = i > 0
		if err := m.apply(5, []Put{{Space: "a", Key: "clock", Value: []byte{i}}}); err != nil {
			t.Fatal(err)
		}
	}
	if scrubs != 3 {
		t.Fatalf("%d scrubs", scrubs)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}

// Damage is met while the disk has no room for a new file: what can be read goes on to be read, and a later checkpoint mends it.
func TestMendOnAFullDisk(t *testing.T) {
	full := false
	o := Options{Dir: t.TempDir(), faults: func(point string) error {
		if full && point == pointCopyBefore {
			full = false
			return syscall.ENOSPC
		}
		return nil
	}}
	m := openTestMeta(t, o)
	needle := bytes.Repeat([]byte("needle"), 100)
	if err := m.apply(5, []Put{{Space: "a", Key: "k", Value: needle}, {Space: "b", Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	spoil(t, m.path, func(b []byte) []byte {
		b[bytes.LastIndex(b, needle)+100] ^= 1
		return b
	})
	want := map[string][]byte{"a\tk": needle, "b\tk": []byte("v")}
	checkMeta(t, m, 5, want)
	for seq := uint64(6); seq < 9; seq++ {
		full = seq == 6
		if !m.hurt.Load() {
			t.Fatalf("before frame %d: nobody knows of the damage", seq)
		}
		if err := m.apply(seq, nil); err != nil {
			t.Fatal(err)
		}
		checkMeta(t, m, seq, want)
		if seq == 7 {
			break
		}
	}
	if _, err := m.scrub(t.Context()); err != nil || m.hurt.Load() {
		t.Fatalf("it was not mended: %v", err)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}
