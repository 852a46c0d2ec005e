package storage

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rivulet/storage/batch"
)

// TestCompactionModel runs random programs of puts, tombstones and transactions against a compacted topic, with compactions, crashes
// in the middle of them, restarts and time in between. After each step a reader from the start has the same last value of each key
// as the model, every record that it meets is the one that was written at that offset, and offsets ascend; a reader that follows
// from where it was ends with the same values too.
func TestCompactionModel(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("30"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := newCompactModel(t, rt)
		defer m.end()
		rt.Repeat(map[string]func(*rapid.T){
			"put":     m.put,
			"txn":     m.txn,
			"endTxn":  m.endTxn,
			"seal":    func(*rapid.T) { sealNow(m.t, m.s) },
			"compact": func(*rapid.T) { compactNow(m.t, m.s) },
			"step":    m.steps,
			"crash":   m.crash,
			"reopen":  m.reopen,
			"time": func(rt *rapid.T) {
				m.clock.pass(m.s, time.Duration(rapid.IntRange(1, 90).Draw(rt, "seconds"))*time.Second)
			},
			"follow": m.follow,
			"":       m.check,
		})
	})
}

// keyedRecord is what was written at an offset.
type keyedRecord struct {
	key     string
	value   string
	live    bool  // not a tombstone
	txn     int64 // producer; 0: none
	aborted bool
	control bool
}

type compactModel struct {
	t     testing.TB
	o     Options
	clock *stepClock
	s     *Store
	p     *Partition
	fail  int // faults left until one is injected; -1: none

	log   []keyedRecord
	open  map[int64][]int // offsets of each producer's open transaction
	seqs  map[int64]int32
	at    int64             // of the follower
	seen  map[string]string // its values
	tally int
}

func newCompactModel(t testing.TB, rt *rapid.T) *compactModel {
	m := &compactModel{t: t, clock: newStepClock(), fail: -1, open: map[int64][]int{}, seqs: map[int64]int32{}, seen: map[string]string{}}
	m.o = Options{Dir: t.TempDir(), LogFileBytes: 48 << 10, Now: m.clock.now, CompactBytes: keySlotBytes * rapid.SampledFrom([]int64{20, 40, 1000}).Draw(rt, "table"), faults: func(string) error {
		if m.fail > 0 {
			m.fail--
		}
		if m.fail == 0 {
			return errors.New("injected")
		}
		return nil
	}}
	m.s = openTest(t, m.o)
	m.p = compactedTopic(t, m.s, "delete.retention.ms", "30000", "min.compaction.lag.ms", rapid.SampledFrom([]string{"0", "20000"}).Draw(rt, "lag"))
	return m
}

func (m *compactModel) end() {
	closeTest(m.t, m.s)
}

func (m *compactModel) draw(rt *rapid.T) (pairs []string, recs []keyedRecord) {
	for range rapid.IntRange(1, 8).Draw(rt, "records") {
		r := keyedRecord{key: fmt.Sprintf("k%02d", rapid.IntRange(0, 24).Draw(rt, "key")), live: rapid.IntRange(0, 3).Draw(rt, "tombstone") > 0}
		kv := r.key
		if r.live {
			m.tally++
			r.value = strconv.Itoa(m.tally)
			kv += "=" + r.value
		}
		pairs, recs = append(pairs, kv), append(recs, r)
	}
	return pairs, recs
}

func (m *compactModel) put(rt *rapid.T) {
	pairs, recs := m.draw(rt)
	putPairs(m.t, m.s, m.p, pairs...)
	m.log = append(m.log, recs...)
}

func (m *compactModel) txn(rt *rapid.T) {
	id := int64(rapid.IntRange(1, 3).Draw(rt, "producer"))
	pairs, recs := m.draw(rt)
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, kv := range pairs {
		w.Add(1000, pair(0, kv).Payload)
	}
	c := &Commit{
		Appends:  []Append{{Partition: m.p, Batch: w.End(batch.AttrTransactional, id, 0, m.seqs[id])}},
		Producer: &Producer{Partition: m.p, ID: id, BaseSequence: m.seqs[id], Records: int32(len(pairs)), Transactional: true},
	}
	doTest(m.t, m.s, c)
	m.seqs[id] += int32(len(pairs))
	for i := range recs {
		recs[i].txn = id
		m.open[id] = append(m.open[id], len(m.log)+i)
	}
	m.log = append(m.log, recs...)
}

