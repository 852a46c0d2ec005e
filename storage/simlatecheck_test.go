package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// compactedLog is a log on which every rule of compaction has a say, and what a compaction may leave of it.
func compactedLog() (p *simPart, left []simRead) {
	m := newSimModel()
	m.apply(&simOp{topic: simCompacted, create: 1, ids: []uint32{1}, config: map[string]string{
		"cleanup.policy": "compact", "delete.retention.ms": "60000", "min.compaction.lag.ms": "30000",
	}}, false, false)
	add := func(age int64, kv string, txn int64) {
		r := simRecord{txn: txn}
		r.key, r.value, _ = strings.Cut(kv, "=")
		r.tomb = !strings.Contains(kv, "=")
		op := &simOp{born: 1_000_000 - age, appends: []simAppend{{part: 1, recs: []simRecord{r}, codec: -1}}}
		if txn >= 0 {
			op.prod = &simBatch{part: 1, pid: txn, n: 1, txn: true}
		}
		m.apply(op, false, false)
	}
	end := func(age, txn int64, commit bool) {
		m.apply(&simOp{born: 1_000_000 - age, appends: []simAppend{{part: 1, marker: &Marker{ProducerID: txn, Commit: commit}}}}, false, false)
	}
	add(200_000, "a=1", -1)   // 0: superseded by 4
	add(200_000, "b=1", -1)   // 1: superseded by a tombstone
	add(190_000, "b", -1)     // 2: whose time is over
	add(180_000, "c=1", 100)  // 3: aborted
	add(170_000, "a=2", -1)   // 4
	end(160_000, 100, false)  // 5
	add(150_000, "d=1", 101)  // 6: committed, superseded by 10, which is too young
	end(140_000, 101, true)   // 7
	add(50_000, "e=1", -1)    // 8: superseded by a tombstone
	add(50_000, "e", -1)      // 9: whose time is not over
	add(10_000, "d=2", -1)    // 10
	add(40_000, "=no key", 7) // 11: first of an open transaction
	add(100_000, "a=3", -1)   // 12: behind the last stable offset
	p = m.parts[1]
	for _, offset := range []int64{4, 5, 6, 9, 10, 11, 12} {
		left = append(left, simRead{offset, p.recs[offset]})
	}
	return p, left
}

