package compare

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"rivulet/storage/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func records(values ...string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for i, v := range values {
			if !yield(Record{Offset: int64(i), Value: []byte(v)}, nil) {
				return
			}
		}
	}
}

func TestFaultsAreFound(t *testing.T) {
	source := []string{"a", "b", "c", "d", "e", "f"}
	for _, c := range []struct {
		name   string
		target []string
		want   Report
	}{
		{"equal", []string{"a", "b", "c", "d", "e", "f"}, Report{}},
		{"hole", []string{"a", "b", "d", "e", "f"}, Report{Holes: 1, Places: []Place{{Hole, 2, -1}}}},
		{"hole at the end", []string{"a", "b", "c", "d", "e"}, Report{Holes: 1, Places: []Place{{Hole, 5, -1}}}},
		{"duplicate", []string{"a", "b", "c", "c", "d", "e", "f"}, Report{Duplicates: 1, Places: []Place{{Duplicate, -1, 3}}}},
		{"late duplicate", []string{"a", "b", "c", "d", "e", "f", "b"}, Report{Duplicates: 1, Places: []Place{{Duplicate, -1, 6}}}},
		{"swap", []string{"a", "c", "b", "d", "e", "f"}, Report{Swaps: 1, Places: []Place{{Swap, 2, 1}}}},
		{"far swap", []string{"f", "a", "b", "c", "d", "e"}, Report{Swaps: 1, Places: []Place{{Swap, 5, 0}}}},
		{"changed", []string{"a", "b", "x", "d", "e", "f"}, Report{Different: 1, Places: []Place{{Different, 2, 2}}}},
		{"stranger", []string{"a", "b", "x", "c", "d", "e", "f"}, Report{Strangers: 1, Places: []Place{{Stranger, -1, 2}}}},
		{"empty", nil, Report{Holes: 6, Places: []Place{{Hole, 0, -1}, {Hole, 1, -1}, {Hole, 2, -1}, {Hole, 3, -1}, {Hole, 4, -1}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Logs(records(source...), records(c.target...))
			if err != nil {
				t.Fatal(err)
			}
			c.want.Source, c.want.Target = len(source), len(c.target)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
			if got.Equal() != (c.name == "equal") {
				t.Errorf("Equal() = %v", got.Equal())
			}
		})
	}
}

func TestFieldsAreCompared(t *testing.T) {
	one := func(r Record) iter.Seq2[Record, error] {
		return func(yield func(Record, error) bool) { yield(r, nil) }
	}
	base := Record{Key: []byte("k"), Value: []byte("v"), Headers: []batch.KV{{Key: "h", Value: []byte("x")}}}
	for name, other := range map[string]Record{
		"key":           {Key: []byte("K"), Value: base.Value, Headers: base.Headers},
		"value":         {Key: base.Key, Value: []byte("V"), Headers: base.Headers},
		"null value":    {Key: base.Key, Headers: base.Headers},
		"no headers":    {Key: base.Key, Value: base.Value},
		"header value":  {Key: base.Key, Value: base.Value, Headers: []batch.KV{{Key: "h", Value: []byte("y")}}},
		"empty header":  {Key: base.Key, Value: base.Value, Headers: []batch.KV{{Key: "h", Value: []byte("x")}, {}}},
		"moved a byte":  {Key: []byte("kv"), Value: []byte(""), Headers: base.Headers},
		"header's name": {Key: base.Key, Value: base.Value, Headers: []batch.KV{{Key: "g", Value: []byte("x")}}},
	} {
		r, err := Logs(one(base), one(other))
		if err != nil || r.Different != 1 {
			t.Errorf("%s: %+v, %v; want one that differs", name, r, err)
		}
	}
	other := base
	other.Offset = 99
	if r, err := Logs(one(base), one(other)); err != nil || !r.Equal() {
		t.Errorf("offset: %+v, %v; want equal", r, err)
	}
}

func TestReadErrorIsReturned(t *testing.T) {
	broken := errors.New("broken")
	bad := func(yield func(Record, error) bool) { yield(Record{}, broken) }
	if _, err := Logs(bad, records()); !errors.Is(err, broken) {
		t.Errorf("source: %v", err)
	}
	if _, err := Logs(records(), bad); !errors.Is(err, broken) {
		t.Errorf("target: %v", err)
	}
}

// Any edit of a log with distinct records is seen, and counted right when it is the only one.
func TestAnyEditIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 50).Draw(t, "n")
		var source []string
		for i := range n {
			source = append(source, fmt.Sprint(i))
		}
		target := slices.Clone(source)
		i := rapid.IntRange(0, n-1).Draw(t, "i")
		var want Report
		switch rapid.SampledFrom([]Fault{Hole, Duplicate, Swap, Different, Stranger}).Draw(t, "fault") {
		case Hole:
			target = slices.Delete(target, i, i+1)
			want.Holes = 1
		case Duplicate:
			target = slices.Insert(target, rapid.IntRange(i+1, n).Draw(t, "at"), target[i])
			want.Duplicates = 1
		case Swap:
			j := rapid.IntRange(0, n-1).Filter(func(j int) bool { return j != i }).Draw(t, "j")
			v := target[i]
			target = slices.Delete(target, i, i+1)
			target = slices.Insert(target, j, v)
			want.Swaps = 1
		case Different:
			target[i] = "x"
			want.Different = 1
		case Stranger:
			target = slices.Insert(target, i, "x")
			want.Strangers = 1
		}
		got, err := Logs(records(source...), records(target...))
		if err != nil {
			t.Fatal(err)
		}
		got.Source, got.Target, got.Places = 0, 0, nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %+v, want %+v\nsource %v\ntarget %v", got, want, source, target)
		}
	})
}