func (m *compactModel) endTxn(rt *rapid.T) {
	if len(m.open) == 0 {
		return
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.open))).Draw(rt, "producer")
	commit := rapid.Bool().Draw(rt, "commit")
	doTest(m.t, m.s, marker(m.p, id, 0, commit))
	for _, i := range m.open[id] {
		m.log[i].aborted = !commit
	}
	delete(m.open, id)
	m.log = append(m.log, keyedRecord{control: true})
}

// steps takes a few steps of a compaction and leaves it at that.
func (m *compactModel) steps(rt *rapid.T) {
	n := rapid.IntRange(1, 3).Draw(rt, "steps")
	m.s.onSealer(func() {
		m.s.compact.after = time.Time{}
		for range n {
			m.s.compactStep()
		}
		m.s.compact.after = never()
	})
}

// crash ends the process in the middle of a compaction.
func (m *compactModel) crash(rt *rapid.T) {
	n := rapid.IntRange(1, 8).Draw(rt, "fault")
	m.s.onSealer(func() {
		m.fail = n
		m.s.compact.after = time.Time{}
		for m.s.compactStep() {
		}
		m.s.compact.after = never()
		m.fail = -1
	})
	if err := kill(m.s); err != nil {
		m.t.Fatal(err)
	}
	m.start()
}

func (m *compactModel) reopen(*rapid.T) {
	closeTest(m.t, m.s)
	m.start()
}

func (m *compactModel) start() {
	m.s = openTest(m.t, m.o)
	pauseCompaction(m.s)
	m.p = must(m.s.Topic("c")).Partitions[0]
}

// values are those of the model before an offset.
func (m *compactModel) values(before int64) map[string]string {
	out := map[string]string{}
	for _, r := range m.log[:before] {
		switch {
		case r.control || r.aborted:
		case r.live:
			out[r.key] = r.value
		default:
			delete(out, r.key)
		}
	}
	return out
}

// apply puts what a reader met into its values, and compares it with what was written.
func (m *compactModel) apply(rt *rapid.T, read []string, to map[string]string) {
	for _, line := range read {
		offset, kv, _ := strings.Cut(line, ":")
		i, err := strconv.Atoi(offset)
		if err != nil || i >= len(m.log) {
			rt.Fatalf("read %s", line)
		}
		key, value, live := strings.Cut(kv, "=")
		if r := m.log[i]; r.control || r.aborted || r.key != key || r.value != value || r.live != live {
			rt.Fatalf("read %s, written was %+v", line, r)
		}
		if live {
			to[key] = value
		} else {
			delete(to, key)
		}
	}
}

func (m *compactModel) check(rt *rapid.T) {
	_, stable, high := m.p.Offsets()
	if high != int64(len(m.log)) {
		rt.Fatalf("the log ends at %d, want %d", high, len(m.log))
	}
	read, err := readPairs(m.p, -1)
	if err != nil {
		rt.Fatal(err)
	}
	got := map[string]string{}
	m.apply(rt, read, got)
	if want := m.values(stable); !maps.Equal(got, want) {
		rt.Fatalf("a reader from the start has %v, want %v", got, want)
	}
}

// follow reads on from where the follower was. Tombstones that were removed before it came by are no loss: their time was over.
func (m *compactModel) follow(rt *rapid.T) {
	_, stable, _ := m.p.Offsets()
	if m.at >= stable {
		return
	}
	read, err := readPairs(m.p, m.at)
	if err != nil {
		rt.Fatal(err)
	}
	m.apply(rt, read, m.seen)
	m.at = stable
	want := m.values(stable)
	for key, value := range want {
		if m.seen[key] != value {
			rt.Fatalf("a reader that follows has %s=%s, want %s", key, m.seen[key], value)
		}
	}
	m.seen = want
}