// What is told of a compacted log, spoilt.
func TestSimulatorComparesCompacted(t *testing.T) {
	const now = 1_000_000
	p, left := compactedLog()
	if err := p.compareCompacted(0, left, now); err != nil {
		t.Fatal(err)
	}
	var whole []simRead
	for offset, r := range p.recs {
		whole = append(whole, simRead{int64(offset), r})
	}
	if err := p.compareCompacted(0, whole, now); err != nil {
		t.Fatalf("a log that was not compacted: %v", err)
	}
	without := func(offset int64) []simRead {
		return slices.DeleteFunc(slices.Clone(left), func(r simRead) bool { return r.offset == offset })
	}
	with := func(offset int64) []simRead {
		out := append(slices.Clone(left), simRead{offset, p.recs[offset]})
		slices.SortFunc(out, func(a, b simRead) int { return compare(uint64(a.offset), uint64(b.offset)) })
		return out
	}
	moved := func() []simRead {
		out := slices.Clone(left)
		out[0].offset--
		return out
	}
	for _, c := range []struct {
		what string
		got  []simRead
		want string
	}{
		{"an old value is kept, the new one removed", slices.DeleteFunc(with(0), func(r simRead) bool { return r.offset == 4 }), "offset 4"},
		{"the last value of a key", without(4), "last one of its key"},
		{"a value that a younger one than the lag supersedes", without(6), "last one of its key"},
		{"a tombstone before its time", without(9), "it stays for 60000"},
		{"a deleted value is back", with(1), "key b was deleted"},
		{"a record younger than the lag", without(10), "the lag is 30000"},
		{"a record behind the last stable offset", without(12), "the last stable offset is 11"},
		{"the end of an aborted transaction", without(5), "ends an aborted transaction"},
		{"another offset", moved(), "offset 3"},
		{"a record twice", append(slices.Clone(left), left[6]), "offset 12 behind 12"},
	} {
		if err := p.compareCompacted(0, c.got, now); !errors.Is(err, errNotTheLog) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := p.compareClean(10, 12, left); err != nil {
		t.Error(err)
	}
	for offset, want := range map[int64]string{0: "offset 0 of key a", 3: "aborted", 8: "offset 8 of key e"} {
		if err := p.compareClean(10, 12, with(offset)); !errors.Is(err, errNotClean) || !strings.Contains(err.Error(), want) {
			t.Errorf("offset %d is left: %v", offset, err)
		}
	}
}

// Counts of dropped records that are not right.
func TestSimulatorCounts(t *testing.T) {
	p, _ := compactedLog()
	p.room = &simRoom{whenFull: Refuse}
	key := func(reason DropReason) dropKey { return dropKey{simCompacted, reason} }
	b := &simBooks{records: map[string]int64{simCompacted: 13}, dropped: map[dropKey]uint64{key(DropCompacted): 5}}
	right := map[dropKey]uint64{key(DropCompacted): 9, key(DropDeleted): 2, {"a", DropBudget}: 7}
	if err := b.compare(simCompacted, 7, right, p); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(now map[dropKey]uint64){
		"a drop that is not counted":   func(now map[dropKey]uint64) { now[key(DropDeleted)]-- },
		"a drop that is counted twice": func(now map[dropKey]uint64) { now[key(DropCompacted)]++ },
		"another topic's":              func(now map[dropKey]uint64) { delete(now, key(DropDeleted)); now[dropKey{"a", DropDeleted}] = 2 },
		"retention that there is none": func(now map[dropKey]uint64) { delete(now, key(DropDeleted)); now[key(DropTime)] = 2 },
		"a budget that refuses":        func(now map[dropKey]uint64) { delete(now, key(DropDeleted)); now[key(DropBudget)] = 2 },
	} {
		now := maps.Clone(right)
		spoil(now)
		if err := b.compare(simCompacted, 7, now, p); !errors.Is(err, errBooks) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A store that takes its budget for three times what it is.
func TestSimulatorHoldsTheBudget(t *testing.T) {
	floods := func(budget int64) (err error) {
		sim := newSimulation(t, 1, nil) // one that has a budget
		root := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			sim.build(root)
			right := sim.w.o.MaxBytes
			sim.w.o.MaxBytes *= budget
			if err := sim.w.open(); err != nil {
				t.Fatal(err)
			}
			defer func() { err = errors.Join(err, sim.w.s.Close()) }()
			for _, name := range []string{"a", "b", simCompacted} {
				if err := sim.topicOp(name, 1); err != nil {
					t.Fatal(err)
				}
			}
			sim.w.o.MaxBytes = right
			most := int64(0) // a flood may end just behind a file of records that was dropped
			for range 12 {
				if err = sim.flood(); err != nil {
					return
				}
				taken, e := sim.w.taken()
				if e != nil {
					t.Error(e)
				}
				most = max(most, taken)
			}
			if most < right/2 {
				t.Errorf("the floods took at most %d bytes of a budget of %d", most, right)
			}
		})
		return err
	}
	if err := floods(1); err != nil {
		t.Error(err)
	}
	if err := floods(3); !errors.Is(err, errOverBudget) {
		t.Errorf("three times the budget was taken: %v", err)
	}
}

// Log starts that a full store must not move, and a clock that does not keep time.
func TestSimulatorHolds(t *testing.T) {
	m := newSimModel()
	m.room.whenFull, m.room.may, m.room.held = DropOldest, true, map[uint32]int64{1: 4}
	m.apply(&simOp{topic: simHeld, create: 1, ids: []uint32{1}}, false, false)
	recs := make([]simRecord, 10)
	for i := range recs {
		recs[i] = simRecord{value: fmt.Sprint(i), txn: -1}
	}
	m.apply(&simOp{appends: []simAppend{{part: 1, recs: recs, codec: -1}}}, false, false)
	begins := func(start int64) error {
		st := &simPartState{start: start, high: 10, stable: 10, open: map[int64]int64{}}
		for i := start; i < 10; i++ {
			st.recs = append(st.recs, simRead{i, recs[i]})
		}
		return m.parts[1].compare(st, 0)
	}
	for start, ok := range map[int64]bool{0: true, 4: true, 5: false} {
		if err := begins(start); (err == nil) != ok {
			t.Errorf("held from 4, begins at %d: %v", start, err)
		}
	}
	m.room.whenFull = Refuse
	if begins(1) == nil {
		t.Error("a store that refuses dropped a record")
	}
	for _, c := range []struct {
		to int64
		ok bool
	}{{1000, true}, {1500, true}, {999, false}, {3000, false}} {
		if err := clockMoved(1000, c.to, time.Second); (err == nil) != c.ok {
			t.Errorf("from 1000 to %d: %v", c.to, err)
		}
	}
}
