package storage

import (
	"slices"
	"testing"
	"time"

	"rivulet/storage/batch"
)

// What another goroutine does between two looks.

// A marker that is damaged is put back for the reader that meets it, also when retention takes the log up to there at that moment.
func TestDamagedMarkerWhileItIsTrimmed(t *testing.T) {
	o := Options{Dir: t.TempDir(), ScrubRate: -1}
	s := openTest(t, o)
	p := createTest(t, s, "a", 1).Partitions[0]
	doTest(t, s, produced(p, 7, 0, 0, true, "aborted"))
	doTest(t, s, marker(p, 7, 0, false)) // 1
	put(t, s, p, "behind")
	sealNow(t, s)
	set, err := p.Read(1, 2, 1<<20)
	if err != nil || len(set) != 1 {
		t.Fatal(len(set), err)
	}
	closeTest(t, s)
	spoilAll(t, o.Dir, set[0][batch.HeaderSize-8:])

	s = openTest(t, o)
	p = must(s.Topic("a")).Partitions[0]
	tell := s.sealed.found
	s.sealed.found = func(e *DamageError) { // it is told while the read is under way
		tell(e)
		if err := s.Trim(t.Context(), []Start{{Partition: p, Offset: 2}}); err != nil {
			t.Error(err)
		}
		s.onSealer(s.letGo)
	}
	set, aborted, err := p.ReadCommitted(0, 3, 1<<20)
	if err != nil || len(aborted) != 1 {
		t.Fatal(aborted, err)
	}
	if start, _, _ := p.Offsets(); start != 2 || len(p.Aborted(0, 3)) > 0 {
		t.Fatalf("the log begins at %d: nothing was trimmed meanwhile", start)
	}
	found := false
	for _, b := range set {
		if h, err := batch.ParseHeader(b); err == nil && h.BaseOffset == 1 {
			found = h.Control() && h.ProducerID == 7
		}
	}
	if !found {
		t.Error("a reader that was told of the transaction does not come to its end")
	}
	closeTest(t, s)
}

// Somebody who trims a log between two steps of the sealer does not make retention.bytes take more than it says.
func TestRetentionByBytesBesideATrim(t *testing.T) {
	s := openTest(t, Options{})
	p := topicWith(t, s, "t", 1, "retention.bytes", "-1", "retention.ms", "-1").Partitions[0]
	for range 20 {
		put(t, s, p, noise(1, 200))
		sealNow(t, s)
	}
	s.onSealer(func() { // letGo was there before, and comes again behind it
		e := s.sealed.index(p.ID)
		keep := int64(0)
		for i := 10; i < 20; i++ {
			keep += int64(e[i].size)
		}
		if err := s.trimAsSealer([]Start{{Partition: p, Offset: 10}}); err != nil {
			t.Error(err)
		}
		if st := s.past(p, Policy{RetentionMs: -1, RetentionBytes: keep, Delete: true}, 0); st.Offset > 0 {
			t.Errorf("what is left is no more than may stay, and is to go up to %d", st.Offset)
		}
	})
	closeTest(t, s)
}

// Files that are copied forward while a compaction is under way are looked through all the same.
func TestCompactionBesideForward(t *testing.T) {
	s := openTest(t, Options{LogFileBytes: 1 << 20})
	p := compactedTopic(t, s)
	for range 4 {
		putPairs(t, s, p, "a=1", "b=1", "n="+noise(3, 2000))
		sealNow(t, s)
		s.onSealer(func() {
			if err := s.sealed.retire(defaultClassOf(p)); err != nil {
				t.Error(err)
			}
		})
	}
	s.onSealer(func() {
		s.compact.after = time.Time{}
		c := s.planCompaction()
		if c == nil {
			t.Error("nothing is due")
			return
		}
		s.compact.now = c
		for len(c.noting) > 0 {
			if _, err := c.noteNext(s.sealed); err != nil {
				t.Error(err)
				return
			}
		}
		c.files, c.listed = c.listFiles(s.sealed), true
		s.forwardAt = 0
		s.forward()
	})
	compactNow(t, s)
	if got := pairsOf(t, p); len(got) != 3 {
		t.Errorf("%d records are left of three keys", len(got))
	}
	closeTest(t, s)
}

// A record of an aborted transaction that stays, since it is the last one of the log, is not merged with a transaction before it:
// readers of committed records would take it for one of those.
func TestLastRecordIsAborted(t *testing.T) {
	s := openTest(t, Options{})
	p := compactedTopic(t, s)
	send := func(seq int32, kvs ...string) {
		t.Helper()
		sendPairs(t, s, p, 7, seq, kvs...)
	}
	send(0, "a=committed", "b=committed") // 0, 1
	doTest(t, s, marker(p, 7, 0, true))   // 2
	send(2, "c=aborted")                  // 3
	sealNow(t, s)
	doTest(t, s, marker(p, 7, 0, false)) // 4, in the tail
	want := []string{"0:a=committed", "1:b=committed"}
	wantPairs(t, p, want...)
	committed := func() (got []string) {
		set, aborted, err := p.ReadCommitted(0, 5, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range set {
			var d batch.Decoder
			if err := d.Reset(b, 0); err != nil {
				t.Fatal(err)
			}
			for r, ok := d.Next(); ok && Committed(aborted, d.Header()); r, ok = d.Next() {
				got = append(got, string(r.Payload.Key()))
			}
		}
		return got
	}
	compactNow(t, s)
	if got := committed(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("committed are %v", got)
	}
	closeTest(t, s)
}

// defaultClassOf is the class that a partition's last batch lies in.
func defaultClassOf(p *Partition) string {
	e := p.s.sealed.index(p.ID)
	return e[len(e)-1].group.file.class
}
