package interop

import (
	"slices"
	"strings"
	"testing"
)

// A log of two devices, of which b sent 1 and 2 again, and one exactly-once producer. Not acknowledged: a 3, b 3, p 2.
func sound() ([]*ledger, []entry) {
	a := &ledger{source: "a", sent: []uint8{1, 1, 1, 1, 1}, acked: []bool{true, true, true, false, true}}
	b := &ledger{source: "b", sent: []uint8{1, 2, 2, 2}, acked: []bool{true, true, true, false}}
	p := &ledger{source: "p", exactly: true, sent: []uint8{1, 1, 1}, acked: []bool{true, true, false}}
	var log []entry
	add := func(partition int32, source string, numbers ...int) {
		for _, n := range numbers {
			log = append(log, entry{"t", partition, int64(len(log)), source, n})
		}
	}
	add(0, "a", 0, 1, 2, 4)
	add(0, "b", 0, 1, 2, 1, 2, 3)
	add(0, "p", 0, 1, 2)
	return []*ledger{a, b, p}, log
}

func TestCheckerAcceptsSoundLog(t *testing.T) {
	if p := check(sound()); len(p) > 0 {
		t.Error(p)
	}
}

// The checker must catch what it is there for.
func TestCheckerCatches(t *testing.T) {
	renumber := func(log []entry) []entry {
		for i := range log {
			log[i].offset = int64(i)
		}
		return log
	}
	for name, c := range map[string]struct {
		want   string
		damage func(log []entry) []entry
	}{
		"hole":               {"hole: a 1", func(l []entry) []entry { return renumber(slices.Delete(l, 1, 2)) }},
		"hole at the end":    {"hole: p 1", func(l []entry) []entry { return renumber(l[:11]) }},
		"duplicate":          {"duplicate: a 2", func(l []entry) []entry { return renumber(slices.Insert(l, 3, l[2])) }},
		"duplicate exactly":  {"duplicate: p 1", func(l []entry) []entry { return renumber(slices.Insert(l, 12, l[11])) }},
		"one copy too many":  {"duplicate: b 2", func(l []entry) []entry { return renumber(slices.Insert(l, 9, l[8])) }},
		"swap":               {"swap: a 1 comes after 2", func(l []entry) []entry { l[1], l[2] = l[2], l[1]; return renumber(l) }},
		"swap of repeats":    {"swap: the last copy of b", func(l []entry) []entry { l[7], l[8] = l[8], l[7]; return renumber(l) }},
		"gap in the offsets": {"offset 6 follows 4", func(l []entry) []entry { return slices.Delete(l, 5, 6) }},
		"offset twice":       {"offset 4 follows 4", func(l []entry) []entry { l[5].offset = 4; return l }},
		"start is missing":   {"offset 1 follows -1", func(l []entry) []entry { return l[1:] }},
		"two partitions":     {"a is in", func(l []entry) []entry { l[3].partition, l[3].offset = 1, 0; return l }},
		"never sent":         {"nobody sent reading a 9", func(l []entry) []entry { l[3].number = 9; return l }},
		"stranger":           {"nobody sent reading x", func(l []entry) []entry { l[3].source = "x"; return l }},
	} {
		t.Run(name, func(t *testing.T) {
			ledgers, log := sound()
			problems := check(ledgers, c.damage(log))
			if !strings.Contains(strings.Join(problems, "\n"), c.want) {
				t.Errorf("want %q among %q", c.want, problems)
			}
		})
	}
}

func TestReading(t *testing.T) {
	source, number, err := parse(reading(nil, "dev-7", 123, 64))
	if source != "dev-7" || number != 123 || err != nil {
		t.Error(source, number, err)
	}
	for _, bad := range []string{"", "x", "x 1", "x y z"} {
		if _, _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
