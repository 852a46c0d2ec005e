package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verifiable makes a closed store with two log files' worth of two topics, one of them deleted, and frames in the journal.
func verifiable(t *testing.T) (dir string) {
	t.Helper()
	o := Options{Dir: t.TempDir(), JournalBytes: 64 << 10, TailBytes: 32 << 10, LogFileBytes: 64 << 10}
	s := openTest(t, o)
	a := createTest(t, s, "a", 2)
	b := createTest(t, s, "b", 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		noise := make([]byte, 6000)
		for k := range noise {
			noise[k] = byte(rng.Uint32())
		}
		put(t, s, a.Partitions[i%2], string(noise), "and another")
		put(t, s, b.Partitions[0], "gone soon")
		doTest(t, s, &Commit{Puts: []Put{{"space", fmt.Sprint("key", i%7), bytes.Repeat([]byte{byte(i)}, 100*i)}}})
	}
	if err := s.DeleteTopic(context.Background(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), o.Dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("an open store is verified: %v", err)
	}
	closeTest(t, s)
	return o.Dir
}

func verified(t *testing.T, dir string) []Problem {
	t.Helper()
	before := tree(t, dir)
	problems, err := Verify(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := tree(t, dir); after != before {
		t.Fatalf("Verify changed the store from\n%s\nto\n%s", before, after)
	}
	return problems
}

// tree lists a store's files with their sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "LOCK" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestVerifyFindsNothingInAWholeStore(t *testing.T) {
	if problems := verified(t, verifiable(t)); len(problems) > 0 {
		t.Fatal(problems)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	logs := func(dir string) []string {
		names, err := filepath.Glob(filepath.Join(dir, "log", defaultClass, "*"+logSuffix))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		return names
	}
	for name, hurt := range map[string]func(t *testing.T, dir string) (file string){
		"a bit of a batch": func(t *testing.T, dir string) string {
			l, _, err := openSealed(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			var path string
			var data []byte
			id := l.ids()[0]
			got, err := l.read(id, 0, 1<<40, 1)
			if err != nil {
				t.Fatal(err)
			}
			path, data = l.index(id)[0].group.file.path, got[0]
			l.close()
			spoil(t, path, func(b []byte) []byte {
				for at := 0; ; at++ { // pages that bbolt gave up may hold it, too
					i := bytes.Index(b[at:], data[:60])
					if i < 0 {
						return b
					}
					at += i
					b[at+59] ^= 1
				}
			})
			return path
		},
		"a log file that is missing": func(t *testing.T, dir string) string {
			files := logs(dir)
			if err := os.Remove(files[1]); err != nil {
				t.Fatal(err)
			}
			return files[2]
		},
		"a log file cut off": func(t *testing.T, dir string) string {
			if err := os.Truncate(logs(dir)[0], 5*pageSize); err != nil {
				t.Fatal(err)
			}
			return logs(dir)[0]
		},
		"a value": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "meta.db")
			spoil(t, path, func(b []byte) []byte {
				return bytes.ReplaceAll(b, bytes.Repeat([]byte{59}, 1000), bytes.Repeat([]byte{58}, 1000))
			})
			return path
		},
		"no meta.db": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "meta.db")
			spoil(t, path, func([]byte) []byte { return make([]byte, 64<<10) })
			return path
		},
		"frames": func(t *testing.T, dir string) string {
			s := openTest(t, Options{Dir: dir, JournalBytes: 64 << 10})
			for range 5 {
				doTest(t, s, &Commit{Puts: []Put{{"space", "key", []byte("v")}}})
			}
			s.meta.faults = func(string) error { return errors.New("not today") }
			if s.Close() == nil {
				t.Fatal("the checkpoint was to fail")
			}
			if problems := verified(t, dir); len(problems) > 0 {
				t.Fatal(problems)
			}
			names, err := filepath.Glob(filepath.Join(dir, "journal", "*"+walSuffix))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				spoil(t, n, func(b []byte) []byte {
					for at := 0; at < len(b); at += frameAlign {
						if h, ok := parseFrameHeader(b[at:]); ok && h.seq == s.LastSeq()-2 {
							b[at+frameHead] ^= 1
						}
					}
					return b
				})
			}
			return "journal"
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := verifiable(t)
			file := hurt(t, dir)
			problems := verified(t, dir)
			for _, p := range problems {
				if strings.Contains(p.File, file) {
					return
				}
			}
			t.Fatalf("nothing found in %s: %v", file, problems)
		})
	}
}

// A file of several partitions stays as long as one of them needs it, so that of what lies before a log start the newer part may go
// before the older one. That is no loss, whether the start is checkpointed or in the journal alone; what is missing behind a start is.
func TestVerifyKnowsLogStarts(t *testing.T) {
	for _, killed := range []bool{false, true} {
		o := Options{Dir: t.TempDir(), ScrubRate: -1}
		s := openTest(t, o)
		parts := createTest(t, s, "a", 2).Partitions
		endFile := func() {
			sealNow(t, s)
			if !s.onSealer(func() {
				if err := s.sealed.retire(defaultClass); err != nil {
					t.Error(err)
				}
			}) {
				t.Fatal("the store is closed")
			}
		}
		put(t, s, parts[0], "0", "1")
		put(t, s, parts[1], "keeps the file")
		endFile()
		put(t, s, parts[0], "2", "3")
		endFile()
		put(t, s, parts[0], "4", "5", "6")
		endFile()
		put(t, s, parts[0], "7", "8")
		if err := s.Trim(context.Background(), []Start{{Partition: parts[0], Offset: 5}}); err != nil {
			t.Fatal(err)
		}
		if !s.onSealer(s.letGo) {
			t.Fatal("the store is closed")
		}
		if files := logNames(t, o.Dir); len(files) != 2 {
			t.Fatalf("files %v, want those of the first and the third seal", files)
		}
		if killed {
			if err := kill(s); err != nil {
				t.Fatal(err)
			}
		} else {
			closeTest(t, s)
		}
		if problems := verified(t, o.Dir); len(problems) > 0 {
			t.Errorf("killed %v: %+v", killed, problems)
		}
		if err := os.Remove(logNames(t, o.Dir)[1]); err != nil {
			t.Fatal(err)
		}
		if killed {
			continue // the journal still has what was in it
		}
		if problems := verified(t, o.Dir); len(problems) != 1 || !strings.Contains(problems[0].Detail, "offsets 2 to 6 are missing") {
			t.Errorf("a file is gone: %+v", problems)
		}
	}
}

func logNames(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "log", defaultClass, "*"+logSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
