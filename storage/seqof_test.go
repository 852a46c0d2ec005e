package storage

import (
	"testing"

	"rivulet/storage/batch"
)

func TestSeqOfAndSeqAt(t *testing.T) {
	var seqs []uint64 // by offset
	build := func(s *Store, p *Partition, half int) {
		if half == 0 {
			seqs = nil
		}
		for i := range 5 {
			at := int64(1000 * (half*5 + i + 1))
			if i == 2 {
				at = 10 // a clock that stepped back: the largest time so far counts
			}
			c := &Commit{Appends: []Append{{Partition: p, Records: []batch.Record{record(at, "a"), record(at+500, "b")}}}}
			doTest(t, s, c)
			seqs = append(seqs, c.Seq, c.Seq)
			doTest(t, s, &Commit{Puts: []Put{{"test", "k", []byte("a frame without batches")}}})
		}
	}
	everyAge(t, build, func(t *testing.T, s *Store, p *Partition) {
		for offset, want := range seqs {
			if seq, err := p.SeqOf(int64(offset)); seq != want || err != nil {
				t.Errorf("offset %d: frame %d, %v, want %d", offset, seq, err, want)
			}
		}
		if seq, err := p.SeqOf(int64(len(seqs))); seq != 0 || err != nil {
			t.Errorf("behind the end: frame %d, %v", seq, err)
		}
		all := func(string) bool { return true }
		for ms, offset := range map[int64]int{0: 0, 1000: 0, 1001: 1, 2600: 6, 9500: 17, 10500: 19} {
			if seq, err := s.SeqAt(ms, all); seq != seqs[offset]-1 || err != nil {
				t.Errorf("at %d: behind frame %d, %v, want %d", ms, seq, err, seqs[offset]-1)
			}
		}
		if seq, err := s.SeqAt(10501, all); seq != s.LastSeq() || err != nil {
			t.Errorf("in the future: behind frame %d, %v, want %d", seq, err, s.LastSeq())
		}
		if seq, err := s.SeqAt(0, func(string) bool { return false }); seq != s.LastSeq() || err != nil {
			t.Errorf("of no topic: behind frame %d, %v", seq, err)
		}
	})
}
