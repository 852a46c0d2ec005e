package mirror

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"telemetry", "telemetry", true},
		{"telemetry", "telemetry2", false},
		{"alarm.*", "alarm.fire", true},
		{"alarm.*", "alarm.", true},
		{"alarm.*", "alarm", false},
		{"*", "anything", true},
		{"*", "_rivulet-audit", false},
		{"_rivulet-*", "_rivulet-audit", false},
		{"_rivulet-audit", "_rivulet-audit", true},
		{"*.dlq", "a.dlq", true},
		{"a*b*c", "a-b-c", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"*ab", "aab", true},
		{"*a*", "bab", true},
		{"", "", true},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestReconcile(t *testing.T) {
	h := history{
		{ID: "c", Parent: "b", Fork: map[uint32]int64{7: 50}},
		{ID: "b", Parent: "a", Fork: map[uint32]int64{7: 80, 8: 5}},
		{ID: "a"},
	}
	for _, c := range []struct {
		name string
		pos  position
		id   uint32
		high int64
		next int64
		want verdict
	}{
		{"ours", position{"c", 7, 40}, 7, 100, 40, same},
		{"ours at the end", position{"c", 7, 100}, 7, 100, 100, same},
		{"ours behind the end", position{"c", 7, 101}, 7, 100, 100, ahead},
		{"parent before the fork", position{"b", 7, 40}, 7, 100, 40, same},
		{"parent behind the fork", position{"b", 7, 60}, 7, 100, 50, forked},
		{"grandparent", position{"a", 7, 90}, 7, 100, 50, forked},
		{"grandparent, other partition", position{"a", 8, 90}, 8, 100, 5, forked},
		{"partition without a fork", position{"b", 9, 60}, 9, 100, 60, same},
		{"partition without a fork, cut", position{"b", 9, 60}, 9, 10, 10, ahead},
		{"unknown", position{"x", 7, 40}, 7, 100, -1, foreign},
		{"topic made again", position{"c", 6, 40}, 7, 100, -1, foreign},
	} {
		if next, v := h.reconcile(c.pos, c.id, c.high); next != c.next || v != c.want {
			t.Errorf("%s: %d, %d; want %d, %d", c.name, next, v, c.next, c.want)
		}
	}
}

