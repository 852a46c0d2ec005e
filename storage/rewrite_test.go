package storage

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rivulet/storage/batch"
)

// rewriteLog makes a log of a few files of mixed batches, the last of which takes groups.
func rewriteLog(t *testing.T, o Options) (*sealedLog, *tailWriter, map[uint32][]tailBatch) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	l := openTestSealed(t, o)
	w := newTailWriter()
	all := make(map[uint32][]tailBatch)
	for range 12 {
		parts := mixed(t, w, rng, 3, 12)
		if err := sealAll(l, w.seq, parts); err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			all[p.id] = append(all[p.id], p.tails...)
		}
	}
	return l, w, all
}

func checkLog(t *testing.T, l *sealedLog, all map[uint32][]tailBatch) {
	t.Helper()
	for id, tails := range all {
		same(t, fmt.Sprintf("partition %d", id), content(t, l, id), wantTails(t, tails))
		stored, end := int64(0), int64(0)
		for _, e := range l.index(id) {
			if e.base != end {
				t.Fatalf("partition %d: an entry at offset %d behind %d", id, e.base, end)
			}
			end = e.next()
			stored += int64(e.size)
		}
		if l.stored(id) != stored {
			t.Fatalf("partition %d: %d bytes stored, its entries say %d", id, l.stored(id), stored)
		}
	}
	checkFrames(t, l, all)
	live := map[*logFile]int{}
	for _, id := range l.ids() {
		for _, e := range l.index(id) {
			live[e.group.file]++
		}
	}
	for _, files := range l.files {
		for _, f := range files {
			if f.live != live[f] {
				t.Fatalf("%s: %d live entries, counted %d", f.path, f.live, live[f])
			}
		}
	}
}

// full lists the files of the default class that take no more groups.
func full(l *sealedLog) []*logFile {
	return slices.DeleteFunc(slices.Clone(l.files[defaultClass]), func(f *logFile) bool { return f == l.active[defaultClass] })
}

