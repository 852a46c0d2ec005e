package storage

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The simulator's checkers, shown failing.
func TestSimulatorFindsWhatIsWrong(t *testing.T) {
	want := make([]simRecord, 10)
	whole := make([]simRead, 10)
	for i := range want {
		want[i] = simRecord{value: fmt.Sprint("record ", i), ts: int64(i), txn: -1}
		whole[i] = simRead{int64(i), want[i]}
	}
	if err := compareRecords(0, want, whole); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(r []simRead) []simRead{
		"hole":             func(r []simRead) []simRead { return slices.Delete(r, 4, 5) },
		"hole at the end":  func(r []simRead) []simRead { return r[:9] },
		"hole closed up":   func(r []simRead) []simRead { return renumber(slices.Delete(r, 4, 5)) },
		"duplicate":        func(r []simRead) []simRead { return slices.Insert(r, 5, r[4]) },
		"duplicate behind": func(r []simRead) []simRead { return renumber(append(r, r[9])) },
		"duplicate with an offset of its own": func(r []simRead) []simRead {
			return renumber(slices.Insert(r, 5, r[4]))
		},
		"swap":            func(r []simRead) []simRead { r[3], r[4] = r[4], r[3]; return r },
		"swapped records": func(r []simRead) []simRead { r[3], r[4] = r[4], r[3]; return renumber(r) },
		"another time":    func(r []simRead) []simRead { r[3].ts++; return r },
		"another producer": func(r []simRead) []simRead {
			r[3].txn = 7
			return r
		},
	} {
		if err := compareRecords(0, want, spoil(slices.Clone(whole))); !errors.Is(err, errNotTheLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want[4].lost = true
	if err := compareRecords(0, want, slices.Delete(slices.Clone(whole), 4, 5)); err != nil {
		t.Errorf("a gap that is known: %v", err)
	}
	if err := compareRecords(0, want, whole); err == nil {
		t.Error("a record in a gap was not found")
	}
}

func renumber(r []simRead) []simRead {
	for i := range r {
		r[i].offset = int64(i)
	}
	return r
}

// Each part of the state, spoilt in a store's answer.
func TestSimulatorComparesAll(t *testing.T) {
	s := openTest(t, Options{})
	tp := createTest(t, s, "a", 1)
	id := tp.Partitions[0].ID
	m := newSimModel()
	m.apply(&simOp{topic: "a", create: 1, ids: []uint32{id}}, false, false)
	ops := []*simOp{
		{appends: []simAppend{{part: id, recs: []simRecord{{value: "x", txn: 100}}, codec: -1}}, prod: &simBatch{part: id, pid: 100, n: 1, txn: true}},
		{appends: []simAppend{{part: id, marker: &Marker{ProducerID: 100}}}},
		{appends: []simAppend{{part: id, recs: []simRecord{{value: "y", txn: 101}}, codec: -1}}, prod: &simBatch{part: id, pid: 101, n: 1, txn: true}},
		{puts: []Put{{simSpaces[0], "k", []byte("v")}}},
	}
	for _, op := range ops {
		doTest(t, s, op.commit(s.partition))
		m.apply(op, false, false)
	}
	read := func() *simState {
		st, err := readState(s, 1)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if err := m.compare(read()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(st *simState){
		"log start 1":          func(st *simState) { st.parts[id].start, st.parts[id].recs = 1, st.parts[id].recs[1:] },
		"high watermark":       func(st *simState) { st.parts[id].high++ },
		"last stable offset":   func(st *simState) { st.parts[id].stable++ },
		"open transactions":    func(st *simState) { delete(st.parts[id].open, 101) },
		"aborted transactions": func(st *simState) { st.parts[id].aborted = nil },
		"topics are":           func(st *simState) { st.topics["b"] = nil },
		"has partitions":       func(st *simState) { st.topics["a"] = append(st.topics["a"], 9) },
		"is \"w\"":             func(st *simState) { st.kv["sim\x00k"] = "w" },
		"(false)":              func(st *simState) { delete(st.kv, "sim\x00k") },
		"should not be there":  func(st *simState) { st.kv["other\x00k"] = "v" },
	} {
		st := read()
		spoil(st)
		if err := m.compare(st); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := compareFrames(s, m, 1, map[string]uint64{"x": 99}); err == nil || !strings.Contains(err.Error(), "was acknowledged in 99") {
		t.Errorf("a record in a frame that is not its own: %v", err)
	}
	closeTest(t, s)
}