func TestBucket(t *testing.T) {
	at := time.Unix(1000, 0)
	b := bucket{rate: 1000}
	if d := b.wait(at); d != 0 {
		t.Fatalf("a new bucket waits %v", d)
	}
	b.take(at, 3000)
	if d := b.wait(at); d < 1900*time.Millisecond || d > 3*time.Second {
		t.Fatalf("after 3 seconds' worth: wait %v", d)
	}
	if d := b.wait(at.Add(-time.Hour)); d > 3*time.Second {
		t.Fatalf("the clock went back: wait %v", d)
	}
	for range 3 {
		at = at.Add(time.Second)
		b.fill(at)
	}
	if d := b.wait(at); d != 0 {
		t.Fatalf("after 3 s: wait %v", d)
	}
	b.fill(at.Add(time.Hour))
	if b.tokens > 1000 {
		t.Fatalf("an hour saved up %v tokens", b.tokens)
	}
	if d := (&bucket{}).wait(at); d != 0 {
		t.Fatalf("no limit: wait %v", d)
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, c := range [][3]int32{{0, 5, 5}, {1<<31 - 1, 1, 0}, {1<<31 - 3, 5, 2}} {
		if got := advance(c[0], c[1]); got != c[2] {
			t.Errorf("advance(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

func TestRangesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := make(map[int64]bool)
		var r ranges
		for _, off := range rapid.SliceOf(rapid.Int64Range(0, 40)).Draw(t, "offsets") {
			r = r.add(off)
			model[off] = true
		}
		back, err := decodeRanges(r.encode())
		if err != nil && len(model) > 0 {
			t.Fatalf("decode %s: %v", r.encode(), err)
		}
		cut := rapid.Int64Range(0, 41).Draw(t, "cut")
		rest := back.from(cut)
		for off := range int64(42) {
			if r.has(off) != model[off] {
				t.Fatalf("has(%d) = %v of %v", off, r.has(off), r)
			}
			if off >= cut && rest.has(off) != model[off] {
				t.Fatalf("from(%d): has(%d) = %v of %v", cut, off, rest.has(off), rest)
			}
			if r.touches(off, off+1) != model[off] {
				t.Fatalf("touches(%d) of %v", off, r)
			}
		}
	})
}

func FuzzDecodeRanges(f *testing.F) {
	f.Add([]byte(`[[1,2],[5,9]]`))
	f.Add([]byte(`[[5,1]]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRanges(b)
		if err != nil {
			return
		}
		for _, x := range r {
			if !r.has(x[0]) || !r.has(x[1]-1) {
				t.Fatalf("%v does not hold its own ends", r)
			}
		}
	})
}

// Positions survive the way to the centre and back, through any number of shards and rewrites of some of them.
func TestProgressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newProgress()
		stored := make(map[int]string)
		offsets := make(map[int]int64)
		model := make(map[source]position)
		for txn := range int64(rapid.IntRange(1, 6).Draw(t, "txns")) {
			for range rapid.IntRange(1, 200).Draw(t, "changes") {
				s := source{fmt.Sprintf("topic-%d", rapid.IntRange(0, 20).Draw(t, "topic")), rapid.Int32Range(0, 50).Draw(t, "partition")}
				pos := position{"0123456789abcdef", rapid.Uint32().Draw(t, "id"), rapid.Int64Range(0, 1<<53).Draw(t, "next")}
				p.set(s, pos)
				model[s] = pos
			}
			shards, err := p.encode("me", "0123456789abcdef")
			if err != nil {
				t.Fatal(err)
			}
			for n, text := range shards {
				if len(text) > maxMetadata {
					t.Fatalf("shard of %d bytes", len(text))
				}
				stored[n], offsets[n] = text, txn
			}
			p.committed()
		}
		back := newProgress()
		seen := make(map[source]int64)
		for n, text := range stored {
			if err := back.read(offsets[n], text, seen); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(back.at, model) {
			t.Fatalf("read %v\nwant %v", back.at, model)
		}
		if back.shards != p.shards {
			t.Fatalf("%d shards, want %d", back.shards, p.shards)
		}
	})
}

func TestProgressGrowsIntoShards(t *testing.T) {
	p := newProgress()
	for i := range int32(10000) {
		p.set(source{"telemetry", i}, position{"g", uint32(i), int64(i) << 30})
	}
	shards, err := p.encode("i", "g")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, text := range shards {
		total += len(text)
	}
	t.Logf("10000 positions: %d shards, %d bytes", len(shards), total)
	if len(shards) < 2 || len(shards) > 128 {
		t.Errorf("%d shards", len(shards))
	}
	for i := range int32(30000) {
		p.set(source{strings.Repeat("x", 240) + fmt.Sprint(i), 0}, position{"g", 1, 1})
	}
	if _, err := p.encode("i", "g"); err == nil {
		t.Error("30000 topics of long names fit")
	}
}

func FuzzReadProgress(f *testing.F) {
	f.Add(`{"v":1,"instance":"i","generation":"g","shards":1,"next":{"a":[[0,7,12]]}}`)
	f.Add(`{"v":2}`)
	f.Add(`{"v":1,"shards":0}`)
	f.Add(`{"v":1,"shards":4,"next":{"a":[[-1,7,12]]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p := newProgress()
		if err := p.read(3, text, make(map[source]int64)); err != nil {
			return
		}
		p.allDirty()
		for s, pos := range p.at {
			if s.partition < 0 || pos.next < 0 {
				t.Fatalf("%v at %v", s, pos)
			}
		}
		if _, err := p.encode("i", "g"); err != nil && len(text) < maxMetadata {
			t.Fatalf("what fitted no longer does: %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]Options{
		"no broker":  {},
		"idempotent": {Delivery: "idempotent"},
	} {
		_, err := New(o)
		if err == nil {
			t.Errorf("%s: no error", want)
		}
	}
}