func TestRewriteKeepsEverything(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
	l, w, all := rewriteLog(t, o)
	row := full(l)
	if len(row) < 3 {
		t.Fatalf("only %d files", len(row))
	}
	old := l.index(1) // of a reader that is slow
	if err := l.rewrite(row[:2], rewriting{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.readRun(nil, 1, old[:1]); !errors.Is(err, errGone) {
		t.Fatalf("a reader of the old index: %v", err)
	}
	checkLog(t, l, all)
	if err := l.rewrite(full(l), rewriting{}); err != nil { // what was rewritten, too
		t.Fatal(err)
	}
	checkLog(t, l, all)
	if n := len(l.files[defaultClass]); n != 2 {
		t.Fatalf("%d files are left", n)
	}
	rng := rand.New(rand.NewPCG(2, 2))
	parts := mixed(t, w, rng, 3, 12)
	if err := sealAll(l, w.seq, parts); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		all[p.id] = append(all[p.id], p.tails...)
	}
	checkLog(t, l, all)
	l.close()
	l = openTestSealed(t, o)
	checkLog(t, l, all)
	if l.sealedSeq() != w.seq {
		t.Fatalf("sealed up to %d, want %d", l.sealedSeq(), w.seq)
	}
}

// Small rewritings, one behind the other: none leaves anything in the next.
func TestRewriteAgain(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	l := openTestSealed(t, o)
	w := newTailWriter()
	all := make(map[uint32][]tailBatch)
	for range 5 {
		for range 3 {
			w.seq++
			b := w.records(1, 3)
			all[1] = append(all[1], b)
			if err := sealAll(l, w.seq, []sealPart{{id: 1, tails: []tailBatch{b}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.retire(defaultClass); err != nil {
			t.Fatal(err)
		}
		files := l.rewritable(defaultClass)
		if err := l.rewrite(files[len(files)-1:], rewriting{}); err != nil {
			t.Fatal(err)
		}
		checkLog(t, l, all)
	}
	if n := len(l.index(1)); n != 5 {
		t.Fatalf("%d batches", n)
	}
}

// TestRewriteCutAnywhere fails a rewriting at each of its points, in this process and as a crash: nothing is lost, nothing
// is there twice, and the next rewriting puts it right.
func TestRewriteCutAnywhere(t *testing.T) {
	for _, point := range []string{pointForwardBefore, pointForwardWritten, pointForwardRenamed, pointForwardUnlink} {
		for at := 1; at <= 2; at++ {
			t.Run(fmt.Sprintf("%s, %d", point, at), func(t *testing.T) {
				left := 0
				o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
				o.faults = func(p string) error {
					if p == point {
						if left--; left == 0 {
							return errors.New("injected")
						}
					}
					return nil
				}
				l, _, all := rewriteLog(t, o)
				left = at
				err := l.rewrite(full(l), rewriting{})
				if err == nil && left > 0 {
					err = l.rewrite(full(l), rewriting{})
				}
				if (err == nil) != (point == pointForwardUnlink) {
					t.Fatal(err)
				}
				checkLog(t, l, all)
				crashed := o
				crashed.Dir = t.TempDir()
				if err := os.CopyFS(crashed.Dir, os.DirFS(o.Dir)); err != nil {
					t.Fatal(err)
				}
				c := openTestSealed(t, crashed)
				checkLog(t, c, all)
				if n := len(c.files[defaultClass]); point == pointForwardUnlink && n != 2 {
					t.Fatalf("%d files behind a start", n)
				}
				c.close()
				if err := l.rewrite(full(l), rewriting{}); err != nil {
					t.Fatal(err)
				}
				checkLog(t, l, all)
				l.close()
				l = openTestSealed(t, o)
				checkLog(t, l, all)
				names, err := os.ReadDir(filepath.Join(o.Dir, "log", defaultClass))
				if err != nil || len(names) != 2 {
					t.Fatalf("%d files, %v", len(names), err)
				}
			})
		}
	}
}

// A file that was renamed although the rewriting failed, and could not be removed, is replaced by what replaces the same files;
// what it alone replaces stays.
func TestRewriteAfterAGhost(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
	var ghost []byte
	var name string
	o.faults = func(p string) error {
		if p == pointForwardRenamed && ghost == nil {
			names, _ := filepath.Glob(filepath.Join(o.Dir, "log", defaultClass, "*.db"))
			name = names[len(names)-1]
			ghost, _ = os.ReadFile(name)
			return errors.New("injected")
		}
		return nil
	}
	l, _, all := rewriteLog(t, o)
	row := full(l)
	if err := l.rewrite(row, rewriting{}); err == nil {
		t.Fatal("no error")
	}
	drop := func(part uint32, e *indexEntry, b []byte) (rewritten, error) {
		return thin(b, func(r batch.Record) bool { return r.Offset%2 == 0 })
	}
	if err := l.rewrite(row[:1], rewriting{batch: drop}); err != nil {
		t.Fatal(err)
	}
	want := map[uint32]map[int64]string{}
	for id := range all {
		want[id] = content(t, l, id)
	}
	l.close()
	if err := os.WriteFile(name, ghost, 0o600); err != nil {
		t.Fatal(err)
	}
	l = openTestSealed(t, o)
	for id := range all {
		same(t, "behind a ghost", content(t, l, id), want[id])
	}
}

// thin drops the records that keep does not want, unless the batch is a marker.
func thin(b []byte, keep func(r batch.Record) bool) (rewritten, error) {
	var d batch.Decoder
	if err := d.Reset(b, 0); err != nil {
		return rewritten{}, err
	}
	h := d.Header()
	if h.Control() {
		return rewritten{data: b}, nil
	}
	var w batch.Builder
	first := int64(-1)
	for {
		r, ok := d.Next()
		if !ok {
			break
		}
		if !keep(r) {
			continue
		}
		if first < 0 {
			first = r.Offset
			w.Begin(nil, first, 0)
		}
		w.AddAt(int32(r.Offset-first), r.Timestamp, r.Payload)
	}
	if first < 0 {
		return rewritten{clean: true}, d.Err()
	}
	return rewritten{data: w.End(h.Attributes&^batch.AttrCodec, h.ProducerID, h.ProducerEpoch, h.BaseSequence), clean: true}, d.Err()
}

// Records are taken out: at the beginning, in the middle and at the end of batches, whole batches and whole partitions.
func TestRewriteThinsOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for name, keep := range map[string]func(id uint32, r batch.Record) bool{
		"every third":     func(_ uint32, r batch.Record) bool { return r.Offset%3 == 0 },
		"at random":       func(uint32, batch.Record) bool { return rng.IntN(2) == 0 },
		"hardly any":      func(_ uint32, r batch.Record) bool { return r.Offset%997 == 5 },
		"none of one":     func(id uint32, _ batch.Record) bool { return id != 2 },
		"long rows":       func(_ uint32, r batch.Record) bool { return r.Offset/700%2 == 0 },
		"none whatsoever": func(uint32, batch.Record) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
			l, _, all := rewriteLog(t, o)
			want := map[uint32]map[int64]string{}
			ends := map[uint32]int64{}
			for id := range all {
				want[id] = content(t, l, id)
				_, ends[id] = l.bounds(id)
			}
			for pass := range 2 {
				err := l.rewrite(full(l), rewriting{batch: func(part uint32, _ *indexEntry, b []byte) (rewritten, error) {
					return thin(b, func(r batch.Record) bool {
						if keep(part, r) {
							return true
						}
						delete(want[part], r.Offset)
						return false
					})
				}})
				if err != nil {
					t.Fatal(err)
				}
				check := func() {
					t.Helper()
					framed := map[uint32]map[int64]string{}
					for id := range all {
						framed[id] = map[int64]string{}
						same(t, fmt.Sprintf("pass %d, partition %d", pass, id), content(t, l, id), want[id])
						end := int64(0)
						for _, e := range l.index(id) {
							if e.base != end {
								t.Fatalf("an entry at offset %d behind %d", e.base, end)
							}
							end = e.next()
						}
						if end != ends[id] {
							t.Fatalf("partition %d ends at %d, want %d", id, end, ends[id])
						}
					}
					for after := uint64(0); ; {
						frames, _, err := l.frames(after, 1<<62, 100_000, nil)
						if err != nil {
							t.Fatal(err)
						}
						if len(frames) == 0 {
							break
						}
						for _, f := range frames {
							after = f.seq
							for _, p := range f.batches {
								for _, tb := range p.tails {
									collect(t, tb.data, framed[p.id])
									here := map[int64]string{}
									collect(t, tb.data, here)
									for o := range here {
										i := tailFrom(all[p.id], o)
										if w := all[p.id][i]; w.seq != f.seq {
											t.Fatalf("offset %d is in frame %d, was committed in %d", o, f.seq, w.seq)
										}
									}
								}
							}
						}
					}
					for id := range all {
						same(t, "frames", framed[id], want[id])
					}
				}
				check()
				l.close()
				l = openTestSealed(t, o)
				check()
			}
		})
	}
}

// What is trimmed and deleted while files are rewritten stays so, and seals go on.
func TestRewriteBesidesOtherWork(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
	l, w, all := rewriteLog(t, o)
	rng := rand.New(rand.NewPCG(4, 4))
	n := 0
	cut := all[2][len(all[2])/2].base
	pause := func() error {
		switch n++; n {
		case 3:
			l.drop(3)
			l.sweep()
		case 5:
			l.trim(2, cut)
			l.sweep()
		case 8, 9, 10:
			parts := mixed(t, w, rng, 2, 12)
			for _, p := range parts {
				all[p.id] = append(all[p.id], p.tails...)
			}
			return sealAll(l, w.seq, parts)
		}
		return nil
	}
	if err := l.rewrite(full(l), rewriting{pause: pause}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		same(t, "partition 1", content(t, l, 1), wantTails(t, all[1]))
		want := wantTails(t, all[2])
		got := content(t, l, 2)
		maps.DeleteFunc(want, func(o int64, _ string) bool { return o < cut })
		maps.DeleteFunc(got, func(o int64, _ string) bool { return o < cut })
		same(t, "partition 2", got, want)
	}
	check()
	if len(l.index(3)) > 0 {
		t.Fatal("a deleted partition is back")
	}
	if start, _ := l.bounds(2); start == 0 {
		t.Fatal("what was trimmed is back")
	}
	l.close()
	l = openTestSealed(t, o)
	l.drop(3)
	check()
}

func TestRewriteGivesUp(t *testing.T) {
	o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10}
	l, _, all := rewriteLog(t, o)
	n := 0
	stop := errors.New("enough")
	err := l.rewrite(full(l), rewriting{pause: func() error {
		if n++; n == 10 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	checkLog(t, l, all)
	if tmp, _ := filepath.Glob(filepath.Join(o.Dir, "log", "*", "*"+tmpSuffix)); len(tmp) > 0 {
		t.Fatal(tmp)
	}
}

// Whoever looked for frames just before a file was rewritten finds nothing that counts in it any more, although it is still there. That
// must not pass for a place without frames: a session that comes back would go on behind it.
func TestFramesLookAgainWhenAFileWasRewritten(t *testing.T) {
	var l *sealedLog
	var old groupList
	looked := 0
	o := Options{Dir: t.TempDir(), LogFileBytes: 512 << 10, faults: func(point string) error {
		if point != pointForwardUnlink {
			return nil
		}
		looked++
		if frames, _, err := l.framesOf(old, 0, math.MaxUint64, 1<<30, nil); !errors.Is(err, errGone) {
			t.Errorf("%d frames in what was replaced, and %v", len(frames), err)
		}
		if frames, _, err := l.framesOf(old[:1], 0, old[0].last, 1<<30, nil); !errors.Is(err, errGone) {
			t.Errorf("%d frames in one group that was replaced, and %v", len(frames), err)
		}
		return nil
	}}
	var all map[uint32][]tailBatch
	l, _, all = rewriteLog(t, o)
	old = l.groupsBehind(0)
	if err := l.rewrite(full(l)[:2], rewriting{}); err != nil {
		t.Fatal(err)
	}
	if looked != 2 {
		t.Fatalf("looked %d times", looked)
	}
	checkLog(t, l, all)
}
